"""``llmrec hybrid``: a language model and an item graph, weighed against each other on validation.

The result folder holds the graph of the training events, the content neighbours, the weight and
what was learned (:mod:`llmrec.ranking.hybrid.prior`). ``llmrec bundle --hybrid`` puts it beside the
model, and then ``recommend``, the service and ``evaluate`` rank by both.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmrec.config import as_dict
from llmrec.content.features.blocks import content_vectors
from llmrec.data.dataset import Dataset
from llmrec.data.domains import Domains
from llmrec.data.item_graph import ItemGraph
from llmrec.errors import ConfigError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.generation.llm import Llm
from llmrec.generation.load import load_llm
from llmrec.loop.bars import ProgressBar
from llmrec.ranking.hybrid.fit import fit_correction, ndcg_at_10
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.hybrid.recommender import Proposed, propose
from llmrec.ranking.hybrid.settings import HybridConfig
from llmrec.ranking.retrieval.graph_scorer import GraphScorer, content_neighbours
from llmrec.stage import Manifest, StageRun, input_hashes, read_manifest, run_stage
from llmrec.training.next_item.validation import validation_cases
from llmrec.types import Cases

if TYPE_CHECKING:
    from llmrec.training.next_item.emf_run import EmfRecommender

STAGE = "hybrid"
_BATCH = 512  # users


def run(
    config: HybridConfig,
    dataset: Path,
    model: Path,
    out: Path,
    features: Path | None = None,
    seed: int = 0,
) -> Path:
    """Fit the item graph and choose its weight beside the language model.

    Args:
        config: settings.
        dataset: folder of llmrec ingest.
        model: folder of a language model, of llmrec train, model expand or model merge; or of an
            EMF model.
        out: folder to write.
        features: folder of llmrec embed or train fusion; without it the graph stands alone.
        seed: of the validation users.

    Raises:
        ArtifactError: if a folder is not what it must be.
        DataError: if there are no validation events.
    """
    inputs = input_hashes(dataset=dataset, model=model, features=features)

    def work(stage: StageRun) -> None:
        data = Dataset(dataset)
        content = None
        if features is not None:
            settings = config.scorer
            content = content_neighbours(
                content_vectors(features), settings.neighbours, settings.content_power
            )
        graph = ItemGraph.fit(data.train_histories(), data.n_items, config.graph)
        scorer = GraphScorer(graph, content, config.scorer)
        cases = validation_cases(data, config.validation_users, seed)
        domains = Domains.of(data) if config.by_domain else None
        found = candidates(_open(model, config), scorer, cases, config, domains)
        tried = try_priors(found, scorer, cases.targets, config)
        pair, best = max(tried.items(), key=lambda pair: pair[1])
        prior = GraphPrior(scorer, *pair)
        alone = max(value for (weight, _), value in tried.items() if weight == 0)
        stage.counts |= {
            "weight": prior.weight,
            "scale": prior.scale,
            "validation_ndcg": best,
            "validation_ndcg_without_graph": alone,
            "edges": int(graph.matrix().nnz),
        }
        print(
            f"hybrid: NDCG@10 {best:.4f} on validation, {alone:.4f} without the graph; "
            f"weight {prior.weight:g}, scale {prior.scale:g}",
            flush=True,
        )
        if config.learn:
            stage.counts |= _learn(prior, found, cases, seed)
        prior.save(stage.folder)

    return run_stage(out, Manifest(STAGE, as_dict(config), inputs, seed=seed), work)


def _open(model: Path, config: HybridConfig) -> Llm | EmfRecommender:
    """The model that the graph stands beside.

    Raises:
        ConfigError: for an EMF model that is asked for all domains at once.
    """
    if read_manifest(model).config.get("kind") != "emf":
        return load_llm(model, beams=config.beams)
    if not config.by_domain:
        raise ConfigError("hybrid.by_domain: an emf model ranks one domain; say by_domain: true")
    from llmrec.training.next_item.emf_run import load_emf

    return load_emf(model)


def candidates(
    llm: Llm | EmfRecommender,
    scorer: GraphScorer,
    cases: Cases,
    config: HybridConfig,
    domains: Domains | None = None,
) -> Proposed:
    """What both parts propose to validation users, without what they know already.

    Args:
        domains: propose items of the target's domain alone; None: of any.
    """
    found = []
    filters: list[ItemFilter | None] = [None]
    of_case = np.zeros(len(cases), dtype=np.int64)
    if domains is not None:
        of_case = domains.of_item[cases.targets]
        filters = [ItemFilter(domains.of_item == number) for number in range(len(domains.names))]
    starts = range(0, len(cases), _BATCH)
    for start in ProgressBar(starts, "hybrid", unit="batch"):
        batch = cases.select(np.arange(start, min(start + _BATCH, len(cases))))
        allowed = [
            Constraints(exclude=history, allow=filters[domain])
            for history, domain in zip(batch.histories, of_case[start:], strict=False)
        ]
        found.append(propose(llm, scorer, batch.histories, config.candidates, allowed))
    return Proposed.joined(found)


def try_priors(
    found: Proposed, scorer: GraphScorer, targets: np.ndarray, config: HybridConfig
) -> dict[tuple[float, float], float]:
    """NDCG@10 of the hybrid with every weight and scale, and of the language model alone.

    Args:
        found: candidates of the users.
        targets: int ``[users]``.

    Returns:
        by (weight, scale); a weight of 0 is among them.
    """
    tried = {}
    for pair in itertools.product(sorted({0.0, *config.weights}), config.scales):
        scores = found.log_likelihood + GraphPrior(scorer, *pair).bonus(found.evidence)
        tried[pair] = float(ndcg_at_10(found.items, scores, targets).mean())
    return tried


def _learn(prior: GraphPrior, found: Proposed, cases: Cases, seed: int) -> dict[str, float | bool]:
    """Give a prior its correction if that is better beyond chance; what to say of it."""
    scores = found.log_likelihood + prior.bonus(found.evidence)
    fitted = fit_correction(found, scores, cases, seed)
    if fitted is None:
        print("hybrid: too few validation users to learn a correction from", flush=True)
        return {"learned": False}
    gain = fitted.ndcg - ndcg_at_10(found.items, scores, cases.targets)
    # the cases of a user are not independent: the spread is that of whole users
    _, user = np.unique(cases.users, return_inverse=True)
    error = float(np.sqrt((np.bincount(user, gain - gain.mean()) ** 2).sum()) / len(gain))
    learned = bool(gain.mean() > error)
    if learned:
        prior.correction = fitted.correction
    print(
        f"hybrid: the correction brings {gain.mean():+.4f} (standard error {error:.4f}) to users "
        f"that it was not learned from: {'kept' if learned else 'left out'}",
        flush=True,
    )
    return {
        "learned": learned,
        "validation_ndcg_learned": float(fitted.ndcg.mean()),
        "learned_gain": float(gain.mean()),
        "learned_gain_error": error,
    }
