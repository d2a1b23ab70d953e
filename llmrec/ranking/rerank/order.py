"""Re-ranking of scored candidates: diversity, caps of categories, freshness.

1. freshness: ``freshness * 2 ** (-age / half life)`` is added to an item's logit;
2. diversity: items are chosen one by one, for what they add to those before them;
3. the cap of a category holds in every choice: once a category is full, its items wait until
   nothing else is left. They are moved to the end, never dropped.
"""

from __future__ import annotations

import numpy as np

from llmrec.errors import ConfigError, LlmrecError
from llmrec.ranking.rerank.diversity import Dpp, Gains, Mmr, choose, relevance_of, unit_rows
from llmrec.ranking.rerank.settings import RerankConfig


def rerank(
    config: RerankConfig,
    logits: np.ndarray,
    n: int,
    vectors: np.ndarray | None = None,
    category: np.ndarray | None = None,
    age_days: np.ndarray | None = None,
    available: np.ndarray | None = None,
) -> np.ndarray:
    """The first n candidates, in order.

    Args:
        logits: ``[c]``, the click model's; -inf excludes one.
        n: how many; fewer come back where fewer are left.
        vectors: ``[c, d]``, what diversity compares; zeros where an item has none.
        category: int ``[c]``, negative where unknown: such an item counts for no cap.
        age_days: ``[c]``, NaN where unknown: no bonus; below 0 is 0.
        available: bool ``[c]``, the others are excluded.

    Returns:
        int64 ``[n']``, indices of candidates. With all options off, the order of the logits;
        equal ones stay in the order of the candidates.

    Raises:
        ConfigError: if an option is on and what it needs was not given, lengths differ, or ``n`` is
            negative.
        LlmrecError: if a logit, or a vector's number that is needed, is not a number.

    >>> config = RerankConfig(per_category=1)
    >>> rerank(config, np.array([3.0, 2.0, 1.0]), 3, category=np.array([7, 7, 4])).tolist()
    [0, 2, 1]
    """
    _check(config, logits, n, vectors, category, age_days, available)
    scores = np.asarray(logits, dtype=np.float64)
    allowed = ~np.isneginf(scores)
    if available is not None:
        allowed &= available
    if config.freshness > 0 and age_days is not None:
        scores = scores + bonus(config, age_days)
    order = np.argsort(-scores, kind="stable")
    order = order[allowed[order]]
    n = min(n, len(order))
    classes = None if category is None else np.asarray(category)[order]
    if config.diversity is not None and vectors is not None:
        gains = _gains(config, scores[order], np.asarray(vectors)[order], n)
        places = choose(gains, n, classes, config.per_category)
    elif config.per_category is not None and classes is not None:
        over = occurrence(classes) >= config.per_category
        places = np.argsort(over, kind="stable")[:n]
    else:
        places = np.arange(n)
    return order[places]


def bonus(config: RerankConfig, age_days: np.ndarray) -> np.ndarray:
    """What is added to the logits, float64 ``[c]``: halved with every half life; 0 for NaN.

    >>> bonus(RerankConfig(freshness=1.0, half_life_days=7), np.array([0, 7, np.nan])).tolist()
    [1.0, 0.5, 0.0]
    """
    ages = np.maximum(np.asarray(age_days, dtype=np.float64), 0.0)
    with np.errstate(over="ignore"):  # an age beyond all half lives: nothing
        added = config.freshness * np.exp2(-ages / config.half_life_days)
    return np.where(np.isnan(ages), 0.0, added)


def occurrence(category: np.ndarray) -> np.ndarray:
    """How many of the same category come before; 0 for unknown ones.

    Args:
        category: int ``[c]``, negative where unknown.

    Returns:
        int64 ``[c]``.

    >>> occurrence(np.array([5, -1, 5, 2, -1, 5])).tolist()
    [0, 0, 1, 0, 0, 2]
    """
    order = np.argsort(category, kind="stable")
    grouped = category[order]
    begins = np.flatnonzero(np.diff(grouped, prepend=grouped[:1] - 1))
    lengths = np.diff(begins, append=len(grouped))
    counts = np.empty(len(category), dtype=np.int64)
    counts[order] = np.arange(len(category)) - np.repeat(begins, lengths)
    return np.where(category < 0, 0, counts)


def _gains(config: RerankConfig, scores: np.ndarray, vectors: np.ndarray, n: int) -> Gains:
    rows, relevance = unit_rows(vectors), relevance_of(scores)
    if config.diversity == "mmr":
        return Mmr(rows, relevance, config.mmr_lambda)
    return Dpp(rows, relevance, config.dpp_alpha, n)


def _check(
    config: RerankConfig,
    logits: np.ndarray,
    n: int,
    vectors: np.ndarray | None,
    category: np.ndarray | None,
    age_days: np.ndarray | None,
    available: np.ndarray | None,
) -> None:
    if n < 0:
        raise ConfigError(f"n: must be 0 or more, got {n}")
    if np.ndim(logits) != 1:
        raise ConfigError(f"logits: expected one dimension, got {np.shape(logits)}")
    wrong = np.isnan(logits) | np.isposinf(logits)
    if available is not None and len(available) == len(wrong):
        wrong &= available  # what the others are scored does not matter
    if wrong.any():
        first = int(np.argmax(wrong))
        raise LlmrecError(
            f"candidate {first} has the score {logits[first]}; the click model is damaged"
        )
    for name, values, option in (
        ("vectors", vectors, "diversity"),
        ("category", category, "per_category"),
        ("age_days", age_days, "freshness"),
        ("available", available, None),
    ):
        if values is not None and len(values) != len(logits):
            raise ConfigError(f"{name}: {len(values)} for {len(logits)} candidates")
        if values is None and option in config.options:
            raise ConfigError(
                f"{option}: needs {name} of the items, and there are none here; turn it off"
            )
    if config.diversity is not None and vectors is not None and not np.isfinite(vectors).all():
        raise LlmrecError("vectors: a number of an item's vector is not finite; embed it again")
