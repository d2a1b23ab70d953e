"""Negatives for DPO: items shown in a list and not clicked, or viewed in a session."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.dataset import SPLIT_CODES, Dataset
from llmrec.data.impression_reader import read_shown
from llmrec.stage import reading


@dataclass(frozen=True)
class TrainEvents:
    """Types and sessions of the training events, in the order of the training histories.

    Attributes:
        user, item: int ``[events]``.
        type, session: text ``[events]``, empty where the dataset has none.
    """

    user: np.ndarray
    item: np.ndarray
    type: list[str]
    session: list[str]

    @classmethod
    def read(cls, dataset: Dataset) -> TrainEvents:
        """The events of the training split.

        Raises:
            ArtifactError: if the file cannot be read.
        """
        path = dataset.folder / "events.parquet"
        with reading(path, "llmrec ingest"):
            there = pq.read_schema(path).names
            wanted = ["user", "item", "split", "type", "session"]
            table = pq.read_table(path, columns=[name for name in wanted if name in there])
        table = table.filter(pa.array(table["split"].to_numpy() == SPLIT_CODES["train"]))

        def texts(name: str) -> list[str]:
            if name not in table.column_names:
                return [""] * table.num_rows
            return [value or "" for value in table[name].to_pylist()]

        user, item = table["user"].to_numpy(), table["item"].to_numpy()
        return cls(user, item, texts("type"), texts("session"))

    def chosen(self, types: list[str]) -> np.ndarray:
        """Which events choose an item, bool ``[events]``: those of some types, or without one."""
        return np.array([kind in types or not kind for kind in self.type], dtype=bool)


class SessionNegatives:
    """Negatives from the views in the session of a training event."""

    def __init__(self, events: TrainEvents) -> None:
        self.events = events
        self._viewed: dict[tuple[int, str], list[int]] = defaultdict(list)
        rows = zip(
            events.user.tolist(), events.session, events.item.tolist(), events.type, strict=True
        )
        for user, session, item, kind in rows:
            if kind == "view" and session:
                self._viewed[user, session].append(item)

    def __len__(self) -> int:
        return sum(map(len, self._viewed.values()))

    def negatives(self, event: int, time: float | None) -> np.ndarray:
        """Items viewed in the session of a training event, int64."""
        key = int(self.events.user[event]), self.events.session[event]
        return np.array(self._viewed.get(key, []), dtype=np.int64)


class ListNegatives:
    """Negatives from lists that were shown, in a log of any form of ``impression_reader``.

    Lists of other users, and items that are not in the catalogue, are left out. Lists in which
    nothing was clicked are not used; a list without a time counts as earlier than any event.

    Attributes:
        notes: a line on what was left out.

    Raises:
        DataError: if the log cannot be read, naming file, row and field.
    """

    def __init__(self, path: Path, dataset: Dataset, events: TrainEvents) -> None:
        self.events = events
        self._shown: dict[tuple[int, int], list[tuple[float, np.ndarray]]] = defaultdict(list)
        users = {user_id: row for row, user_id in enumerate(dataset.user_ids)}
        lists = read_shown(path, users, dataset.item_index, timed=False)
        self.notes = lists.notes()
        times = np.nan_to_num(lists.time, nan=-np.inf)
        for number in np.flatnonzero(lists.user >= 0).tolist():
            shown = slice(lists.offsets[number], lists.offsets[number + 1])
            item, clicked = lists.item[shown], lists.clicked[shown] == 1
            passed = item[~clicked & (item >= 0)].astype(np.int64)
            for one in item[clicked & (item >= 0)].tolist():
                key = int(lists.user[number]), one
                self._shown[key].append((float(times[number]), passed))

    def __len__(self) -> int:
        return sum(map(len, self._shown.values()))

    def negatives(self, event: int, time: float | None) -> np.ndarray:
        """Items not clicked in the list in which a training event was a click, int64.

        The latest such list before the event, where the same item was clicked in several.
        """
        key = int(self.events.user[event]), int(self.events.item[event])
        lists = [
            (at, passed) for at, passed in self._shown.get(key, []) if time is None or at <= time
        ]
        nothing = (0.0, np.empty(0, dtype=np.int64))
        return max(lists, key=lambda entry: entry[0], default=nothing)[1]
