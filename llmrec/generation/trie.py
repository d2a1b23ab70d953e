"""The catalogue as a trie in flat arrays.

Items are sorted by their ID, so the children of a node are neighbours and the items under a
node are a range of the sorted items, its *leaves*. No Python object exists per item or node,
nothing loops over items, and what a step costs does not depend on their number: the children
of all beams are one gather, out of a table where nodes are dense (the first levels) and out of
compressed rows elsewhere.

A trie never changes. When the catalogue does, a new one is made beside it, and whoever still
holds the old one finishes on it. On disk it is one safetensors file that is mapped, not read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from llmrec.errors import ArtifactError, CatalogError

SCHEMA_VERSION = 1
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


@dataclass(frozen=True)
class Children:
    """Children of some nodes, padded to the widest.

    Attributes:
        nodes: int64 ``[..., widest]``; padding is node 0.
        exists: bool ``[..., widest]``.
        codes: int64 ``[..., widest]``; None where they are 0, 1, 2, ...
    """

    nodes: torch.Tensor
    exists: torch.Tensor
    codes: torch.Tensor | None


class ItemTrie:
    """Prefix tree of item IDs.

    Args:
        codes: int ``[n, levels]``, one row an item, all rows different; -1 fills up IDs that are
            shorter than the longest. No ID may be the beginning of another.
        items: int ``[n]``, the item index of each row; 0, 1, 2, ... when not given.
        n_items: item indices there are, with those that are not in the trie; the largest of
            ``items`` is the last when not given.

    Attributes:
        levels: the nodes, depth by depth.
        items: int32 ``[leaves]``, the item at each leaf.
        leaf_of_item: int32 ``[n_items]``, where each item stands among the leaves; -1 where it
            is not in the trie.

    Raises:
        CatalogError: if there is no item, an ID is empty, two are the same, or one begins another.
    """

    def __init__(
        self, codes: np.ndarray, items: np.ndarray | None = None, n_items: int | None = None
    ) -> None:
        _check_codes(codes)
        order, boundaries = _sorted_by_id(np.asarray(codes))
        self.levels: list[Level] = []
        parent_starts = np.zeros(1, dtype=np.int32)
        for depth, boundary in enumerate(boundaries):
            starts = np.flatnonzero(boundary).astype(np.int32)
            level = _make_level(codes[order[starts], depth], starts, parent_starts, len(order))
            _check_ends(level)
            self.levels.append(level)
            parent_starts = starts
        if len(parent_starts) != len(codes):
            raise CatalogError("two items share an item ID; build the IDs again with llmrec index")
        named = order if items is None else np.asarray(items)[order]
        leaf_of_item = np.full(n_items or int(named.max()) + 1, -1, dtype=np.int32)
        leaf_of_item[named] = np.arange(len(order), dtype=np.int32)
        self.items = torch.from_numpy(named.astype(np.int32, copy=False))
        self.leaf_of_item = torch.from_numpy(leaf_of_item)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays().values())

    def to(self, device: torch.device | str) -> ItemTrie:
        """The same trie with its arrays on a device."""
        return self._from_arrays({name: a.to(device) for name, a in self._arrays().items()})

    def children(self, depth: int, nodes: torch.Tensor) -> Children:
        """Children of nodes at ``depth`` (0 is the root).

        Args:
            nodes: int64 ``[...]``; -1 has no children.
        """
        level = self.levels[depth]
        parents = nodes.clamp(min=0)
        if level.table is not None:
            child = level.table[parents].long()
            exists = (child >= 0) & (nodes >= 0)[..., None]
            return Children(child.clamp(min=0), exists, None)
        first = level.first_child[parents].long()
        count = level.first_child[parents + 1] - first
        steps = torch.arange(level.widest, device=nodes.device)
        exists = (steps < count[..., None]) & (nodes >= 0)[..., None]
        child = torch.where(exists, first[..., None] + steps, 0)
        return Children(child, exists, level.codes[child].long())

    def leaves(self, depth: int, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First and past-the-last leaf under nodes that :meth:`children` of ``depth`` gave."""
        first_leaf = self.levels[depth].first_leaf
        if first_leaf is None:
            return nodes, nodes + 1
        return first_leaf[nodes].long(), first_leaf[nodes + 1].long()

    def locate(self, depth: int, leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Where leaves hang at a depth.

        Args:
            leaves: int64 ``[...]``, each in ``0 .. len(self)``; the last names no leaf.

        Returns:
            int64 ``[...]`` each: the node above the leaf that :meth:`children` of ``depth``
            gives, its parent, and its place among the parent's children there.
        """
        level = self.levels[depth]
        asked = leaves.clamp(max=len(self) - 1)
        node = asked if level.first_leaf is None else _row(level.first_leaf, asked)
        parent = _row(level.first_child, node)
        if level.table is not None:
            return node, parent, level.codes[node].long()
        return node, parent, node - level.first_child[parent].long()

    def find(self, codes: torch.Tensor) -> torch.Tensor:
        """Nodes by the codes that lead to them.

        Args:
            codes: int64 ``[..., depth]``, from the root; depth 0 is the root itself.

        Returns:
            int64 ``[...]``, -1 where no item's ID begins so.
        """
        nodes = torch.zeros(codes.shape[:-1], dtype=torch.int64, device=codes.device)
        for depth, code in enumerate(codes.unbind(-1)):
            children = self.children(depth, nodes)
            said = torch.arange(children.exists.shape[-1], device=codes.device)
            known = said if children.codes is None else children.codes
            same = children.exists & (known == code[..., None])
            place = same.to(torch.uint8).argmax(-1, keepdim=True)
            found = children.nodes.gather(-1, place)[..., 0]
            nodes = torch.where(same.any(-1), found, -1)
        return nodes

    def save(self, path: str | Path) -> None:
        """Write one safetensors file; it appears whole or not at all."""
        from safetensors.torch import save_file

        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        metadata = {"format": "llmrec-item-trie", "schema_version": str(SCHEMA_VERSION)}
        try:
            save_file({k: a.contiguous() for k, a in self._arrays().items()}, beside, metadata)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> ItemTrie:
        """Map what :meth:`save` wrote; its pages are read when they are used.

        Raises:
            ArtifactError: if the file is missing, damaged or from a newer llmrec.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != "llmrec-item-trie":
                    raise ArtifactError(f"{path}: holds no item trie")
                if int(metadata["schema_version"]) > SCHEMA_VERSION:
                    raise ArtifactError(f"{path}: written by a newer llmrec; upgrade llmrec")
                return cls._from_arrays({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"{path}: the item trie cannot be read ({reason})") from None

    def _arrays(self) -> dict[str, torch.Tensor]:
        arrays = {"items": self.items, "leaf_of_item": self.leaf_of_item}
        for depth, level in enumerate(self.levels):
            for name in ("codes", "first_child", "first_leaf", "table"):
                array = getattr(level, name)
                if array is not None:
                    arrays[f"{depth}.{name}"] = array
            arrays[f"{depth}.widest"] = torch.tensor([level.widest], dtype=torch.int64)
        return arrays

    @classmethod
    def _from_arrays(cls, arrays: dict[str, torch.Tensor]) -> ItemTrie:
        trie = object.__new__(cls)
        trie.items, trie.leaf_of_item = arrays["items"], arrays["leaf_of_item"]
        depths = sum(name.endswith(".codes") for name in arrays)
        trie.levels = [
            Level(
                arrays[f"{depth}.codes"],
                arrays[f"{depth}.first_child"],
                arrays.get(f"{depth}.first_leaf"),
                arrays.get(f"{depth}.table"),
                int(arrays[f"{depth}.widest"]),
            )
            for depth in range(depths)
        ]
        return trie


def _row(firsts: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """int64, which row each value falls into, ``firsts`` holding the rows' first values."""
    return torch.searchsorted(firsts, values.to(firsts.dtype), right=True) - 1


def _make_level(
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


def _check_codes(codes: np.ndarray) -> None:
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


def _check_ends(level: Level) -> None:
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


def _sorted_by_id(codes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
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
