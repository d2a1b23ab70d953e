"""The items of a bundle: from the shop's own identifiers to item indices and back."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.config import shown
from llmrec.errors import CatalogError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.serving.filters import COLUMNS, EVERYTHING, CatalogFilter
from llmrec.serving.item_list import ItemList
from llmrec.stage import reading
from llmrec.types import Ranking, Recommendation

if TYPE_CHECKING:
    from llmrec.serving.request import RecommendRequest

FILTERS = 32  # catalogue filters that are kept, and as many allow-lists
_SINCE = "available_from"
NAMED = 3  # unknown items in a note


class ItemTable:
    """What a service needs of ``items.parquet``.

    Args:
        path: the file.

    Attributes:
        item_ids, titles: by item index; an item without a title has its identifier for one.
        index: item index by identifier.
        removed: identifiers of items that once were there.

    Raises:
        ArtifactError: if the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        items = _read(path, ["item_id", "title"])
        self.item_ids: list[str] = items["item_id"].to_pylist()
        titles = items["title"].to_pylist()
        self.titles: list[str] = [
            title or item_id for title, item_id in zip(titles, self.item_ids, strict=True)
        ]
        self.index = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self.removed: frozenset[str] = frozenset()
        self._begin()

    def _begin(self) -> None:
        self._available: ItemFilter | None = None
        if self.removed:
            gone = [self.index[item_id] for item_id in self.removed]
            there = np.ones(len(self), dtype=bool)
            there[gone] = False
            self._available = ItemFilter(there)
        # a cache that held the table itself would keep a version after its last request
        own: Any = weakref.proxy(self)
        self._where_filter = lru_cache(FILTERS)(lambda where: own._make_where_filter(where))
        self._allow_filter = lru_cache(FILTERS)(
            lambda where, allow: own._make_allow_filter(where, allow)
        )
        self._allowed = lru_cache(FILTERS)(lambda allow: own._find_allowed(allow))

    def __len__(self) -> int:
        """Items that are there or once were."""
        return len(self.item_ids)

    def changed(self, rows: Sequence[Mapping[str, Any]], removed: Iterable[str]) -> ItemTable:
        """The same with other rows for some items, with new items after the known ones, and
        without some: these keep their index, and are never recommended.

        Args:
            rows: of a catalogue, as ``items.parquet`` has them.
            removed: identifiers, all that are.
        """
        changed = copy.copy(self)
        for name in ("available_from", "domains"):
            vars(changed).pop(name, None)
        changed.item_ids, changed.titles = list(self.item_ids), list(self.titles)
        changed.index, changed.removed = dict(self.index), frozenset(removed)
        place = np.arange(len(self) + len(rows))
        for number, row in enumerate(rows):
            item_id = row["item_id"]
            at = changed.index.setdefault(item_id, len(changed.index))
            if at == len(changed.item_ids):
                changed.item_ids.append(item_id)
                changed.titles.append("")
            changed.titles[at] = row["title"] or item_id
            place[at] = len(self) + number
        fields = pa.schema([self.catalogue.schema.field(n) for n in self.catalogue.column_names])
        more = pa.Table.from_pylist([{n: row[n] for n in fields.names} for row in rows], fields)
        both = pa.concat_tables([self.catalogue, more])
        changed.catalogue = both.take(pa.array(place[: len(changed)]))
        changed._begin()
        return changed

    def is_available(self, item_id: str) -> bool:
        """Whether an item may be recommended."""
        return item_id in self.index and item_id not in self.removed

    def find(
        self, field: str, item_ids: Sequence[str], without: Collection[str] = ()
    ) -> tuple[np.ndarray, list[str]]:
        """Item indices, int64, -1 for what is not in the catalogue, and a note that names it.

        Args:
            without: identifiers that count as not there.
        """
        index = self.index
        known = [-1 if item_id in without else index.get(item_id, -1) for item_id in item_ids]
        rows = np.array(known, dtype=np.int64)
        unknown = list(dict.fromkeys(item_ids[row] for row in np.flatnonzero(rows < 0)))
        if not unknown:
            return rows, []
        named = ", ".join(map(shown, unknown[:NAMED])) + (", ..." if unknown[NAMED:] else "")
        what = f"{named} is" if len(unknown) == 1 else f"{len(unknown)} items ({named}) are"
        return rows, [f"{field}: {what} not in the catalogue and left out"]

    def find_some(self, field: str, item_ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """Item indices, int64, of what may be recommended, and a note that names the rest.

        Raises:
            CatalogError: if there are identifiers and none is in the catalogue.
        """
        rows, notes = self.find(field, item_ids, self.removed)
        if len(rows) and (rows < 0).all():
            raise CatalogError(f"{field}: {item_ids[0]!r} is not in the catalogue")
        return rows[rows >= 0], notes

    def constraints(self, request: RecommendRequest) -> tuple[Constraints, list[str]]:
        """What a request may be answered with, beside its history, and notes on unknown items.

        Raises:
            CatalogError: if no item of the allow-list is in the catalogue.
            CatalogError, ConfigError: see :meth:`CatalogFilter.passes`.
        """
        exclude, notes = self.find("exclude", request.exclude)
        if request.allow is not None:
            notes += self._allowed(tuple(request.allow))[1]
        allowed = self.filter(request.catalog_filter, request.allow)
        return Constraints(exclude[exclude >= 0], allowed), notes

    def filter(
        self, where: CatalogFilter | None, allow: Sequence[str] | None = None
    ) -> ItemFilter | None:
        """The items that pass and are in the allow-list; None for all.

        Worked out once for filters and allow-lists that come again, so that what the search keeps
        of an :class:`ItemFilter` is made once as well.

        Raises:
            CatalogError, ConfigError: as for :meth:`constraints`.
        """
        where = None if where == EVERYTHING else where
        if allow is not None:
            return self._allow_filter(where, tuple(allow))
        return self._available if where is None else self._where_filter(where)

    def named(
        self, ranking: Ranking, n: int, reason: str, sources: tuple[str, ...] = ()
    ) -> list[Recommendation]:
        """The first n of a ranking for one user."""
        pairs = zip(ranking.items[0][:n].tolist(), ranking.scores[0][:n].tolist(), strict=True)
        return [
            Recommendation(
                self.item_ids[item], self.titles[item], rank, score, reason, sources=sources
            )
            for rank, (item, score) in enumerate(pairs, start=1)
            if score > -np.inf  # padding, always at the end
        ]

    def listed(self, found: ItemList, n: int) -> list[Recommendation]:
        """The first n of a list."""
        return [
            Recommendation(
                self.item_ids[item],
                self.titles[item],
                at + 1,
                float(found.scores[at]),
                found.reasons[at],
                sources=tuple(found.sources[at]),
            )
            for at, item in enumerate(found.items[:n].tolist())
        ]

    @cached_property
    def available_from(self) -> np.ndarray:
        """When each item came into the catalogue, float64 seconds since 1970 UTC; NaN unknown."""
        times = self.catalogue[_SINCE].to_numpy(zero_copy_only=False)
        return np.asarray(times, dtype=np.float64)

    def facts(self, item_id: str) -> dict[str, Any]:
        """What the catalogue says of an item beside its title, without what it does not know."""
        names = [name for name in COLUMNS if name in self.catalogue.column_names]
        (row,) = self.catalogue.select(names).slice(self.index[item_id], 1).to_pylist()
        found = {name: value for name, value in row.items() if value is not None}
        pairs = [pair.split("=", 1) for pair in found.get("attributes", ())]
        return found | {"attributes": dict(pairs)}

    def _make_where_filter(self, where: CatalogFilter) -> ItemFilter:
        found = ItemFilter(where.passes(self.catalogue))
        return found if self._available is None else found & self._available

    def _make_allow_filter(self, where: CatalogFilter | None, allow: tuple[str, ...]) -> ItemFilter:
        allowed, _ = self._allowed(allow)
        return allowed if where is None else allowed & self._where_filter(where)

    def _find_allowed(self, allow: tuple[str, ...]) -> tuple[ItemFilter, list[str]]:
        rows, notes = self.find_some("allow", allow)
        return ItemFilter.of_items(rows, len(self)), notes

    @cached_property
    def domains(self) -> list[str]:
        """The domain of every item; empty for an item without one."""
        if "domain" not in self.catalogue.column_names:
            return [""] * len(self)
        return [name or "" for name in self.catalogue["domain"].to_pylist()]

    @cached_property
    def catalogue(self) -> pa.Table:
        """What a filter may ask about, those columns that there are, and when items came."""
        with reading(self._path, "llmrec bundle"):
            names = pq.read_schema(self._path).names
        found = _read(self._path, [name for name in (*COLUMNS, _SINCE) if name in names])
        if _SINCE not in names:
            found = found.append_column(_SINCE, pa.nulls(len(self), pa.float64()))
        return found


def _read(path: Path, columns: list[str]) -> pa.Table:
    with reading(path, "llmrec bundle"):
        return pq.read_table(path, columns=columns)
