"""Two greedy ways to choose items that are relevant and diverse.

Both look at candidates that are in the order of their scores, best first. What an item gains a list
depends on its relevance, in [0, 1], and on the cosines between its vector and those of the items
chosen before. An item without a vector (a row of zeros) is similar to no other.

* :class:`Mmr`: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). An item gains
  ``lambda * relevance - (1 - lambda) * greatest cosine to a chosen item``.
* :class:`Dpp`: the greedy likeliest set of a determinantal point process (Chen et al., NeurIPS
  2018) with the kernel ``quality_i * cosine_ij * quality_j``, ``quality = exp(alpha * relevance)``.
  The determinant of that kernel is the product of the squared qualities and the determinant of the
  cosines, so the Cholesky factor is kept of the cosines alone and an item gains ``2 * alpha *
  relevance + log(residual)``: no exponential can overflow. Once what is left lies in the span of
  what was chosen, every set has determinant 0, and the rest follows in its order.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

_SPENT = 1e-4  # a squared residual below this is rounding of float32 cosines, not diversity
_LAST = -1e3  # below every gain of an item that is not spent


class Gains(Protocol):
    """What every candidate would add to the list so far."""

    def values(self) -> np.ndarray:
        """float64 ``[c]``, finite; written over by the next call."""
        ...

    def take(self, place: int) -> None:
        """Candidate ``place`` is chosen."""
        ...


class Mmr:
    """Gains of maximal marginal relevance.

    Args:
        vectors: float32 ``[c, d]`` of length 1 or 0; see :func:`unit_rows`.
        relevance: float64 ``[c]`` in [0, 1].
        weight: lambda.
    """

    def __init__(self, vectors: np.ndarray, relevance: np.ndarray, weight: float) -> None:
        self._vectors, self._weight = vectors, weight
        self._relevance = weight * relevance
        self._closest: np.ndarray | None = None

    def values(self) -> np.ndarray:
        if self._closest is None:
            return self._relevance
        return self._relevance - (1 - self._weight) * self._closest

    def take(self, place: int) -> None:
        cosines = self._vectors @ self._vectors[place]
        if self._closest is None:
            self._closest = cosines.astype(np.float64)
        else:
            np.maximum(self._closest, cosines, out=self._closest)


class Dpp:
    """Gains of a determinantal point process, by an incremental Cholesky factor.

    Args:
        vectors: float32 ``[c, d]`` of length 1 or 0; see :func:`unit_rows`.
        relevance: float64 ``[c]`` in [0, 1].
        alpha: what relevance counts.
        n: items that will be chosen at most.
    """

    def __init__(self, vectors: np.ndarray, relevance: np.ndarray, alpha: float, n: int) -> None:
        count, size = vectors.shape
        self._vectors, self._quality = vectors, 2 * alpha * relevance
        self._has_vector: np.ndarray = np.any(vectors, axis=1)
        self._residual = np.ones(count)  # squared, of every candidate to the span of the chosen
        self._factor = np.zeros((min(n, size), count))
        self._rank = 0
        self._behind = _LAST - np.arange(count)

    def values(self) -> np.ndarray:
        fresh = self._residual > _SPENT
        gains: np.ndarray = np.log(self._residual, out=self._behind.copy(), where=fresh)
        return np.add(gains, self._quality, out=gains, where=fresh)

    def take(self, place: int) -> None:
        residual = self._residual[place]
        self._residual[place] = 0.0
        if residual <= _SPENT or not self._has_vector[place]:
            return  # adds nothing to the span, or a direction of its own
        if self._rank == len(self._factor):  # all directions are taken
            self._residual[self._has_vector] = 0.0
            return
        known = self._factor[: self._rank]
        cosines = self._vectors @ self._vectors[place]
        row = (cosines - known[:, place] @ known) / np.sqrt(residual)
        self._factor[self._rank] = row
        self._rank += 1
        self._residual -= row * row
        np.maximum(self._residual, 0.0, out=self._residual)
        self._residual[place] = 0.0


def choose(
    gains: Gains, n: int, category: np.ndarray | None = None, per_category: int | None = None
) -> np.ndarray:
    """Choose n candidates greedily; equal gains go to the earlier one.

    Args:
        category: int ``[c]``, negative where unknown.
        per_category: at most so many of a known category, while there are others.

    Returns:
        int64 ``[n]``, places of the chosen ones, in the order of choice; ``n`` is at most ``c``.
    """
    chosen = np.empty(n, dtype=np.int64)
    closed: np.ndarray | None = None  # -inf where a candidate may not be chosen
    taken: dict[int, int] = {}
    for step in range(n):
        values = gains.values()
        if closed is None:
            closed = np.zeros(len(values))
        place = int(np.argmax(values + closed))
        if closed[place] < 0:  # nothing is left below the caps
            closed[:] = 0.0
            closed[chosen[:step]] = -np.inf
            per_category = None
            place = int(np.argmax(values + closed))
        chosen[step] = place
        closed[place] = -np.inf
        gains.take(place)
        if per_category is not None and category is not None and (own := int(category[place])) >= 0:
            taken[own] = taken.get(own, 0) + 1
            if taken[own] == per_category:
                closed[category == own] = -np.inf
    return chosen


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32 ``[c, d]``; a row of zeros stays one.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    if not vectors.size:
        return np.zeros(vectors.shape, dtype=np.float32)
    # by the greatest number first, so that no square overflows or vanishes
    greatest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    scaled = (vectors / np.where(greatest > 0, greatest, 1)[:, None]).astype(np.float32, copy=False)
    lengths = np.sqrt(np.einsum("cd,cd->c", scaled, scaled))
    scaled /= np.maximum(lengths, 1.0)[:, None]
    return scaled


def relevance_of(scores: np.ndarray) -> np.ndarray:
    """Scores as relevance: the least of the candidates is 0, the best 1, linearly between.

    Where all are equal, all are 1.

    >>> relevance_of(np.array([2.0, 1.0, -2.0])).tolist()
    [1.0, 0.75, 0.0]
    """
    halves = scores / 2  # the difference of two great numbers may not be one
    if not len(scores) or (span := halves.max() - halves.min()) == 0:
        return np.ones(len(scores))
    relevance: np.ndarray = (halves - halves.min()) / span
    return relevance
