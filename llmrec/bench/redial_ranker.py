"""How much each kind of evidence counts, learned from turns that the evidence has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.bench.redial_evidence import KINDS, Evidence
from llmrec.data.formats.redial import Turn
from llmrec.errors import require
from llmrec.types import Histories

BATCH = 128  # turns at once
_NEGATIVES, _STEPS, _CASES = 400, 500, 256
_RATE, _PENALTY = 0.03, 1e-3


class EvidenceRanker:
    """A conditional logit over all films.

    Args:
        evidence: of the dialogues that are known.
        mean, scale: float32 ``[kinds]``, which standardise it.
        weights: float32 ``[kinds]``.
    """

    def __init__(
        self, evidence: Evidence, mean: np.ndarray, scale: np.ndarray, weights: np.ndarray
    ) -> None:
        self.evidence, self.mean, self.scale, self.weights = evidence, mean, scale, weights

    def score(self, turns: Sequence[Turn], histories: Histories) -> np.ndarray:
        """float32 ``[turns, films]``."""
        found = np.empty((len(turns), self.evidence.films.n_items), np.float32)
        factors = self.weights / self.scale
        for start in range(0, len(turns), BATCH):
            rows = np.arange(start, min(start + BATCH, len(turns)))
            some = self.evidence.of(turns[start : start + BATCH], histories.select(rows))
            found[rows] = some @ factors
        return found


def draw_choices(
    evidence: Evidence,
    turns: Sequence[Turn],
    histories: Histories,
    rng: np.random.Generator,
) -> np.ndarray:
    """Evidence of each film that was recommended and, after it, of others drawn evenly.

    Returns:
        float32 ``[cases, 1 + negatives, kinds]``, a case for each film of a turn.
    """
    cases = []
    n_items, index = evidence.films.n_items, evidence.index
    for start in range(0, len(turns), BATCH):
        some, theirs = turns[start : start + BATCH], np.arange(start, len(turns))[:BATCH]
        found = evidence.of(some, histories.select(theirs))
        for values, turn in zip(found, some, strict=True):
            own = [index[film] for film in turn.films]
            others = np.setdiff1d(np.arange(n_items), [*own, *(index[film] for film in turn.named)])
            for film in own:
                drawn = rng.choice(others, _NEGATIVES, replace=len(others) < _NEGATIVES)
                cases.append(values[[film, *drawn]])
    return np.stack(cases)


def learn_weights(
    choices: np.ndarray, n_items: int, without: Sequence[str] = (), seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cross-entropy of the film that was recommended against those drawn.

    Args:
        choices: of :func:`draw_choices`.
        n_items: films; what was drawn stands for all of them.
        without: kinds of evidence that are left out.

    Returns:
        mean, scale and weights, float32 ``[kinds]`` each.
    """
    torch = require("torch", "train")
    flat = choices.reshape(-1, choices.shape[-1])
    mean, scale = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    kept = np.array([kind not in without for kind in KINDS], dtype=np.float32)
    inputs = torch.from_numpy((choices - mean) / scale * kept)
    stands_for = torch.full((choices.shape[1],), float(np.log(n_items / (choices.shape[1] - 1))))
    stands_for[0] = 0
    weights = torch.zeros(len(KINDS), requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=_RATE)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(_STEPS):
        rows = torch.randint(0, len(inputs), (_CASES,), generator=draws)
        logits = inputs[rows] @ weights + stands_for
        loss = -torch.log_softmax(logits, 1)[:, 0].mean() + _PENALTY * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return mean, scale, weights.detach().numpy() * kept
