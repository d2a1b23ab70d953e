"""The items of a bundle: from the shop's own identifiers to item indices and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.errors import CatalogError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.serving.filters import COLUMNS, CatalogFilter
from llmrec.stage import reading
from llmrec.types import Ranking, Recommendation

if TYPE_CHECKING:
    from llmrec.serving.request import RecommendRequest

FILTERS = 32  # catalogue filters that are kept, and as many allow-lists


class ItemTable:
    """What a service needs of ``items.parquet``.

    Args:
        path: the file.

    Attributes:
        item_ids, titles: by item index.
        index: item index by identifier.

    Raises:
        ArtifactError: if the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        items = _read(path, ["item_id", "title"])
        self.item_ids: list[str] = items["item_id"].to_pylist()
        self.titles: list[str] = items["title"].to_pylist()
        self.index = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self._where_filter = lru_cache(FILTERS)(self._make_where_filter)
        self._allow_filter = lru_cache(FILTERS)(self._make_allow_filter)

    def __len__(self) -> int:
        return len(self.item_ids)

    def rows(self, field: str, item_ids: Sequence[str]) -> np.ndarray:
        """Item indices, int64.

        Raises:
            CatalogError: for an identifier that is not in the catalogue, naming ``field``.
        """
        for item_id in item_ids:
            if item_id not in self.index:
                raise CatalogError(f"{field}: {item_id!r} is not in the catalogue")
        return np.array([self.index[item_id] for item_id in item_ids], dtype=np.int64)

    def constraints(self, request: RecommendRequest) -> Constraints:
        """What a request may be answered with, beside its history.

        Raises:
            CatalogError: for an identifier that is not in the catalogue.
            CatalogError, ConfigError: see :meth:`CatalogFilter.passes`.
        """
        exclude = self.rows("exclude", request.exclude)
        return Constraints(exclude, self.filter(request.catalog_filter, request.allow))

    def filter(
        self, where: CatalogFilter | None, allow: Sequence[str] | None = None
    ) -> ItemFilter | None:
        """The items that pass and are in the allow-list; None for all.

        Worked out once for filters and allow-lists that come again, so that what the search keeps
        of an :class:`ItemFilter` is made once as well.

        Raises:
            CatalogError, ConfigError: as for :meth:`constraints`.
        """
        where = None if where == CatalogFilter() else where
        if allow is not None:
            return self._allow_filter(where, tuple(allow))
        return None if where is None else self._where_filter(where)

    def named(self, ranking: Ranking, n: int, reason: str) -> list[Recommendation]:
        """The first n of a ranking for one user."""
        pairs = zip(ranking.items[0][:n].tolist(), ranking.scores[0][:n].tolist(), strict=True)
        return [
            Recommendation(self.item_ids[item], self.titles[item], rank, score, reason)
            for rank, (item, score) in enumerate(pairs, start=1)
            if score > -np.inf  # padding, always at the end
        ]

    def _make_where_filter(self, where: CatalogFilter) -> ItemFilter:
        return ItemFilter(where.passes(self._catalogue))

    def _make_allow_filter(self, where: CatalogFilter | None, allow: tuple[str, ...]) -> ItemFilter:
        allowed = ItemFilter.of_items(self.rows("allow", allow), len(self))
        return allowed if where is None else allowed & self._where_filter(where)

    @cached_property
    def _catalogue(self) -> pa.Table:
        """What a filter may ask about, those columns that there are."""
        with reading(self._path, "llmrec bundle"):
            names = pq.read_schema(self._path).names
        return _read(self._path, [name for name in COLUMNS if name in names])


def _read(path: Path, columns: list[str]) -> pa.Table:
    with reading(path, "llmrec bundle"):
        return pq.read_table(path, columns=columns)
