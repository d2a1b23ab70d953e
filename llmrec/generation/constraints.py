"""What a request may be answered with: everything but some items, only some items, or both.

::

    filter = ItemFilter(in_stock)                        # once, for any number of requests
    constraints = Constraints(exclude=[3, 7], allow=filter)
    llm.recommend(histories, 10, constraints=[constraints])

The search asks for every node of the trie whether an allowed item is left beneath it, so a
filter prunes subtrees instead of throwing finished answers away: 3 items out of 10 million are
found like any others.

* A few items, excluded or allowed, are kept as their places among the trie's leaves. At each depth
  they name the few nodes they decide about, and those are marked.
* A larger filter is kept as prefix sums: how many items pass among the first ``m`` leaves. A node
  has something left if the counts at its two ends differ.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from llmrec.errors import CatalogError
from llmrec.generation.trie import Children, ItemTrie

FEW = 4096  # a filter that so few items pass is kept as a list


class ItemFilter:
    """An immutable set of items that requests may be answered with.

    What the search needs of it is worked out once and kept, so a filter in constant use costs its
    size once. It is hashed by identity: keep the object, do not make an equal one again.

    Args:
        passes: bool ``[items]``. It may be of another length than the catalogue: newer items than
            it knows do not pass, and items newer than the catalogue are ignored.

    Attributes:
        passes: the same, read-only.
        items: int64, the items that pass in ascending order if they are few; None otherwise.
    """

    def __init__(self, passes: np.ndarray) -> None:
        self.passes = np.array(passes, dtype=bool)
        self.passes.flags.writeable = False
        few = np.count_nonzero(self.passes) <= FEW
        self.items = np.flatnonzero(self.passes) if few else None
        self._counts: weakref.WeakKeyDictionary[ItemTrie, torch.Tensor] = (
            weakref.WeakKeyDictionary()
        )

    @classmethod
    def of_items(cls, items: np.ndarray | Sequence[int], n_items: int) -> ItemFilter:
        """Some items of a catalogue of ``n_items``, an allow-list.

        Raises:
            CatalogError: for an item index outside the catalogue, or a mask.
        """
        passes = np.zeros(n_items, dtype=bool)
        passes[_indices(items, n_items)] = True
        return cls(passes)

    def __and__(self, other: ItemFilter) -> ItemFilter:
        """The items that pass both."""
        length = min(len(self.passes), len(other.passes))
        return ItemFilter(self.passes[:length] & other.passes[:length])

    def mask(self, n_items: int) -> np.ndarray:
        """A new bool ``[n_items]``, which items of a catalogue of any size pass."""
        mask = np.zeros(n_items, dtype=bool)
        mask[: len(self.passes)] = self.passes[:n_items]
        return mask

    def counts(self, trie: ItemTrie) -> torch.Tensor:
        """int32 ``[leaves + 1]``: items that pass among the leaves before each place."""
        if trie not in self._counts:
            device = trie.items.device
            passes = torch.from_numpy(self.mask(len(trie.leaf_of_item))).to(device)
            counts = torch.zeros(len(trie) + 1, dtype=torch.int32, device=device)
            torch.cumsum(passes[trie.items], 0, dtype=torch.int32, out=counts[1:])
            self._counts[trie] = counts
        return self._counts[trie]


@dataclass(frozen=True, eq=False)
class Constraints:
    """What one request may be answered with.

    Attributes:
        exclude: item indices that may not be returned.
        allow: the items that alone may be returned; None for all.

    Raises:
        CatalogError: if items are given by a mask.
    """

    exclude: np.ndarray | Sequence[int] = ()
    allow: ItemFilter | None = None

    def __post_init__(self) -> None:
        _check_not_mask(self.exclude)

    def excluding(self, items: np.ndarray | Sequence[int]) -> Constraints:
        """The same, with more items excluded; the filter is shared."""
        parts = [np.asarray(part, dtype=np.int64) for part in (self.exclude, items)]
        return replace(self, exclude=np.concatenate(parts))

    def passes(self, n_items: int) -> np.ndarray:
        """A new bool ``[n_items]``, for who scores the whole catalogue."""
        mask = np.ones(n_items, dtype=bool) if self.allow is None else self.allow.mask(n_items)
        mask[_indices(self.exclude, n_items)] = False
        return mask


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
        nothing = np.zeros(0, dtype=np.int64)
        excluded: list[np.ndarray] = []
        allowed: list[np.ndarray | None] = []
        filters: list[ItemFilter] = []
        chosen = np.full(len(requests), -1, dtype=np.int64)
        n_items = len(trie.leaf_of_item)
        for user, request in enumerate(requests):
            lost, kept, allow = np.unique(_indices(request.exclude, n_items)), None, request.allow
            if allow is not None and allow.items is not None:
                # it may know newer items than the catalogue
                kept = np.setdiff1d(allow.items[allow.items < n_items], lost, assume_unique=True)
                lost = nothing
            elif allow is not None:
                lost = lost[allow.mask(n_items)[lost]]
                if allow not in filters:
                    filters.append(allow)
                chosen[user] = filters.index(allow)
            excluded.append(lost)
            allowed.append(kept)
        limited = np.array([row is not None for row in allowed], dtype=bool)
        device = trie.items.device
        self.excluded = self._places(excluded)
        rows = [nothing if row is None else row for row in allowed]
        self.allowed = self._places(rows) if limited.any() else None
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

    def allowed_children(self, depth: int, nodes: torch.Tensor, children: Children) -> torch.Tensor:
        """Children beneath which an allowed item is left.

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
        padded = torch.from_numpy(items).to(trie.items.device)
        places = trie.leaf_of_item[padded.clamp(min=0)].long()
        return places.masked_fill((padded < 0) | (places < 0), len(trie)).sort(1).values

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
        CatalogError: if one is not in the catalogue, or a mask is given.
    """
    _check_not_mask(items)
    indices = np.asarray(items, dtype=np.int64)
    unknown = indices[(indices < 0) | (indices >= n_items)]
    if len(unknown):
        raise CatalogError(f"item index {unknown[0]} is not in the catalogue of {n_items}")
    return indices


def _check_not_mask(items: np.ndarray | Sequence[int]) -> None:
    if np.asarray(items).dtype == bool:
        raise CatalogError("items are given by their indices, not by a mask")
