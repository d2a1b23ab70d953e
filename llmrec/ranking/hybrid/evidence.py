"""What language model, item graph and content say about the candidates of a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.data.item_graph import UNIT
from llmrec.ranking.retrieval.graph_scorer import PARTS, GraphScorer
from llmrec.types import Histories

SCALES = (0.003, 0.03, 0.3)  # of graph and content, from a trace to plenty
_LAST_SCALE = 0.1  # of the edges of the last item
N_FEATURES = len(PARTS) * len(SCALES) + 4


@dataclass(frozen=True)
class Evidence:
    """Of candidates, users in rows.

    Attributes:
        log_likelihood: float32 ``[users, candidates]``; -inf where padded.
        parts: float64 ``[parts, users, candidates]``, in the order of
            :data:`~llmrec.ranking.retrieval.graph_scorer.PARTS`; 0 where padded.
        weight: float64 ``[users, candidates]``, of each candidate's edges in transitions.
        last_weight: float64 ``[users]``, of the last item's edges; 0 without a history.
        length: int64 ``[users]``, events of the history.
    """

    log_likelihood: np.ndarray
    parts: np.ndarray
    weight: np.ndarray
    last_weight: np.ndarray
    length: np.ndarray

    @classmethod
    def joined(cls, some: Sequence[Evidence]) -> Evidence:
        """That of several batches of users, one after the other."""
        return cls(
            np.concatenate([one.log_likelihood for one in some]),
            np.concatenate([one.parts for one in some], axis=1),
            np.concatenate([one.weight for one in some]),
            np.concatenate([one.last_weight for one in some]),
            np.concatenate([one.length for one in some]),
        )


def evidence_of(
    scorer: GraphScorer,
    parts: Sequence[np.ndarray],
    histories: Histories,
    items: np.ndarray,
    log_likelihood: np.ndarray,
) -> Evidence:
    """Look up what graph and content say.

    Args:
        parts: the scorer's, after these histories, float64 ``[users, n_items]`` each.
        items: int ``[users, candidates]``; -1 pads.
        log_likelihood: float32 ``[users, candidates]``.
    """
    place, there = np.maximum(items, 0), items >= 0
    found = [np.take_along_axis(part, place, axis=1) * there for part in parts]
    weights = scorer.graph.out_weight
    lengths = histories.lengths()
    last = histories.items[np.maximum(histories.offsets[1:] - 1, 0)] if len(histories.items) else 0
    return Evidence(
        log_likelihood,
        np.stack(found),
        weights[place] * there / UNIT,
        np.where(lengths > 0, weights[last], 0) / UNIT,
        lengths,
    )


def features_of(evidence: Evidence) -> np.ndarray:
    """Float32 ``[users, candidates, N_FEATURES]``, all of them finite or -inf."""
    shape = evidence.log_likelihood.shape
    columns = [evidence.log_likelihood, np.log1p(evidence.weight)]
    columns += [np.log1p(part / scale) for part in evidence.parts for scale in SCALES]
    of_user = (
        np.log(np.maximum(evidence.length, 1)),
        np.log1p(evidence.last_weight / _LAST_SCALE),
    )
    columns += [np.broadcast_to(column[:, None], shape) for column in of_user]
    return np.stack(columns, axis=-1).astype(np.float32)
