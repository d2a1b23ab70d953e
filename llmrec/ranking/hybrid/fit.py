"""Learns the correction of a hybrid from validation users, and says what it is worth to others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from llmrec.errors import require
from llmrec.ranking.hybrid.correction import Correction
from llmrec.ranking.hybrid.evidence import features_of
from llmrec.ranking.hybrid.recommender import Proposed, best_of
from llmrec.types import Cases

_WIDTH, _DROPOUT = 32, 0.1
_EPOCHS, _BATCH, _RATE, _DECAY = 30, 256, 3e-3, 1e-3
_FOLDS = 2
_PADDING = -1e9  # a logit that is never taken


@dataclass(frozen=True)
class Fitted:
    """What was learned.

    Attributes:
        correction: from all users.
        ndcg: float64 ``[cases]``, NDCG@10 of each with a correction learned from other users.
    """

    correction: Correction
    ndcg: np.ndarray


def fit_correction(
    found: Proposed, scores: np.ndarray, cases: Cases, seed: int = 0
) -> Fitted | None:
    """Learn to rank the target first among its user's candidates.

    Args:
        found: candidates and what is known of them.
        scores: float32 ``[cases, candidates]``, what is corrected.
        cases: whose the candidates are; all of a user are in one fold.

    Returns:
        None where there are too few users whose target is among the candidates.
    """
    features = features_of(found.evidence)
    targets = cases.targets
    hit = found.items == targets[:, None]
    users, user = np.unique(cases.users, return_inverse=True)
    fold = np.random.default_rng(seed).integers(0, _FOLDS, len(users))[user]
    ndcg = np.zeros(len(targets))
    for part in range(_FOLDS):
        own = fold == part
        if not hit[~own].any():
            return None
        learned = _learn(features[~own], scores[~own], hit[~own], seed)
        corrected = scores[own] + learned(features[own])
        ndcg[own] = ndcg_at_10(found.items[own], corrected, targets[own])
    return Fitted(_learn(features, scores, hit, seed), ndcg)


def ndcg_at_10(items: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """NDCG@10 of each user, float64 ``[users]``; arguments as of the functions around."""
    hits = best_of(items, scores.astype(np.float32), 10).items == targets[:, None]
    gains: np.ndarray = (hits / np.log2(np.arange(10) + 2)).sum(axis=1)
    return gains


def _learn(features: np.ndarray, scores: np.ndarray, hit: np.ndarray, seed: int) -> Correction:
    """Cross-entropy over each user's candidates.

    Args:
        features: float32 ``[users, candidates, features]``.
        scores: float32 ``[users, candidates]``.
        hit: bool ``[users, candidates]``, where the target is; users without one are left out.
    """
    torch = require("torch", "train")
    functional = torch.nn.functional
    start = _standardiser(features[np.isfinite(scores)])
    users = np.flatnonzero(hit.any(axis=1))
    inputs = torch.from_numpy(start.standardised(features[users]))
    offsets = torch.from_numpy(np.maximum(scores[users], _PADDING))
    targets = torch.from_numpy(hit[users].argmax(axis=1))
    sizes = [features.shape[-1], _WIDTH, _WIDTH, 1]
    draws = torch.Generator().manual_seed(seed)
    shapes = itertools.pairwise(sizes)
    weights = [torch.randn(a, b, generator=draws) / a**0.5 for a, b in shapes]
    weights[-1].zero_()  # starts from the scores as they are
    biases = [torch.zeros(size) for size in sizes[1:]]
    values = [value.requires_grad_() for value in (*weights, *biases)]
    optimizer = torch.optim.AdamW(values, lr=_RATE, weight_decay=_DECAY)
    steps = _EPOCHS * -(-len(users) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, max(steps, 2))
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(users), generator=draws).split(_BATCH):
            states = inputs[rows]
            for layer in range(2):
                states = functional.relu(states @ weights[layer] + biases[layer])
                kept = torch.rand(states.shape, generator=draws) >= _DROPOUT
                states = states * kept / (1 - _DROPOUT)
            logits = offsets[rows] + (states @ weights[2] + biases[2])[..., 0]
            loss = functional.cross_entropy(logits, targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    learned = [value.detach().numpy() for value in values]
    bounds = (start.mean, start.scale, start.low, start.high)
    return Correction(*bounds, tuple(learned[:3]), tuple(learned[3:]))


def _standardiser(features: np.ndarray) -> Correction:
    """Means, deviations and bounds of features ``[candidates, features]``, and no network."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    standard = (features - mean) / scale
    return Correction(mean, scale, standard.min(axis=0), standard.max(axis=0), (), ())
