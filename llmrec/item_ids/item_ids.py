"""Item IDs: the tokens by which an LLM generates an item: atomic, domain or semantic.

An ID is one code a level. ``atomic`` IDs have a single level and the code is the item index;
``domain`` IDs, of several shops, have the item's domain before it; ``semantic`` IDs have a few
levels of residual quantization. Either way an ID names exactly one item. All codes of all levels
make up the *item tokens*, numbered from 0 level after level; a model adds its own vocabulary
offset.

    ids = ItemIds.load("runs/beauty/item_ids")
    ids.tokens(np.array([5]))          # flat item tokens [1, levels]
    ids.decode(codes)                  # item indices, -1 where no item has the codes
    ids.assign_new(vectors)            # the same IDs and those of new items
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np

from llmrec.content.features.blocks import check_finite, combine_blocks
from llmrec.errors import ArtifactError, CatalogError, DataError
from llmrec.files import read_versioned
from llmrec.item_ids.collisions import resolve_extra_level, resolve_last_level, row_keys
from llmrec.item_ids.quantizer import ResidualQuantizer
from llmrec.jsonl import read_json
from llmrec.stage import reading

IdKind = Literal["atomic", "domain", "semantic"]
CollisionStrategy = Literal["last-level", "extra-level"]
SCHEMA_VERSION = 1
_HEADER, _TENSORS = "item_ids.json", "item_ids.safetensors"
_QUANTIZER, _NAMES = "quantizer.safetensors", "names.json"


def id_files(folder: str | Path) -> list[Path]:
    """The files of item IDs in a folder of ``llmrec index`` or of a model, the header first.

    Raises:
        ArtifactError: if there are none.
    """
    for place in (Path(folder), Path(folder) / "item_ids"):
        if (place / _HEADER).is_file():
            names = (_TENSORS, _QUANTIZER, _NAMES)
            return [place / _HEADER, *(place / name for name in names if (place / name).is_file())]
    raise ArtifactError(f"{folder}: holds no item IDs; give a folder of llmrec index, or a model")


@dataclass(frozen=True, eq=False)
class ItemIds:
    """The IDs of a catalogue; never changes, :meth:`assign_new` makes a larger one.

    Attributes:
        kind: ``atomic``, ``domain`` or ``semantic``.
        codes: int32 ``[n_items, levels]``; -1 pads IDs that are shorter than the longest.
        level_sizes: codes a level; where items have tokens of their own, with the spare ones.
        token_vectors: float32 ``[n_tokens, dim]``, what each item token means: the item's
            content vector, or the centroid of the code at its level (semantic, in
            content space, so that an ID's vectors add up to about its item's). Zero for
            tokens without content: domains, spare tokens and the extra level. ``dim`` is 0 when
            the IDs were made without content.
        quantizer: makes codes of content vectors (semantic).
        collisions: how semantic IDs were made unique; see :mod:`llmrec.item_ids.collisions`.
        blocks: weight of each feature block in the content vectors; empty without content.
        names: the shop's identifier of every item; empty where they are not known.
        domains: names of the domains, by code; empty for other kinds.

    Raises:
        ArtifactError: if the codes do not fit the levels or the names, or two items share an ID.
    """

    kind: IdKind
    codes: np.ndarray
    level_sizes: tuple[int, ...]
    token_vectors: np.ndarray
    quantizer: ResidualQuantizer | None = None
    collisions: CollisionStrategy = "last-level"
    blocks: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        codes = self.codes
        if codes.ndim != 2 or codes.shape[1] != len(self.level_sizes) or not codes.shape[1]:
            raise ArtifactError(f"item ids: codes {codes.shape} do not fit {self.level_sizes}")
        if len(codes) and ((codes >= self.level_sizes).any() or (codes < -1).any()):
            raise ArtifactError(f"item ids: a code lies outside the level sizes {self.level_sizes}")
        if len(self.token_vectors) != self.n_tokens:
            raise ArtifactError(
                f"item ids: {len(self.token_vectors)} token vectors for {self.n_tokens} tokens"
            )
        if self.names and len(self.names) != len(codes):
            raise ArtifactError(f"item ids: {len(self.names)} names for {len(codes)} items")
        if self.has_item_tokens:
            if not np.array_equal(codes[:, -1], np.arange(len(codes))):
                raise ArtifactError("item ids: an item's own code must be its index")
            if self.level_sizes[:-1] != ((len(self.domains),) if self.kind == "domain" else ()):
                raise ArtifactError(f"item ids: {self.kind} ids cannot have {self.level_sizes}")
            return
        keys, items = self._sorted
        same = np.flatnonzero(keys[1:] == keys[:-1])
        if len(same):
            first, second = items[same[0]], items[same[0] + 1]
            raise ArtifactError(f"item ids: items {first} and {second} have the same ID")

    @classmethod
    def atomic(
        cls,
        n_items: int,
        spare: int = 0,
        vectors: np.ndarray | None = None,
        blocks: Mapping[str, float] | None = None,
    ) -> ItemIds:
        """One token an item.

        Args:
            n_items: items in the catalogue.
            spare: tokens kept free for items that come later.
            vectors: float32 ``[n_items, dim]`` content vectors, or None.
            blocks: the feature blocks ``vectors`` were made of.
        """
        vectors = np.zeros((n_items, 0), np.float32) if vectors is None else vectors
        padded = np.zeros((n_items + spare, vectors.shape[1]), np.float32)
        padded[:n_items] = vectors
        codes = np.arange(n_items, dtype=np.int32)[:, None]
        return cls("atomic", codes, (n_items + spare,), padded, blocks=blocks or {})

    @classmethod
    def by_domain(
        cls,
        domain_of_item: np.ndarray,
        domains: Sequence[str],
        spare: int = 0,
        vectors: np.ndarray | None = None,
        blocks: Mapping[str, float] | None = None,
    ) -> ItemIds:
        """A token for the domain, then one an item.

        Args:
            domain_of_item: int ``[n_items]``, numbers of domains.
            domains: their names.
            spare, vectors, blocks: as for :meth:`atomic`.
        """
        own = cls.atomic(len(domain_of_item), spare, vectors, blocks)
        none = np.zeros((len(domains), own.token_vectors.shape[1]), np.float32)
        return cls(
            "domain",
            np.column_stack([domain_of_item, own.codes]).astype(np.int32),
            (len(domains), *own.level_sizes),
            np.concatenate([none, own.token_vectors]),
            blocks=own.blocks,
            domains=tuple(domains),
        )

    @property
    def has_item_tokens(self) -> bool:
        """Whether every item has a token of its own, the last of its ID."""
        return self.kind != "semantic"

    @property
    def n_items(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        """Tokens of the longest ID."""
        return len(self.level_sizes)

    @property
    def n_tokens(self) -> int:
        """Item tokens in all."""
        return sum(self.level_sizes)

    @property
    def capacity(self) -> int:
        """How many different IDs there are, given or free."""
        return self.level_sizes[-1] if self.has_item_tokens else math.prod(self.level_sizes)

    def token_offset(self, level: int) -> int:
        """The flat number of the first item token of a level."""
        return sum(self.level_sizes[:level])

    def encode(self, items: int | np.ndarray) -> np.ndarray:
        """Codes int32 ``[..., levels]`` of item indices.

        Raises:
            CatalogError: if an index is not in the catalogue.
        """
        items = np.asarray(items)
        wrong = (items < 0) | (items >= self.n_items)
        if wrong.any():
            raise CatalogError(
                f"item index {items[wrong].flat[0]} is not in the catalogue of {self.n_items}"
            )
        return self.codes[items]

    def tokens(self, items: int | np.ndarray) -> np.ndarray:
        """Flat item tokens int64 ``[..., levels]``, -1 where an ID is padded."""
        codes = self.encode(items).astype(np.int64)
        offsets = [self.token_offset(level) for level in range(self.levels)]
        return np.where(codes >= 0, codes + offsets, -1)

    def decode(self, codes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Item indices int64 ``[...]`` of codes ``[..., levels]``; -1 where there is no item."""
        codes = np.asarray(codes, dtype=np.int64)
        if codes.shape[-1] != self.levels:
            return np.full(codes.shape[:-1], -1, dtype=np.int64)
        flat = codes.reshape(-1, self.levels)
        valid = ((flat >= -1) & (flat < self.level_sizes)).all(axis=1)
        found = np.full(len(flat), -1, dtype=np.int64)
        if self.kind == "atomic":
            found[valid] = np.where(flat[valid, 0] < self.n_items, flat[valid, 0], -1)
        elif self.n_items:
            keys, items = self._sorted
            wanted = row_keys(flat[valid])
            row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found[valid] = np.where(keys[row] == wanted, items[row], -1)
        return found.reshape(codes.shape[:-1])

    def token_strings(self) -> list[str]:
        """Text of every item token, in flat order: ``<item_7>``, or ``<a_1>``, ``<b_7>``."""
        if self.kind == "atomic":
            return [f"<item_{code}>" for code in range(self.level_sizes[0])]
        return [
            f"<{string.ascii_lowercase[level]}_{code}>"
            for level, size in enumerate(self.level_sizes)
            for code in range(size)
        ]

    def content(self, features: Mapping[str, np.ndarray], n_items: int) -> np.ndarray:
        """Content vectors float32 ``[n_items, dim]`` of feature blocks, as these IDs use them."""
        return combine_blocks(features, self.blocks, n_items, "new items")

    def assign_new(
        self,
        vectors: np.ndarray,
        names: Sequence[str] | None = None,
        domains: Sequence[str] | None = None,
    ) -> ItemIds:
        """IDs for items that were added to the end of the catalogue; existing IDs stay.

        Args:
            vectors: float32 ``[new items, dim]`` content vectors, as :meth:`content` makes them
                (``dim`` is 0 for IDs that were made without content).
            names: of the new items; None gives IDs without any names.
            domains: of the new items, needed for domain IDs alone.

        Raises:
            CatalogError: if no ID is left for an item, or its domain is not known.
            DataError: if a vector is not finite or has another length.
        """
        vectors = np.asarray(vectors, dtype=np.float32)
        dim = self.quantizer.input_dim if self.quantizer else self.token_vectors.shape[1]
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise DataError(f"new items: vectors have shape {vectors.shape}, expected [n, {dim}]")
        check_finite(vectors, "new items")
        all_names = () if names is None else (*self.names, *names)
        if self.has_item_tokens:
            return self._with_tokens(vectors, all_names, domains)
        quantizer = cast(ResidualQuantizer, self.quantizer)
        latents = quantizer.latents(vectors)
        codes = quantizer.codes(latents)
        if self.collisions == "extra-level":
            *_, residual = quantizer.residuals(latents, codes)
            distances = np.square(residual).sum(axis=1)
            new = resolve_extra_level(distances, codes, self.level_sizes[-1], self.codes)
        else:
            new = resolve_last_level(quantizer, latents, codes, self.codes)
        codes = np.concatenate([self.codes, new.codes])
        return replace(self, codes=codes, names=all_names)

    def _with_tokens(
        self, vectors: np.ndarray, names: tuple[str, ...], domains: Sequence[str] | None
    ) -> ItemIds:
        """More items, each with a spare token."""
        old, total = self.n_items, self.n_items + len(vectors)
        if total > self.capacity:
            raise CatalogError(
                f"{len(vectors)} new items, but only {self.capacity - old} spare item "
                "tokens are left; ingest them with the others and train on from the model, which "
                "gives it more tokens"
            )
        token_vectors, own = self.token_vectors.copy(), self.token_offset(self.levels - 1)
        token_vectors[own + old : own + total] = vectors
        codes = np.zeros((len(vectors), self.levels), dtype=np.int32)
        codes[:, -1] = np.arange(old, total)
        if self.kind == "domain":
            codes[:, 0] = self.domain_codes(domains or [""] * len(vectors))
        codes = np.concatenate([self.codes, codes])
        return replace(self, codes=codes, token_vectors=token_vectors, names=names)

    def domain_codes(self, domains: Sequence[str]) -> np.ndarray:
        """int32 ``[n]``, the first codes of items of some domains.

        Raises:
            CatalogError: for a domain that is not known.
        """
        known = {name: code for code, name in enumerate(self.domains)}
        for name in domains:
            if name not in known:
                raise CatalogError(
                    f"domain: {name!r} of a new item is none of {', '.join(self.domains)}; item "
                    "IDs that begin with the domain know no other"
                )
        return np.array([known[name] for name in domains], dtype=np.int32)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys of all IDs in ascending order, and the item of each."""
        keys = row_keys(self.codes)
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def save(self, folder: str | Path) -> None:
        """Write ``item_ids.json``, ``item_ids.safetensors`` and the quantizer into a folder."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        header = {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "level_sizes": self.level_sizes,
            "collisions": self.collisions,
            "blocks": dict(self.blocks),
            "quantizer": self.quantizer is not None,
            "names": bool(self.names),
            "domains": self.domains,
        }
        (folder / _HEADER).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        tensors = {"codes": self.codes, "token_vectors": self.token_vectors}
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / _TENSORS)
        if self.quantizer is not None:
            self.quantizer.save(folder / _QUANTIZER)
        if self.names:
            (folder / _NAMES).write_text(json.dumps(self.names), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> ItemIds:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if a file is missing, damaged or from a newer llmrec, or if the IDs
                are not unique.
        """
        from safetensors.numpy import load_file

        folder = Path(folder)
        with reading(f"{folder}: item ids", "llmrec index"):
            header = read_versioned(
                folder / _HEADER, "header of item ids", SCHEMA_VERSION, "run llmrec index again"
            )
            tensors = load_file(folder / _TENSORS)
            quantizer = ResidualQuantizer.load(folder / _QUANTIZER) if header["quantizer"] else None
            names = tuple(read_json(folder / _NAMES)) if header.get("names") else ()
            return cls(
                header["kind"],
                tensors["codes"],
                tuple(header["level_sizes"]),
                tensors["token_vectors"],
                quantizer,
                header["collisions"],
                header["blocks"],
                names,
                tuple(header.get("domains", ())),
            )
