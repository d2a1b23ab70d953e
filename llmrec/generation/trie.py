"""The catalogue as a trie in flat arrays.

Items are sorted by their ID, so the children of a node are neighbours and the items under a
node are a range of the sorted items, its *leaves*. No Python object exists per item or node,
nothing loops over items, and what a step costs does not depend on their number: children are
one gather, and what is left under a node after excluding some items is two binary searches
in the few excluded positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from llmrec.errors import CatalogError


@dataclass(frozen=True)
class Level:
    """The nodes at one depth, in the order of their IDs.

    Attributes:
        codes: int32 ``[nodes]``, the code that leads to each node.
        first_child: int32 ``[parents + 1]``; the children of parent ``p`` of the depth above
            are the nodes ``first_child[p] : first_child[p + 1]`` of this one.
        first_leaf: int32 ``[nodes + 1]``; node ``m`` holds the sorted items
            ``first_leaf[m] : first_leaf[m + 1]``.
        widest: most children any parent has.
    """

    codes: torch.Tensor
    first_child: torch.Tensor
    first_leaf: torch.Tensor
    widest: int


class ItemTrie:
    """Prefix tree of item IDs of equal length.

    Args:
        codes: int ``[items, levels]``, one row an item, all rows different, none negative.

    Attributes:
        levels: the nodes, depth by depth.
        items: int32 ``[items]``, the item at each leaf.
        leaf_of_item: int32 ``[items]``, where each item stands among the leaves.

    Raises:
        CatalogError: if there is no item, two share an ID, or IDs are unequal in length.
    """

    def __init__(self, codes: np.ndarray) -> None:
        if len(codes) == 0:
            raise CatalogError("the catalogue is empty: there is no item to generate")
        if codes.min() < 0:
            raise CatalogError("an item ID is shorter than the others; a trie needs equal lengths")
        order, changed = _sorted_by_id(np.asarray(codes))
        self.levels: list[Level] = []
        parent_starts = np.zeros(1, dtype=np.int32)
        for depth, boundary in enumerate(changed):
            starts = np.flatnonzero(boundary).astype(np.int32)
            first_child = np.append(np.searchsorted(starts, parent_starts), len(starts))
            self.levels.append(
                Level(
                    codes=torch.from_numpy(codes[order[starts], depth].astype(np.int32)),
                    first_child=torch.from_numpy(first_child.astype(np.int32)),
                    first_leaf=torch.from_numpy(np.append(starts, len(order)).astype(np.int32)),
                    widest=int(np.diff(first_child).max()),
                )
            )
            parent_starts = starts
        if len(parent_starts) != len(codes):
            raise CatalogError("two items share an item ID; build the IDs again with llmrec index")
        self.items = torch.from_numpy(order.astype(np.int32))
        leaf_of_item = np.empty(len(order), dtype=np.int32)
        leaf_of_item[order] = np.arange(len(order), dtype=np.int32)
        self.leaf_of_item = torch.from_numpy(leaf_of_item)

    def to(self, device: torch.device | str) -> ItemTrie:
        """The same trie with its arrays on a device."""
        moved = object.__new__(ItemTrie)
        moved.levels = [
            Level(
                level.codes.to(device),
                level.first_child.to(device),
                level.first_leaf.to(device),
                level.widest,
            )
            for level in self.levels
        ]
        moved.items = self.items.to(device)
        moved.leaf_of_item = self.leaf_of_item.to(device)
        return moved

    def children(self, depth: int, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Children of nodes at ``depth`` (0 is the root), padded to the widest parent.

        Args:
            nodes: int64 ``[...]``; -1 has no children.

        Returns:
            (nodes of depth + 1 int64 ``[..., widest]``, whether each exists, bool). Padding is
            node 0.
        """
        level = self.levels[depth]
        first = level.first_child[nodes.clamp(min=0)].long()
        count = level.first_child[nodes.clamp(min=0) + 1] - first
        steps = torch.arange(level.widest, device=nodes.device)
        exists = (steps < count[..., None]) & (nodes >= 0)[..., None]
        child = first[..., None] + steps
        return torch.where(exists, child, 0), exists

    def leaves(self, items: torch.Tensor) -> torch.Tensor:
        """Sorted positions of some items per user, for :meth:`something_left`.

        Args:
            items: int64 ``[users, x]`` item indices, each at most once a row, padded with -1.

        Returns:
            int32 ``[users, x]``, ascending, padding last.
        """
        places = self.leaf_of_item[items.clamp(min=0)]
        return places.masked_fill(items < 0, len(self.items)).sort(1).values

    def something_left(
        self, depth: int, nodes: torch.Tensor, excluded: torch.Tensor
    ) -> torch.Tensor:
        """Whether an item that is not excluded stands under each node.

        Args:
            nodes: int64 ``[users, ...]``, nodes that :meth:`children` of ``depth`` gave.
            excluded: from :meth:`leaves`.

        Returns:
            bool, shaped like ``nodes``.
        """
        first_leaf = self.levels[depth].first_leaf
        start, end = first_leaf[nodes].flatten(1), first_leaf[nodes + 1].flatten(1)
        lost = torch.searchsorted(excluded, end) - torch.searchsorted(excluded, start)
        return (end - start > lost).view(nodes.shape)


def _sorted_by_id(codes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Items in the order of their IDs, and per depth where a new prefix begins.

    IDs are packed into one integer where they fit 63 bits, which sorts several times faster
    than column by column.
    """
    bits = [max(1, int(column.max()).bit_length()) for column in codes.T]
    boundaries = []
    if sum(bits) <= 63:
        keys = np.zeros(len(codes), dtype=np.int64)
        for column, width in zip(codes.T, bits, strict=True):
            keys = (keys << width) | column
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        for depth in range(len(bits)):
            prefix = keys >> sum(bits[depth + 1 :])
            boundaries.append(np.append(True, prefix[1:] != prefix[:-1]))
        return order, boundaries
    order = np.lexsort(codes.T[::-1])
    changed = np.zeros(len(codes), dtype=bool)
    changed[0] = True
    for column in codes[order].T:
        changed[1:] |= column[1:] != column[:-1]
        boundaries.append(changed.copy())
    return order, boundaries
