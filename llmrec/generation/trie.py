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

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from llmrec.errors import ArtifactError, CatalogError, one_line
from llmrec.files import write_whole
from llmrec.generation.trie_levels import Level, check_codes, check_ends, make_level, sorted_by_id

SCHEMA_VERSION = 1


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
        check_codes(codes)
        order, boundaries = sorted_by_id(np.asarray(codes))
        self.levels: list[Level] = []
        parent_starts = np.zeros(1, dtype=np.int32)
        for depth, boundary in enumerate(boundaries):
            starts = np.flatnonzero(boundary).astype(np.int32)
            level = make_level(codes[order[starts], depth], starts, parent_starts, len(order))
            check_ends(level)
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
        leaf = leaves.clamp(max=len(self) - 1)
        node = leaf if level.first_leaf is None else _row(level.first_leaf, leaf)
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
            known = children.codes
            if known is None:
                known = torch.arange(children.exists.shape[-1], device=codes.device)
            same = children.exists & (known == code[..., None])
            place = same.to(torch.uint8).argmax(-1, keepdim=True)
            found = children.nodes.gather(-1, place)[..., 0]
            nodes = torch.where(same.any(-1), found, -1)
        return nodes

    def save(self, path: str | Path) -> None:
        """Write one safetensors file; it appears whole or not at all."""
        from safetensors.torch import save

        metadata = {"format": "llmrec-item-trie", "schema_version": str(SCHEMA_VERSION)}
        write_whole(path, save({k: a.contiguous() for k, a in self._arrays().items()}, metadata))

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
            raise ArtifactError(
                f"{path}: the item trie cannot be read ({one_line(error)})"
            ) from None

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
