"""What is known of the items: vectors, what is said of them, price, arrival, and how they fared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec.errors import ArtifactError, DataError
from llmrec.ranking.ctr.lists import Lists
from llmrec.ranking.ctr.log import KIND, Log, sums_before
from llmrec.ranking.ctr.moments import DAY

# What is counted of an item; "shown" and "clicked" are examples, whatever gave them.
COUNTS = ("shown", "clicked", "bought", "returned", "rated", "stars")
_ARRAYS, _NAMES = "shelf.safetensors", "shelf.json"


@dataclass(frozen=True, eq=False)
class Shelf:
    """The items as a click model sees them; row = item index.

    Attributes:
        fused: float32 ``[items, dim]``, unit rows; zero rows where an item has nothing.
        fields: int32 ``[items, fields]``, ids of what is said in each closed field.
        field_names, field_sizes: of these columns.
        token_ids: int32 ``[total]``; ``token_offsets`` int64 ``[items + 1]``: words of captions.
        token_size: ids of words.
        price: float32 ``[items]``; NaN unknown.
        arrived: float64 ``[items]``, when it was first seen; inf for never.
        category: int32 ``[items]``, of the catalogue's own last category; -1 for none.
        categories: their names.
        totals: float64 ``[items, len(COUNTS)]``, as of the newest time that was learned from.
    """

    fused: np.ndarray
    fields: np.ndarray
    field_names: tuple[str, ...]
    field_sizes: tuple[int, ...]
    token_ids: np.ndarray
    token_offsets: np.ndarray
    token_size: int
    price: np.ndarray
    arrived: np.ndarray
    category: np.ndarray
    categories: tuple[str, ...]
    totals: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.fused)
        for name in ("fields", "price", "arrived", "category", "totals"):
            if len(getattr(self, name)) != n:
                raise DataError(f"{name} is of {len(getattr(self, name))} items, fused of {n}")
        if not np.isfinite(self.fused).all():
            row = int(np.flatnonzero(~np.isfinite(self.fused).all(axis=1))[0])
            raise DataError(f"the fused vector of item {row} is not finite")

    @property
    def n_items(self) -> int:
        return len(self.fused)

    def padded_tokens(self) -> np.ndarray:
        """int32 ``[items, most words of one]``, 0 pads."""
        lengths = np.diff(self.token_offsets)
        width = max(1, int(lengths.max(initial=0)))
        padded = np.zeros((self.n_items, width), dtype=np.int32)
        padded[np.arange(width)[None] < lengths[:, None]] = self.token_ids
        return padded

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        arrays = {n: v for n, v in vars(self).items() if isinstance(v, np.ndarray)}
        save_file({n: np.ascontiguousarray(v) for n, v in arrays.items()}, folder / _ARRAYS)
        names = {n: v for n, v in vars(self).items() if n not in arrays}
        (folder / _NAMES).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Shelf:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if a file is missing or damaged.
        """
        try:
            names = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
            lists = {n: tuple(v) if isinstance(v, list) else v for n, v in names.items()}
            parts: dict[str, Any] = {**load_file(folder / _ARRAYS), **lists}
            return cls(**parts)
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise ArtifactError(
                f"{folder}: its items cannot be read ({error}); run llmrec ctr again"
            ) from None


@dataclass(frozen=True, eq=False)
class Happenings:
    """What happened to items, to be summed up to any time.

    Attributes:
        item: int32 ``[events]``; time: float64 ``[events]``.
        values: float32 ``[events, len(COUNTS)]``, what each adds.
    """

    item: np.ndarray
    time: np.ndarray
    values: np.ndarray

    def before(self, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Sums of before the day of a time, as a shop that counts at night knows them.

        Args:
            items: int ``[asked]``; times: float64 ``[asked]``.

        Returns:
            float64 ``[asked, len(COUNTS)]``.
        """
        return sums_before(
            self.item, self.time, self.values.astype(np.float64), items, np.floor(times / DAY) * DAY
        )

    def totals(self, n_items: int) -> np.ndarray:
        """Sums of everything, float64 ``[n_items, len(COUNTS)]``."""
        return np.stack(
            [np.bincount(self.item, column, n_items) for column in self.values.T], axis=1
        )


def happenings(lists: Lists, log: Log) -> Happenings:
    """What examples and the log tell of items."""
    where, place = np.nonzero(lists.mask)
    shown = np.zeros((len(where), len(COUNTS)), dtype=np.float32)
    shown[:, 1] = lists.click[where, place]
    # a drawn negative stands for as many as were not drawn, a choice for itself
    drawn = np.exp(-lists.log_copies[where, place])
    shown[:, 0] = np.where(shown[:, 1] > 0, 1.0, drawn)
    after = np.zeros((len(log), len(COUNTS)), dtype=np.float32)
    after[:, 2] = log.kind == KIND["purchase"]
    after[:, 3] = log.kind == KIND["return"]
    after[:, 4] = ~np.isnan(log.rating)
    after[:, 5] = np.nan_to_num(log.rating)
    tells = after.any(axis=1)
    return Happenings(
        np.concatenate([lists.items[where, place], log.item[tells]]),
        np.concatenate([lists.time[where], log.time[tells]]),
        np.concatenate([shown, after[tells]]),
    )


def first_seen(lists: Lists, log: Log, n_items: int) -> np.ndarray:
    """When each item was first shown or chosen, float64 ``[n_items]``; inf for never."""
    where, place = np.nonzero(lists.mask)
    first = np.full(n_items, np.inf)
    np.minimum.at(first, lists.items[where, place], lists.time[where])
    np.minimum.at(first, log.item, log.time)
    return first
