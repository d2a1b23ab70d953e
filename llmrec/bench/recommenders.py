"""Opens anything that ranks: a trained model, a bundle, a base with an adapter."""

from __future__ import annotations

from pathlib import Path

from llmrec.errors import ArtifactError
from llmrec.generation.frontier import Normalise
from llmrec.generation.load import load_llm
from llmrec.generation.multi_lora import load_llm_with_adapters
from llmrec.llm.adapters import read_adapter
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.hybrid.recommender import with_prior
from llmrec.recommender import ListRecommender
from llmrec.serving.build import HYBRID
from llmrec.stage import MODEL_STAGES, read_manifest


def load_recommender(
    folder: str | Path, *, beams: int = 50, normalise: Normalise = "children"
) -> ListRecommender:
    """The recommender in a model folder or a bundle.

    Args:
        beams: beam width of a language model with semantic IDs.
        normalise: see :class:`~llmrec.generation.frontier.Scoring`.

    Raises:
        ArtifactError: if the folder is neither, or damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest.stage == "bundle":
        read_manifest(folder, hashes=True)
        llm = load_llm(folder / "model", beams=beams, normalise=normalise)
        if not (folder / HYBRID).is_dir():
            return llm
        return with_prior(llm, GraphPrior.load(folder / HYBRID, llm.n_items))
    if manifest.stage not in MODEL_STAGES:
        raise ArtifactError(
            f"{folder}: holds the {manifest.stage!r} stage; give the folder of a model or a bundle"
        )
    if manifest.config.get("kind") == "sasrec":
        from llmrec.training.next_item.sasrec import load_sasrec

        return load_sasrec(folder)
    if manifest.config.get("kind") == "emf":
        from llmrec.training.next_item.emf_run import load_emf

        return load_emf(folder)
    return load_llm(folder, beams=beams, normalise=normalise)


def load_adapted(base: Path, adapter: Path) -> ListRecommender:
    """A base with an adapter, as it is served.

    Raises:
        ArtifactError: for a folder that cannot be used, or an adapter made for another base.
    """
    return load_llm_with_adapters(base, [adapter]).with_adapter(read_adapter(adapter).name)


def load_tuned(folder: Path) -> ListRecommender:
    """The result of ``llmrec tune`` as it is served.

    Raises:
        ArtifactError: if it cannot be opened.
    """
    if (folder / "model").is_dir():
        return load_recommender(folder / "model")
    return load_adapted(folder / "base", folder / "adapter")
