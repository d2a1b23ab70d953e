"""Builds the levels of the catalogue's trie from item IDs, without a loop over items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from llmrec.errors import CatalogError

ENDED = -1  # code of an item ID that has no more tokens
DENSE_ENTRIES = 2**22  # largest table of children
DENSE_FILL = 0.25  # least share of a table that holds a child


@dataclass(frozen=True)
class Level:
    """The nodes at one depth, in the order of their IDs.

    Attributes:
        codes: int16 or int32 ``[nodes]``, the code that leads to each node; -1 where the ID has
            ended before.
        first_child: int32 ``[parents + 1]``; the children of parent ``p`` of the depth above
            are the nodes ``first_child[p] : first_child[p + 1]`` of this one.
        first_leaf: int32 ``[nodes + 1]``; node ``m`` holds the leaves
            ``first_leaf[m] : first_leaf[m + 1]``. None where every node is one leaf.
        table: int32 ``[parents, codes]``, the child of each parent by each code or -1; None where
            that would be mostly empty.
        widest: most children any parent has; the width of the table where there is one.
    """

    codes: torch.Tensor
    first_child: torch.Tensor
    first_leaf: torch.Tensor | None
    table: torch.Tensor | None
    widest: int

    def __len__(self) -> int:
        return len(self.codes)


def make_level(
    codes: np.ndarray, starts: np.ndarray, parent_starts: np.ndarray, leaves: int
) -> Level:
    """A level from its nodes' codes and first leaves, and its parents' first leaves."""
    first_child = np.append(np.searchsorted(starts, parent_starts), len(starts)).astype(np.int32)
    widest = int(np.diff(first_child).max())
    largest = int(codes.max())
    table = None
    entries = len(parent_starts) * (largest + 1)
    dense = entries <= DENSE_ENTRIES and len(codes) >= entries * DENSE_FILL and codes.min() >= 0
    if dense:
        widest = largest + 1
        table = np.full((len(parent_starts), widest), -1, dtype=np.int32)
        parents = np.repeat(np.arange(len(parent_starts)), np.diff(first_child))
        table[parents, codes] = np.arange(len(codes), dtype=np.int32)
    return Level(
        codes=torch.from_numpy(codes.astype(np.int16 if largest < 2**15 else np.int32)),
        first_child=torch.from_numpy(first_child),
        first_leaf=None
        if len(starts) == leaves
        else torch.from_numpy(np.append(starts, np.int32(leaves))),
        table=None if table is None else torch.from_numpy(table),
        widest=widest,
    )


def check_codes(codes: np.ndarray) -> None:
    """Check that every row is codes, then perhaps -1.

    Raises:
        CatalogError: if there is no row, or one is something else.
    """
    if len(codes) == 0:
        raise CatalogError("the catalogue is empty: there is no item to generate")
    lowest = codes.min()
    if lowest >= 0:
        return
    ended = codes == ENDED
    if lowest < ENDED or ended[:, 0].any() or (ended[:, :-1] & ~ended[:, 1:]).any():
        raise CatalogError(
            "an item ID is not a row of codes; build the IDs again with llmrec index"
        )


def check_ends(level: Level) -> None:
    """Check that where an ID has ended no other goes on.

    Raises:
        CatalogError: if an ID begins another.
    """
    first_child = level.first_child.numpy()
    ended = np.flatnonzero(level.codes.numpy() == ENDED)
    parents = np.searchsorted(first_child, ended, side="right") - 1
    if (np.diff(first_child)[parents] > 1).any():
        raise CatalogError(
            "an item ID is the beginning of another; build the IDs again with llmrec index"
        )


def sorted_by_id(codes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows in the order of their codes, int32, and per depth where a new prefix begins.

    Where a row's codes and its number fit 63 bits they are packed into one integer, which is
    sorted in place: several times faster than column by column, in half the memory.
    """
    rows = len(codes)
    bits = [(int(column.max()) + 1).bit_length() for column in codes.T]
    row_bits = max(1, (rows - 1).bit_length())
    boundaries = []
    if sum(bits) + row_bits <= 63:
        keys = np.zeros(rows, dtype=np.int64)
        for column, width in zip(codes.T, bits, strict=True):
            keys <<= width
            keys += column
            keys += 1  # an ended ID's -1 becomes 0
        keys <<= row_bits
        keys |= np.arange(rows, dtype=np.int32)
        keys.sort()
        order = (keys & ((1 << row_bits) - 1)).astype(np.int32)
        keys >>= row_bits
        for depth in range(len(bits)):
            prefix = keys >> sum(bits[depth + 1 :])
            boundaries.append(np.append(True, prefix[1:] != prefix[:-1]))
        return order, boundaries
    order = np.lexsort(codes.T[::-1]).astype(np.int32)
    changed = np.zeros(rows, dtype=bool)
    changed[0] = True
    for column in codes[order].T:
        changed[1:] |= column[1:] != column[:-1]
        boundaries.append(changed.copy())
    return order, boundaries
