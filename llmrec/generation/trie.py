"""The catalogue as a trie in flat arrays.

Items are sorted by their ID's codes, so the children of a node are neighbours and the
items under a node are a range. No Python object exists per item or node, and nothing
loops over items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from llmrec.errors import CatalogError


@dataclass(frozen=True)
class Level:
    """The nodes at one depth, in the order of their codes.

    Attributes:
        codes: int64 ``[nodes]``, the code that leads to each node.
        first_child: int64 ``[parents + 1]``; the children of parent ``p`` of the depth above
            are the nodes ``first_child[p] : first_child[p + 1]`` of this one.
        leaves: int64 ``[nodes]``, items under each node.
        widest: most children any parent has.
    """

    codes: torch.Tensor
    first_child: torch.Tensor
    leaves: torch.Tensor
    widest: int


class ItemTrie:
    """Prefix tree of item IDs of equal length.

    Args:
        codes: int ``[items, levels]``, one row an item, all rows different.

    Raises:
        CatalogError: if there is no item, or two items share an ID.
    """

    def __init__(self, codes: np.ndarray) -> None:
        codes = np.asarray(codes, dtype=np.int64)
        if len(codes) == 0:
            raise CatalogError("the catalogue is empty: there is no item to generate")
        order = np.lexsort(codes.T[::-1])
        ranked = codes[order]
        changed = np.zeros(len(codes), dtype=bool)
        changed[0] = True
        parent_of_item = np.zeros(len(codes), dtype=np.int64)
        self.levels: list[Level] = []
        nodes_of_item = np.empty_like(codes)
        n_parents = 1
        for depth in range(codes.shape[1]):
            changed[1:] |= ranked[1:, depth] != ranked[:-1, depth]
            starts = np.flatnonzero(changed)
            parents = parent_of_item[starts]
            first_child = np.searchsorted(parents, np.arange(n_parents + 1))
            self.levels.append(
                Level(
                    codes=torch.from_numpy(ranked[starts, depth]),
                    first_child=torch.from_numpy(first_child),
                    leaves=torch.from_numpy(np.diff(np.append(starts, len(codes)))),
                    widest=int(np.diff(first_child).max()),
                )
            )
            parent_of_item = np.cumsum(changed) - 1
            nodes_of_item[order, depth] = parent_of_item
            n_parents = len(starts)
        if n_parents != len(codes):
            raise CatalogError("two items share an item ID; build the IDs again with llmrec index")
        self.items = torch.from_numpy(order)  # leaf -> item
        self.nodes_of_item = torch.from_numpy(nodes_of_item)  # [items, levels]

    def children(self, depth: int, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Children of nodes at ``depth`` (0 is the root), padded to the widest parent.

        Args:
            nodes: int64 ``[...]``; -1 has no children.

        Returns:
            (nodes of depth + 1 int64 ``[..., widest]``, whether each exists, bool).
        """
        level = self.levels[depth]
        first = level.first_child[nodes.clamp(min=0)]
        count = level.first_child[nodes.clamp(min=0) + 1] - first
        steps = torch.arange(level.widest, device=nodes.device)
        exists = (steps < count[..., None]) & (nodes >= 0)[..., None]
        child = first[..., None] + steps
        return torch.where(exists, child, 0), exists
