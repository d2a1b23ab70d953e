"""Negatives for DPO: items shown in a list and not clicked, or viewed in a session."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.dataset import SPLIT_CODES, Dataset
from llmrec.errors import DataError
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
    """Negatives from lists that were shown, in a file of one JSON object a line.

    A line has ``user_id``, ``items`` (the shop's identifiers), ``clicked`` (0 or 1 for each) and
    ``timestamp`` (seconds since 1970 UTC); more is not read. Lists of other users, and items that
    are not in the catalogue, are left out. Lists in which nothing was clicked are not used.

    Raises:
        DataError: if the file cannot be read or a line is something else.
    """

    def __init__(self, path: Path, dataset: Dataset, events: TrainEvents) -> None:
        self.events = events
        self._shown: dict[tuple[int, int], list[tuple[float, list[int]]]] = defaultdict(list)
        users = {user_id: row for row, user_id in enumerate(dataset.user_ids)}
        items = dataset.item_index
        try:
            with open(path, encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    user_id, time, shown, clicked = _read_line(path, number, line)
                    if user_id in users:
                        pairs = zip(shown, clicked, strict=True)
                        known = [(items[i], bool(click)) for i, click in pairs if i in items]
                        passed = [item for item, click in known if not click]
                        for item, click in known:
                            if click:
                                self._shown[users[user_id], item].append((time, passed))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"--impressions: {path} cannot be read ({error})") from None

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
        _, passed = max(lists, key=lambda entry: entry[0], default=(0.0, []))
        return np.array(passed, dtype=np.int64)


def _read_line(path: Path, number: int, line: str) -> tuple[str, float, list[str], list[Any]]:
    try:
        row = json.loads(line)
        shown, clicked = [str(item) for item in row["items"]], list(row["clicked"])
        if len(shown) != len(clicked):
            raise ValueError(f"{len(shown)} items and {len(clicked)} clicks")
        return str(row["user_id"]), float(row.get("timestamp") or 0.0), shown, clicked
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise DataError(
            f"--impressions: {path}: row {number} is no list that was shown ({reason}); a row has "
            "user_id, timestamp, items and clicked"
        ) from None
