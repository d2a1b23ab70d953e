"""What a request may be answered with: everything but some items, only some items, or both.

The search asks for every node whether something that may be returned is left beneath it, so a
filter prunes subtrees instead of throwing finished answers away: 3 items out of 10 million are
found like any others.

* A few items, excluded or allowed, are kept as their places among the trie's leaves. At each depth
  they name the few nodes they decide about, and those are marked.
* A filter over the catalogue is kept as counts: how many items pass among the first ``m`` leaves. A
  node has something left if the counts at its two ends differ.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from llmrec.errors import CatalogError
from llmrec.generation.trie import Children, ItemTrie

FEW = 4096  # an allow-list or filter of so few items is kept as a list


class ItemFilter:
    """Items that pass, the same for any number of requests.

    Args:
        passes: bool ``[items]``.

    Keeps what it has worked out for a trie, so a filter in constant use costs its size once.
    """

    def __init__(self, passes: np.ndarray) -> None:
        self.passes = np.asarray(passes, dtype=bool)
        self.items = np.flatnonzero(self.passes) if self.passes.sum() <= FEW else None
        self._counts: weakref.WeakKeyDictionary[ItemTrie, torch.Tensor] = (
            weakref.WeakKeyDictionary()
        )

    def counts(self, trie: ItemTrie) -> torch.Tensor:
        """int32 ``[leaves + 1]``: items that pass among the leaves before each place."""
        if trie not in self._counts:
            passes = torch.from_numpy(self.passes).to(trie.items.device)
            beyond = len(trie.leaf_of_item) - len(passes)
            if beyond > 0:  # items newer than the filter do not pass
                passes = torch.nn.functional.pad(passes, (0, beyond))
            counts = torch.zeros(len(trie) + 1, dtype=torch.int32, device=passes.device)
            torch.cumsum(passes[trie.items], 0, dtype=torch.int32, out=counts[1:])
            self._counts[trie] = counts
        return self._counts[trie]


@dataclass(frozen=True)
class Constraints:
    """What one request may be answered with.

    Attributes:
        exclude: item indices that may not be returned.
        allow: item indices that alone may be returned; None for all.
        where: a catalogue filter that what is returned must pass as well.

    Raises:
        CatalogError: if items are given by a mask.
    """

    exclude: np.ndarray | Sequence[int] = ()
    allow: np.ndarray | Sequence[int] | None = None
    where: ItemFilter | None = None

    def __post_init__(self) -> None:
        for items in (self.exclude, self.allow):
            if items is not None and np.asarray(items).dtype == bool:
                raise CatalogError("items are given by their indices, not by a mask")


class LeafConstraints:
    """The constraints of a batch of requests, in terms of a trie's leaves.

    Args:
        trie: the catalogue.
        requests: one a user.

    Raises:
        CatalogError: for an item index outside the catalogue.
    """

    def __init__(self, trie: ItemTrie, requests: Sequence[Constraints]) -> None:
        self.trie = trie
        excluded: list[np.ndarray] = []
        allowed: list[np.ndarray] = []
        filters: list[ItemFilter] = []
        chosen = np.full(len(requests), -1, dtype=np.int64)
        n_items = len(trie.leaf_of_item)
        for user, request in enumerate(requests):
            lost = np.unique(_indices(request.exclude, n_items))
            kept, where = request.allow, request.where
            if kept is not None:
                kept = np.unique(_indices(kept, n_items))
                if where is not None:
                    kept = kept[_passing(where, kept)]
            elif where is not None and where.items is not None:
                kept = where.items[where.items < n_items]  # it may know newer ones
            if kept is not None:
                kept, lost, where = np.setdiff1d(kept, lost, assume_unique=True), lost[:0], None
                if len(kept) > FEW:
                    passes = np.zeros(n_items, dtype=bool)
                    passes[kept] = True
                    kept, where = None, ItemFilter(passes)
            if where is not None:
                lost = lost[_passing(where, lost)]
                if where not in filters:
                    filters.append(where)
                chosen[user] = filters.index(where)
            excluded.append(lost)
            allowed.append(np.array([-1]) if kept is None else kept)
        limited = np.array([len(row) != 1 or row[0] != -1 for row in allowed], dtype=bool)
        device = trie.items.device
        self.excluded = self._places(excluded)
        self.allowed = self._places(allowed) if limited.any() else None
        self.limited = torch.from_numpy(limited).to(device)
        self.counts = torch.stack([f.counts(trie) for f in filters]) if filters else None
        self.chosen = torch.from_numpy(chosen).to(device)

    def select(self, users: torch.Tensor) -> LeafConstraints:
        """The constraints of some of the users."""
        chosen = copy.copy(self)
        chosen.excluded, chosen.chosen = self.excluded[users], self.chosen[users]
        chosen.allowed = None if self.allowed is None else self.allowed[users]
        chosen.limited = self.limited[users]
        return chosen

    def padded(self, multiple: int) -> LeafConstraints:
        """The same constraints, their exclusions padded to a multiple, one at least."""
        width = max(1, -(-self.excluded.shape[1] // multiple)) * multiple
        padded = copy.copy(self)
        missing = width - self.excluded.shape[1]
        padded.excluded = torch.nn.functional.pad(self.excluded, (0, missing), value=len(self.trie))
        return padded

    def narrow(self, depth: int, nodes: torch.Tensor, children: Children) -> torch.Tensor:
        """Children beneath which something is left.

        Args:
            nodes: int64 ``[users, beams]``, different nodes of a user; -1 is none.
            children: what the trie gives for ``depth`` and ``nodes``.

        Returns:
            bool ``[users, beams, widest]``.
        """
        exists = children.exists
        if self.counts is not None:
            exists = exists & self._counted(depth, children)
        if self.excluded.shape[1]:
            node, parent, place = self.trie.locate(depth, self.excluded)
            dead = self._all_excluded(depth, node) & (self.excluded < len(self.trie))
            exists = exists & ~_marked(nodes, parent, place, dead, exists.shape)
        if self.allowed is not None:
            _, parent, place = self.trie.locate(depth, self.allowed)
            alive = _marked(nodes, parent, place, self.allowed < len(self.trie), exists.shape)
            exists = exists & (alive | ~self.limited[:, None, None])
        return exists

    def _places(self, rows: list[np.ndarray]) -> torch.Tensor:
        """int64 ``[users, longest]``: leaves in ascending order, padded with their number."""
        trie = self.trie
        longest = max((len(row) for row in rows), default=0)
        items = np.full((len(rows), longest), -1, dtype=np.int64)
        for user, row in enumerate(rows):
            items[user, : len(row)] = row
        asked = torch.from_numpy(items).to(trie.items.device)
        places = trie.leaf_of_item[asked.clamp(min=0)].long()
        return places.masked_fill((asked < 0) | (places < 0), len(trie)).sort(1).values

    def _counted(self, depth: int, children: Children) -> torch.Tensor:
        assert self.counts is not None
        first, end = self.trie.leaves(depth, children.nodes)
        row = self.chosen.clamp(min=0)[:, None, None]
        passing = self.counts[row, end] > self.counts[row, first]
        return passing | (self.chosen < 0)[:, None, None]

    def _all_excluded(self, depth: int, node: torch.Tensor) -> torch.Tensor:
        """Whether all that could be returned from a node is excluded; bool like ``node``."""
        first, end = self.trie.leaves(depth, node)
        lost = torch.searchsorted(self.excluded, end) - torch.searchsorted(self.excluded, first)
        size = end - first
        if self.counts is not None:
            row = self.chosen.clamp(min=0)[:, None]
            passing = self.counts[row, end] - self.counts[row, first]
            size = torch.where((self.chosen < 0)[:, None], size, passing.long())
        return lost >= size


def _marked(
    nodes: torch.Tensor,
    parent: torch.Tensor,
    place: torch.Tensor,
    wanted: torch.Tensor,
    shape: torch.Size,
) -> torch.Tensor:
    """bool of ``shape`` ``[users, beams, widest]``, true at some children.

    Args:
        nodes: int64 ``[users, beams]``, the parents that are there.
        parent, place: int64 ``[users, x]``, children by parent and place among its children.
        wanted: bool ``[users, x]``; the others are left out.
    """
    users, beams, widest = shape
    same = (nodes[:, :, None] == parent[:, None]) & wanted[:, None]  # [users, beams, x]
    # One place behind the last takes what belongs to no beam: no branch, nothing to wait for.
    target = torch.where(same.any(1), same.byte().argmax(1) * widest + place, beams * widest)
    marks = torch.zeros(users, beams * widest + 1, dtype=torch.bool, device=nodes.device)
    return marks.scatter_(1, target, True)[:, :-1].view(users, beams, widest)


def _indices(items: np.ndarray | Sequence[int], n_items: int) -> np.ndarray:
    """int64 item indices.

    Raises:
        CatalogError: if one is not in the catalogue.
    """
    asked = np.asarray(items, dtype=np.int64)
    unknown = asked[(asked < 0) | (asked >= n_items)]
    if len(unknown):
        raise CatalogError(f"item index {unknown[0]} is not in the catalogue of {n_items}")
    return asked


def _passing(where: ItemFilter, items: np.ndarray) -> np.ndarray:
    """bool, which of some items pass a filter; items newer than it do not."""
    known = items < len(where.passes)
    passes = np.zeros(len(items), dtype=bool)
    passes[known] = where.passes[items[known]]
    return passes
