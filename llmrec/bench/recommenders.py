"""Opens anything that ranks: a trained model or a bundle."""

from __future__ import annotations

from pathlib import Path

from llmrec.errors import ArtifactError
from llmrec.generation.frontier import Normalise
from llmrec.generation.load import load_llm
from llmrec.recommender import ListRecommender
from llmrec.stage import MODEL_STAGES, read_manifest


def load_recommender(
    folder: str | Path,
    *,
    beams: int = 50,
    cache_bytes: int = 0,
    normalise: Normalise = "children",
) -> ListRecommender:
    """The recommender in a model folder or a bundle.

    Args:
        beams: beam width of a language model with semantic IDs.
        normalise: see :class:`~llmrec.generation.frontier.Scoring`.
        cache_bytes: size of a language model's history cache; 0 for none.

    Raises:
        ArtifactError: if the folder is neither, or damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest.stage == "bundle":
        folder = folder / "model"
        manifest = read_manifest(folder)
    if manifest.stage not in MODEL_STAGES:
        raise ArtifactError(
            f"{folder}: holds the {manifest.stage!r} stage; give the folder of a model or a bundle"
        )
    if manifest.config.get("kind") == "sasrec":
        from llmrec.training.next_item.sasrec import load_sasrec

        return load_sasrec(folder)
    return load_llm(folder, beams=beams, cache_bytes=cache_bytes, normalise=normalise)
