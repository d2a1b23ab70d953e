"""Open what ``llmrec ingest`` wrote.

A dataset folder holds

* ``items.parquet``: one row an item; the row number is the *item index* used everywhere
  (columns: ``item_id, title, description, brand, categories, price, attributes, image,
  video, audio, in_stock, domain``; ``categories`` a list of strings, ``attributes`` a list
  of ``"name=value"`` strings);
* ``users.parquet``: ``user_id``; the row number is the *user index*; users without a sequence,
  who only have events of other types, come last; where a file described users, also
  ``attributes``, a list of ``"name=value"`` strings such as ``"membership=gold"``;
* ``events.parquet``: sorted by user, then time: ``user`` int32, ``item`` int32, ``type``,
  ``timestamp`` float64 seconds (null when unknown), ``rating``, ``text``, ``session``,
  ``context`` (JSON text), ``split`` (0 train, 1 validation, 2 test; -1: part of histories and
  of no split; -2: of a type that sequence models do not learn from, in no history); of a dataset
  that was split by baskets also ``basket`` int32, its number, rising with the rows (-1 for
  events in no history), and events are sorted by user, basket, then time.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec.errors import ConfigError, DataError
from llmrec.stage import MANIFEST, Manifest, read_manifest, reading
from llmrec.types import Cases, Histories, Item

Split = Literal["train", "validation", "test"]
SPLIT_CODES: dict[str, int] = {"train": 0, "validation": 1, "test": 2}
HISTORY_ONLY, OTHER_TYPE = -1, -2


class Dataset:
    """A dataset folder, read lazily column by column."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(folder, "ingest")

    @cached_property
    def items(self) -> pa.Table:
        """The catalogue table; row number = item index."""
        return _read(self.folder / "items.parquet", "item_id")

    @property
    def n_items(self) -> int:
        return self.items.num_rows

    @cached_property
    def item_ids(self) -> list[str]:
        """The shop's identifier of every item, by item index."""
        return self.items["item_id"].to_pylist()

    @cached_property
    def item_domains(self) -> list[str]:
        """The domain of every item, by item index; empty where there is none."""
        if "domain" not in self.items.column_names:
            return [""] * self.n_items
        return [name or "" for name in self.items["domain"].to_pylist()]

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Item index by the shop's identifier."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    def item_names(self, field: str) -> list[str]:
        """``item_id``, or an attribute of the items, by item index; "" for an item without it.

        Raises:
            ConfigError: if no item has the attribute.
        """
        if field == "item_id":
            return self.item_ids
        start = f"{field}="
        if "attributes" not in self.items.column_names:
            rows: list[list[str] | None] = []
        else:
            rows = self.items["attributes"].to_pylist()
        names = [
            next((pair[len(start) :] for pair in row or () if pair.startswith(start)), "")
            for row in rows
        ]
        if not any(names):
            known = sorted({pair.split("=", 1)[0] for row in rows for pair in row or ()})
            raise ConfigError(
                f"name_field: no item of {self.folder} has an attribute {field!r}; there is "
                f"{', '.join(['item_id', *known])}"
            )
        return names

    def item(self, index: int) -> Item:
        """One catalogue row as an :class:`~llmrec.types.Item`.

        Raises:
            ArtifactError: if the catalogue has other columns than ingest writes.
        """
        with reading(self.folder / "items.parquet", "llmrec ingest"):
            row = self.items.slice(index, 1).to_pylist()[0]
            row["attributes"] = dict(pair.split("=", 1) for pair in row["attributes"] or [])
            row["categories"] = tuple(row["categories"] or ())
            row |= {name: row[name] or "" for name in ("title", "description", "brand", "domain")}
            return Item(**row)

    @cached_property
    def users(self) -> pa.Table:
        """The table of users; row number = user index."""
        return _read(self.folder / "users.parquet", "user_id")

    @cached_property
    def all_user_ids(self) -> list[str]:
        """The shop's identifier of every user, by user index."""
        return self.users["user_id"].to_pylist()

    @cached_property
    def user_attributes(self) -> list[dict[str, str]]:
        """What is known of every user, such as ``{"membership": "gold"}``, by user index."""
        if "attributes" not in self.users.column_names:
            return [{} for _ in self.all_user_ids]
        return [
            dict(pair.split("=", 1) for pair in pairs or ())
            for pairs in self.users["attributes"].to_pylist()
        ]

    @property
    def user_ids(self) -> list[str]:
        """Those of users with a sequence, by user index."""
        with reading(self.folder / MANIFEST, "llmrec ingest"):
            without_sequence = self.manifest.counts.get("users_without_sequence", 0)
            return self.all_user_ids[: len(self.all_user_ids) - without_sequence]

    @property
    def events(self) -> pa.Table:
        """Every event, all columns; read anew each time, since it may be large."""
        return _read(self.folder / "events.parquet", "user", "item", "split")

    @property
    def sequence_events(self) -> pa.Table:
        """The events of histories, which sequence models learn from; all columns, read anew."""
        return _of_sequences(self.events)

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        path = self.folder / "events.parquet"
        columns = ["user", "item", "timestamp", "split"]
        with reading(path, "llmrec ingest"):
            columns += [name for name in pq.read_schema(path).names if name == "basket"]
        table = _of_sequences(_read(path, columns=columns))
        return {
            name: table[name].to_numpy().astype(np.float64 if name == "timestamp" else np.int32)
            for name in columns
        }

    def history(self, user: int) -> np.ndarray:
        """The sequence of one user, oldest first: int32 item indices."""
        c = self._columns
        start, end = np.searchsorted(c["user"], [user, user + 1])
        return c["item"][start:end]

    def times(self, user: int) -> np.ndarray | None:
        """When the events of :meth:`history` happened, float64 seconds; None without times."""
        start, end = np.searchsorted(self._columns["user"], [user, user + 1])
        return self._times(slice(start, end))

    def is_train(
        self, share: float = 1.0, *, validation: bool = False, user_share: float = 1.0
    ) -> np.ndarray:
        """Which rows of :attr:`sequence_events` are training events: bool ``[events]``.

        Args:
            share: of these events, the earliest by time, that are taken.
            validation: the events of the validation part count as well.
            user_share: of the users, the events of whom are taken (:meth:`is_drawn`).

        Raises:
            DataError: for a share of events whose times are not known.
        """
        c = self._columns
        keep: np.ndarray = c["split"] == SPLIT_CODES["train"]
        if validation:
            keep |= c["split"] == SPLIT_CODES["validation"]
        if user_share < 1:
            keep &= self.is_drawn(user_share)[c["user"]]
        if share < 1:
            times = c["timestamp"][keep]
            if np.isnan(times).any():
                raise DataError(
                    f"{self.folder}: its events have no times, so there are no earliest ones; set "
                    "share: 1"
                )
            keep &= c["timestamp"] <= np.quantile(times, share)
        return keep

    def is_drawn(self, user_share: float) -> np.ndarray:
        """A share of the users, drawn at random: bool ``[users with a sequence]``.

        The same users for every seed of a training, and those of a smaller share are among those of
        a larger one. At least one.
        """
        order = np.random.default_rng(0).permutation(len(self.user_ids))
        drawn: np.ndarray = order < max(1, round(user_share * len(order)))
        return drawn

    def train_histories(
        self, share: float = 1.0, *, validation: bool = False, user_share: float = 1.0
    ) -> Histories:
        """Every user's training events; users without any have an empty history.

        Args:
            share, validation, user_share: as for :meth:`is_train`.

        Raises:
            DataError: for a share of events whose times are not known.
        """
        c = self._columns
        keep = self.is_train(share, validation=validation, user_share=user_share)
        counts = np.bincount(c["user"][keep], minlength=len(self.user_ids))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Histories(c["item"][keep], offsets, self._times(keep))

    @property
    def has_baskets(self) -> bool:
        """Whether what comes next is a basket of items, as the dataset was split."""
        return "basket" in self._columns

    def cases(self, split: Split) -> Cases:
        """One case an event of ``split``: all earlier events of its user, then the event.

        With baskets, one for each item of a basket of ``split``: all events of the user before
        the basket, then the item.
        """
        c = self._columns
        targets = np.flatnonzero(c["split"] == SPLIT_CODES[split])
        ends, basket = targets, None
        if self.has_baskets:
            pairs = c["basket"][targets].astype(np.int64) * self.n_items + c["item"][targets]
            targets = targets[np.sort(np.unique(pairs, return_index=True)[1])]
            ends = np.searchsorted(c["basket"], c["basket"][targets])
            basket = np.unique(ends, return_inverse=True)[1]
        users = c["user"][targets]
        starts = np.searchsorted(c["user"], users)  # events are sorted by user
        times = self._times(slice(None))
        now = None if times is None else times[ends]
        histories = Histories.from_spans(c["item"], starts, ends, times, now)
        return Cases(users, histories, c["item"][targets], basket)

    def _times(self, rows: np.ndarray | slice) -> np.ndarray | None:
        times = self._columns["timestamp"]
        return None if np.isnan(times).all() else times[rows]


def _of_sequences(events: pa.Table) -> pa.Table:
    return events.filter(pc.not_equal(events["split"], OTHER_TYPE))


def _read(path: Path, *required: str, columns: list[str] | None = None) -> pa.Table:
    """A file of the dataset.

    Args:
        required: columns that it must have, beside ``columns``.

    Raises:
        ArtifactError: if it cannot be read or lacks one.
    """
    with reading(path, "llmrec ingest"):
        table = pq.read_table(path, columns=columns)
        table.validate(full=True)  # what it calls text is UTF-8
        for name in (*required, *(columns or ())):
            if name not in table.column_names:
                raise ValueError(f"no column {name!r}")
        return table
