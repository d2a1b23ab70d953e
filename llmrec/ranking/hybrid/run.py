"""``llmrec hybrid``: a language model and an item graph, weighed against each other on validation.

The result folder holds the graph of the training events, the content neighbours and the weight
(:mod:`llmrec.ranking.hybrid.prior`). ``llmrec bundle --hybrid`` puts it beside the model, and then
``recommend``, the service and ``evaluate`` rank by both.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from tqdm import tqdm

from llmrec.config import as_dict
from llmrec.content.features.blocks import content_vectors
from llmrec.data.dataset import Dataset
from llmrec.data.item_graph import ItemGraph
from llmrec.generation.constraints import Constraints
from llmrec.generation.llm import Llm
from llmrec.generation.load import load_llm
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.hybrid.recommender import Proposed, best_of, propose
from llmrec.ranking.hybrid.settings import HybridConfig
from llmrec.ranking.retrieval.graph_scorer import GraphScorer, content_neighbours
from llmrec.stage import Manifest, StageRun, input_hashes, run_stage
from llmrec.training.next_item.validation import validation_cases
from llmrec.types import Cases

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
        model: folder of a language model, of llmrec train, model expand or model merge.
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
        tried = try_priors(load_llm(model, beams=config.beams), scorer, cases, config)
        (weight, scale), best = max(tried.items(), key=lambda pair: pair[1])
        GraphPrior(scorer, weight, scale).save(stage.folder)
        alone = max(value for (weight, _), value in tried.items() if weight == 0)
        stage.counts |= {
            "weight": weight,
            "scale": scale,
            "validation_ndcg": best,
            "validation_ndcg_without_graph": alone,
            "edges": int(graph.matrix().nnz),
        }
        print(
            f"hybrid: NDCG@10 {best:.4f} on validation, {alone:.4f} without the graph; "
            f"weight {weight:g}, scale {scale:g}",
            flush=True,
        )

    return run_stage(out, Manifest(STAGE, as_dict(config), inputs, seed=seed), work)


def try_priors(
    llm: Llm, scorer: GraphScorer, cases: Cases, config: HybridConfig
) -> dict[tuple[float, float], float]:
    """NDCG@10 of the hybrid with every weight and scale, and of the language model alone.

    Args:
        cases: of the validation part; the history is removed from the ranking.

    Returns:
        by (weight, scale); a weight of 0 is among them.
    """
    pairs = list(itertools.product(sorted({0.0, *config.weights}), config.scales))
    total = dict.fromkeys(pairs, 0.0)
    starts = range(0, len(cases), _BATCH)
    for start in tqdm(starts, "hybrid", unit="batch"):
        batch = cases.select(np.arange(start, min(start + _BATCH, len(cases))))
        allowed = [Constraints(exclude=history) for history in batch.histories]
        found = propose(llm, scorer, batch.histories, config.candidates, allowed)
        for pair in pairs:
            total[pair] += float(_ndcg(found, GraphPrior(scorer, *pair), batch.targets).sum())
    return {pair: value / len(cases) for pair, value in total.items()}


def _ndcg(found: Proposed, prior: GraphPrior, targets: np.ndarray) -> np.ndarray:
    scores = found.log_likelihood + prior.of(found.graph).astype(np.float32)
    hits = best_of(found.items, scores, 10).items == targets[:, None]
    return (hits / np.log2(np.arange(10) + 2)).sum(axis=1)
