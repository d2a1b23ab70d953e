"""Items as the click model reads them: vectors, caption fields, price, availability, counters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrec.captions.categorical import CategoricalFeatures
from llmrec.data.dataset import Dataset
from llmrec.data.event_store import EVENT_CODES, EventStore, sums_before
from llmrec.errors import DataError
from llmrec.jsonl import read_json
from llmrec.ranking.ctr.impressions import Impressions
from llmrec.ranking.ctr.request_context import DAY
from llmrec.stage import reading

# Counted of an item; impressions and clicks are examples, whatever kind of label gave them.
COUNTERS = ("impressions", "clicks", "purchases", "returns", "ratings", "rating_sum")
_ARRAYS, _NAMES = "item_features.safetensors", "item_features.json"


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """The items of a click model; row = item index.

    Attributes:
        fused: float32 ``[items, dim]``, unit rows; zero rows where an item has nothing.
        fields: int32 ``[items, fields]``, ids of the values of closed caption fields.
        field_names, field_sizes: of these columns.
        token_ids: int32 ``[total]``; ``token_offsets`` int64 ``[items + 1]``: words of captions.
        token_size: ids of words.
        price: float32 ``[items]``; NaN unknown.
        available_from: float64 ``[items]``, when it came into the catalogue; NaN unknown.
        category: int32 ``[items]``, of the catalogue's own last category; -1 for none.
        categories: their names.
        totals: float64 ``[items, len(COUNTERS)]``, as of the newest time that was learned from.
        watched: float32 ``[items]``, share of its video that is expected to be watched; NaN
            unknown. None where nothing is known of any.
    """

    fused: np.ndarray
    fields: np.ndarray
    field_names: tuple[str, ...]
    field_sizes: tuple[int, ...]
    token_ids: np.ndarray
    token_offsets: np.ndarray
    token_size: int
    price: np.ndarray
    available_from: np.ndarray
    category: np.ndarray
    categories: tuple[str, ...]
    totals: np.ndarray
    watched: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.fused)
        for name in ("fields", "price", "available_from", "category", "totals"):
            if len(getattr(self, name)) != n:
                raise DataError(f"{name} is of {len(getattr(self, name))} items, fused of {n}")
        if not np.isfinite(self.fused).all():
            row = int(np.flatnonzero(~np.isfinite(self.fused).all(axis=1))[0])
            raise DataError(f"the fused vector of item {row} is not finite")

    @property
    def n_items(self) -> int:
        return len(self.fused)

    def with_items(self, rows: Sequence[Mapping[str, Any]], fused: np.ndarray) -> ItemFeatures:
        """The same with more items, of which nothing was counted yet and no caption is known.

        Args:
            rows: of a catalogue, with ``price``, ``available_from`` and ``categories``.
            fused: float32 ``[new items, dim]``.
        """
        new, more = len(rows), (0, len(rows))
        grown = replace(
            self,
            fused=np.concatenate([self.fused, fused.astype(np.float32)]),
            fields=np.pad(self.fields, (more, (0, 0))),
            token_offsets=np.pad(self.token_offsets, more, mode="edge"),
            price=np.pad(self.price, more),
            available_from=np.pad(self.available_from, more),
            category=np.pad(self.category, more),
            totals=np.pad(self.totals, (more, (0, 0))),
            watched=None
            if self.watched is None
            else np.pad(self.watched, more, constant_values=np.nan),
        )
        return grown.with_rows(np.arange(self.n_items, self.n_items + new), rows)

    def with_rows(self, items: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> ItemFeatures:
        """The same with another price, time and category of some items.

        Args:
            items: int64 ``[changed]``, their indices.
            rows: of each, as for :meth:`with_items`.
        """
        code = {name: number for number, name in enumerate(self.categories)}
        last = [(row["categories"] or [""])[-1] for row in rows]
        changed = {
            "price": [row["price"] for row in rows],
            "available_from": [row["available_from"] for row in rows],
            "category": [code.get(name, -1) for name in last],
        }
        columns = {name: getattr(self, name).copy() for name in changed}
        for name, values in changed.items():
            columns[name][items] = np.array(values, dtype=np.float64)  # NaN for None
        return replace(self, **columns)

    def available(self, times: np.ndarray) -> np.ndarray:
        """Which items are in the catalogue at some times: bool ``[times, items]``."""
        return ~(self.available_from > times[:, None])  # unknown ones are always there

    def padded_tokens(self) -> np.ndarray:
        """int32 ``[items, most words of one]``, 0 pads."""
        lengths = np.diff(self.token_offsets)
        width = max(1, int(lengths.max(initial=0)))
        padded = np.zeros((self.n_items, width), dtype=np.int32)
        padded[np.arange(width)[None] < lengths[:, None]] = self.token_ids
        return padded

    def save(self, folder: Path) -> None:
        """Write them into a folder."""
        arrays = {n: v for n, v in vars(self).items() if isinstance(v, np.ndarray)}
        save_file({n: np.ascontiguousarray(v) for n, v in arrays.items()}, folder / _ARRAYS)
        names = {n: v for n, v in vars(self).items() if n not in arrays}
        (folder / _NAMES).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ItemFeatures:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if a file is missing or damaged.
        """
        with reading(folder / _ARRAYS, "llmrec ctr"):
            names = read_json(folder / _NAMES)
            lists = {n: tuple(v) if isinstance(v, list) else v for n, v in names.items()}
            parts: dict[str, Any] = {**load_file(folder / _ARRAYS), **lists}
            return cls(**parts)


def make_item_features(
    dataset: Dataset,
    fused: np.ndarray,
    captions: CategoricalFeatures | None,
    totals: np.ndarray,
    watched: np.ndarray | None = None,
) -> ItemFeatures:
    """The items of a dataset.

    Args:
        fused: float32 ``[items, dim]``.
        captions: as integers, or None.
        totals: float64 ``[items, len(COUNTERS)]``.
        watched: float32 ``[items]``, of ``llmrec train engagement``, or None.

    Raises:
        DataError: if a part is of another catalogue.
    """
    n = dataset.n_items
    sizes = {"fused vectors": len(fused), "captions": n if captions is None else captions.n_items}
    sizes["predictions of what is watched"] = n if watched is None else len(watched)
    for name, count in sizes.items():
        if count != n:
            raise DataError(f"the {name} are of {count} items, {dataset.folder} has {n}")
    names = () if captions is None else tuple(captions.fields)
    last = [row[-1] if row else "" for row in dataset.items["categories"].to_pylist()]
    known = tuple(sorted({name for name in last if name}))
    code = {name: number for number, name in enumerate(known)}
    fields = np.zeros((n, 0), np.int32)
    if captions is not None:
        fields = np.stack([captions.fields[name] for name in names], axis=1).astype(np.int32)
    return ItemFeatures(
        fused=fused.astype(np.float32),
        fields=fields,
        field_names=names,
        field_sizes=() if captions is None else tuple(captions.sizes[name] for name in names),
        token_ids=np.zeros(0, np.int32) if captions is None else captions.token_ids,
        token_offsets=np.zeros(n + 1, np.int64) if captions is None else captions.token_offsets,
        token_size=0 if captions is None else captions.sizes["tokens"],
        price=_column(dataset, "price").astype(np.float32),
        available_from=available_from(dataset),
        category=np.array([code.get(name, -1) for name in last], dtype=np.int32),
        categories=known,
        totals=totals,
        watched=watched,
    )


def available_from(dataset: Dataset) -> np.ndarray:
    """When each item came into the catalogue, as the catalogue says: float64 ``[items]``, NaN
    unknown. Never from the log: there a new item would begin to exist at the click to predict."""
    if "available_from" in dataset.items.column_names:
        return _column(dataset, "available_from")
    return np.full(dataset.n_items, np.nan)


def _column(dataset: Dataset, name: str) -> np.ndarray:
    return dataset.items[name].to_numpy(zero_copy_only=False).astype(np.float64)


@dataclass(frozen=True, eq=False)
class ItemCounters:
    """What is counted of items, to be summed up to any time.

    Attributes:
        item: int32 ``[events]``; time: float64 ``[events]``.
        values: float32 ``[events, len(COUNTERS)]``, what each adds.
    """

    item: np.ndarray
    time: np.ndarray
    values: np.ndarray

    def before(self, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Sums up to the last midnight before a time, as a nightly job knows them.

        Args:
            items: int ``[queries]``; times: float64 ``[queries]``.

        Returns:
            float64 ``[queries, len(COUNTERS)]``.
        """
        midnight = np.floor(times / DAY) * DAY
        return sums_before(self.item, self.time, self.values.astype(np.float64), items, midnight)

    def totals(self, n_items: int) -> np.ndarray:
        """Sums of everything, float64 ``[n_items, len(COUNTERS)]``."""
        sums = [np.bincount(self.item, column, n_items) for column in self.values.T]
        return np.stack(sums, axis=1)


def count_events(impressions: Impressions, log: EventStore) -> ItemCounters:
    """The counters of impressions and of a log."""
    where, column = np.nonzero(impressions.mask)
    of_impressions = np.zeros((len(where), len(COUNTERS)), dtype=np.float32)
    of_impressions[:, 1] = impressions.click[where, column]
    # a sampled negative stands for as many as were not sampled, a positive for itself
    weight = np.exp(-impressions.log_sampling_rate[where, column])
    of_impressions[:, 0] = np.where(of_impressions[:, 1] > 0, 1.0, weight)
    of_log = np.zeros((len(log), len(COUNTERS)), dtype=np.float32)
    of_log[:, 2] = log.kind == EVENT_CODES["purchase"]
    of_log[:, 3] = log.kind == EVENT_CODES["return"]
    of_log[:, 4] = ~np.isnan(log.rating)
    of_log[:, 5] = np.nan_to_num(log.rating)
    counted = of_log.any(axis=1)
    return ItemCounters(
        np.concatenate([impressions.items[where, column], log.item[counted]]),
        np.concatenate([impressions.time[where], log.time[counted]]),
        np.concatenate([of_impressions, of_log[counted]]),
    )


def prior_rates(totals: np.ndarray) -> tuple[float, float, float, float]:
    """Click, purchase and return rate and mean rating over all items, never 0.

    Args:
        totals: float64 ``[items, len(COUNTERS)]``.
    """
    impressions, clicks, purchases, returns, ratings, rating_sum = totals.sum(axis=0).tolist()
    return (
        (clicks + 0.5) / (impressions + 1.0),
        (purchases + 0.5) / (clicks + 1.0),
        (returns + 0.5) / (purchases + 1.0),
        (rating_sum + 3.0) / (ratings + 1.0),
    )
