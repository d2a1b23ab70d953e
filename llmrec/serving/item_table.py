"""The items of a bundle: from the shop's own identifiers to item indices and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.errors import ArtifactError, CatalogError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.serving.filters import COLUMNS, CatalogFilter
from llmrec.types import Ranking, Recommendation

FILTERS = 32  # filters whose items are kept


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
        self._filter = lru_cache(FILTERS)(self._make_filter)

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

    def filter(self, where: CatalogFilter | None) -> ItemFilter | None:
        """The items that pass, worked out once for a filter that comes again; None for all.

        Raises:
            CatalogError, ConfigError: see :meth:`CatalogFilter.passes`.
        """
        return None if where in (None, CatalogFilter()) else self._filter(where)

    def passing(self, limits: Constraints) -> np.ndarray:
        """What may be recommended, bool ``[items]``."""
        passes = np.ones(len(self), dtype=bool)
        if limits.allow is not None:
            passes[:] = False
            passes[limits.allow] = True
        if limits.where is not None:
            passes &= limits.where.passes
        passes[limits.exclude] = False
        return passes

    def named(self, ranking: Ranking, n: int, reason: str) -> list[Recommendation]:
        """The first n of a ranking for one user."""
        pairs = zip(ranking.items[0][:n].tolist(), ranking.scores[0][:n].tolist(), strict=True)
        return [
            Recommendation(self.item_ids[item], self.titles[item], rank, score, reason)
            for rank, (item, score) in enumerate(pairs, start=1)
            if score > -np.inf  # padding, always at the end
        ]

    def _make_filter(self, where: CatalogFilter) -> ItemFilter:
        return ItemFilter(where.passes(self._catalogue))

    @cached_property
    def _catalogue(self) -> pa.Table:
        """What a filter may ask about, those columns that there are."""
        try:
            names = pq.read_schema(self._path).names
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self._path, error) from None
        return _read(self._path, [name for name in COLUMNS if name in names])


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    reason = " ".join(str(error).split())
    return ArtifactError(f"{path}: cannot be read ({reason}); run llmrec bundle again")
