"""Make item IDs one to one: no two items ever share a code tuple.

Two strategies, both deterministic:

* ``last-level`` (default) keeps the length of an ID. Of the items that share a code tuple the
  nearest keeps it; the others move to free codes of the *last* level under the same prefix, so
  that their summed squared distance is least (an exact assignment). Items for which a prefix
  has no code left move to the next nearest prefix that has one.
* ``extra-level`` adds one token to every ID that counts the items of a code tuple, as TIGER
  (arXiv 2305.05065, section 3.1) does; the nearest item is number 0.

Items that are added later are resolved by the same rules against the codes already taken,
which never change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from llmrec.errors import CatalogError, require
from llmrec.item_ids.quantizer import ResidualQuantizer, square_distances

_FIRST_BEAM = 64


def row_keys(codes: np.ndarray) -> np.ndarray:
    """One sortable key a row, ordered as the rows are; codes may be -1 (padding).

    >>> keys = row_keys(np.array([[1, 2], [1, -1], [0, 9]]))
    >>> np.argsort(keys).tolist()
    [2, 1, 0]
    """
    # Big-endian bytes compare like the numbers; no code count can overflow a machine word.
    shifted = np.ascontiguousarray(codes.astype(np.int64) + 1).astype(">u4")
    width = 4 * codes.shape[1]
    return shifted.view(f"S{width}").reshape(len(codes)) if width else np.zeros(len(codes), "S1")


def count_collisions(codes: np.ndarray) -> int:
    """How many items share their code tuple with another item."""
    _, counts = np.unique(row_keys(codes), return_counts=True)
    return int(counts[counts > 1].sum())


@dataclass(frozen=True, eq=False)
class UniqueCodes:
    """Unique codes int32 ``[n, levels]``; how many items moved, and how many left their prefix."""

    codes: np.ndarray
    moved: int = 0
    left_prefix: int = 0


def resolve_extra_level(
    distances: np.ndarray, codes: np.ndarray, size: int | None, taken: np.ndarray
) -> UniqueCodes:
    """Append the number of each item among those with its codes.

    Args:
        distances: float ``[n]``, how far each item is from its codewords.
        codes: int32 ``[n, levels]`` with collisions.
        size: codes of the extra level, or None for as many as are needed.
        taken: int32 ``[m, levels + 1]`` of existing items.

    Raises:
        CatalogError: if more items share a code tuple than ``size`` allows.
    """
    keys = row_keys(codes)
    order = np.lexsort((np.arange(len(codes)), distances, keys))
    ordered = keys[order]
    number = np.arange(len(codes)) - np.searchsorted(ordered, ordered)
    old_keys = row_keys(taken[:, :-1])
    old_order = np.argsort(old_keys, kind="stable")
    # Existing numbers of a tuple run from 0 without gaps, so new ones go on at their count.
    first = np.searchsorted(old_keys[old_order], ordered, "left")
    number += np.searchsorted(old_keys[old_order], ordered, "right") - first
    if size is not None and len(number) and number.max() >= size:
        raise CatalogError(
            f"{number.max() + 1} items would share one code tuple, but the extra level of the "
            f"item ids has {size} codes; run llmrec index again on the whole catalogue"
        )
    extra = np.empty(len(codes), dtype=np.int32)
    extra[order] = number
    return UniqueCodes(np.column_stack([codes, extra]).astype(np.int32))


def resolve_last_level(
    quantizer: ResidualQuantizer,
    latents: np.ndarray,
    codes: np.ndarray,
    taken: np.ndarray | None = None,
) -> UniqueCodes:
    """Move colliding items to free codes.

    Args:
        quantizer: whose codebooks give the distances.
        latents: float32 ``[n, latent_dim]``.
        codes: int32 ``[n, levels]`` with collisions; the prefix is all levels but the last.
        taken: int32 ``[m, levels]`` unique codes of existing items.

    Raises:
        CatalogError: if there are more items than code tuples.
    """
    taken = np.empty((0, codes.shape[1]), np.int32) if taken is None else taken
    capacity = float(np.prod([float(size) for size in quantizer.level_sizes]))
    if len(codes) + len(taken) > capacity:
        raise CatalogError(
            f"{len(codes) + len(taken):,} items do not fit into {capacity:,.0f} item ids; run "
            "llmrec index again with more levels or a larger codebook_size"
        )
    *_, before_last = [latents, *quantizer.residuals(latents, codes)][:-1]
    book = quantizer.codebooks[-1]
    distances = np.square(before_last - book[codes[:, -1]]).sum(axis=1)
    movers = _colliding(codes, distances, taken)
    free_codes = _FreeCodes(np.concatenate([taken, np.delete(codes, movers, axis=0)]), len(book))
    codes = codes.copy()
    leaving: list[int] = []
    for group in _groups(codes[movers, :-1], movers):
        free = free_codes.under(codes[group[0], :-1])
        if len(free) == 0:
            leaving.extend(group)
            continue
        costs = square_distances(before_last[group], book[free])
        rows, columns = require("scipy.optimize", "train").linear_sum_assignment(costs)
        codes[group[rows], -1] = free[columns]
        free_codes.take(codes[group[rows]])
        leaving.extend(np.delete(group, rows))
    _leave_prefix(quantizer, latents, codes, np.sort(np.array(leaving, dtype=np.int64)), free_codes)
    return UniqueCodes(codes, len(movers), len(leaving))


def _colliding(codes: np.ndarray, distances: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Sorted rows that lose their code tuple to a nearer item or to an existing one."""
    keys = row_keys(codes)
    order = np.lexsort((np.arange(len(codes)), distances, keys))
    loses = np.zeros(len(codes), dtype=bool)
    loses[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return np.flatnonzero(loses | np.isin(keys, row_keys(taken)))


def _groups(prefixes: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """``rows`` grouped by equal prefix, in a fixed order."""
    if not len(rows):
        return []
    keys = row_keys(prefixes)
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(keys[order[1:]] != keys[order[:-1]]) + 1
    return np.split(rows[order], borders)


@dataclass
class _FreeCodes:
    """Which last-level codes are free under a prefix.

    Attributes:
        held: int32 ``[n, levels]``, codes that are taken.
        size: codes of the last level.
    """

    held: np.ndarray
    size: int
    _masks: dict[bytes, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = row_keys(self.held[:, :-1])
        order = np.argsort(keys, kind="stable")
        self._keys, self._last = keys[order], self.held[order, -1]

    def _mask(self, prefix: np.ndarray) -> np.ndarray:
        """bool ``[size]``, True where taken; made on first use."""
        name = prefix.tobytes()
        if name not in self._masks:
            key = row_keys(prefix[None])[0]
            first, last = (np.searchsorted(self._keys, key, side) for side in ("left", "right"))
            self._masks[name] = np.zeros(self.size, dtype=bool)
            self._masks[name][self._last[first:last]] = True
        return self._masks[name]

    def under(self, prefix: np.ndarray) -> np.ndarray:
        """Free codes under one prefix int32 ``[levels - 1]``, ascending."""
        return np.flatnonzero(~self._mask(prefix))

    def take(self, codes: np.ndarray) -> None:
        """Mark code tuples ``[n, levels]`` as taken."""
        for row in codes:
            self._mask(row[:-1])[row[-1]] = True


def _leave_prefix(
    quantizer: ResidualQuantizer,
    latents: np.ndarray,
    codes: np.ndarray,
    rows: np.ndarray,
    free_codes: _FreeCodes,
) -> None:
    """Give each of ``rows`` the nearest free code under the nearest prefix with room."""
    # Items without content are all alike; they share one list of prefixes.
    searches: dict[bytes, _NearestPrefixes] = {}
    for row in rows:
        name = latents[row].tobytes()
        if name not in searches:
            searches[name] = _NearestPrefixes(quantizer, latents[row])
        search = searches[name]
        while not len(free := free_codes.under(search.prefix)):
            search.next()
        costs = square_distances(search.residual[None], quantizer.codebooks[-1][free])[0]
        codes[row] = [*search.prefix, free[costs.argmin()]]
        free_codes.take(codes[row : row + 1])


class _NearestPrefixes:
    """Prefixes from near to far; a beam search whose beam widens until it holds all."""

    def __init__(self, quantizer: ResidualQuantizer, latent: np.ndarray) -> None:
        self._books = quantizer.codebooks[:-1]
        self._latent = latent
        self._width = _FIRST_BEAM
        self._row = 0
        self._search()

    def _search(self) -> None:
        """Fill ``_prefixes`` with the nearest ``_width`` the beam finds."""
        prefixes = np.zeros((1, 0), dtype=np.int32)
        residuals = self._latent[None]
        for book in self._books:
            distances = square_distances(residuals, book).ravel()
            best = np.argsort(distances, kind="stable")[: self._width]
            beam, code = np.divmod(best, len(book))
            prefixes = np.column_stack([prefixes[beam], code]).astype(np.int32)
            residuals = residuals[beam] - book[code]
        self._prefixes, self._residuals = prefixes, residuals

    @property
    def prefix(self) -> np.ndarray:
        return self._prefixes[self._row]

    @property
    def residual(self) -> np.ndarray:
        """The latent less the prefix's codewords."""
        return self._residuals[self._row]

    def next(self) -> None:
        """Go to the next prefix; look farther when the beam is used up."""
        self._row += 1
        if self._row == len(self._prefixes):
            # The wider list starts with the prefixes that are known to be full.
            self._width, self._row = self._width * 4, 0
            self._search()
