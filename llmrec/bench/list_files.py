"""Rankings of any other system, from a file of lists.

The file is Parquet with a row a case: ``user_id``, and ``items``, a list of item ids, best first. A
user with several cases has as many rows, in the order of the cases' times; rows of different users
may stand in any order. Lists should also hold items of the history, and so many more: they are
removed here where the protocol removes them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.recommender import history_mask
from llmrec.types import Cases, Histories, Ranking


class ListFile:
    """The lists of a file as a recommender of exactly its cases, all asked at once.

    Attributes:
        items: int64 ``[cases, longest list]``, item indices, -1 behind the end of a list.
    """

    def __init__(self, items: np.ndarray, n_items: int) -> None:
        self.items, self._n_items = items, n_items

    @property
    def n_items(self) -> int:
        return self._n_items

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        """The first ``n`` of each list; scores are minus the places.

        Raises:
            DataError: if these are not all of the cases.
        """
        if len(histories) != len(self.items):
            raise DataError(f"lists of {len(self.items)} cases were asked for {len(histories)}")
        kept = self.items >= 0
        if exclude_history:
            rows, seen = history_mask(histories)
            keys = np.arange(len(self.items))[:, None] * self.n_items + self.items
            kept &= ~np.isin(keys, rows * self.n_items + seen)
        places = np.cumsum(kept, axis=1) - 1
        row, column = np.nonzero(kept & (places < n))
        items = np.full((len(self.items), n), -1, dtype=np.int64)
        items[row, places[row, column]] = self.items[row, column]
        scores = np.where(items >= 0, -np.arange(n, dtype=np.float32), -np.inf)
        return Ranking(items, scores.astype(np.float32))


def read_lists(path: Path, dataset: Dataset, cases: Cases) -> ListFile:
    """Read the lists of every case.

    Raises:
        DataError: if the file cannot be read, lacks a case's list, has one too many, or a list
            holds an item that is not in the catalogue, or one twice.
    """
    try:
        table = pq.read_table(path, columns=["user_id", "items"])
        users = table["user_id"].cast(pa.string()).to_pylist()
        items = table["items"].cast(pa.list_(pa.string())).combine_chunks()
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a file of lists ({reason}); write Parquet with `user_id` and `items`, a "
            "list of item ids, best first"
        ) from None
    lengths = np.nan_to_num(pc.list_value_length(items).to_numpy(zero_copy_only=False)).astype(int)
    codes = pc.index_in(items.flatten(), value_set=pa.array(dataset.item_ids, pa.string()))
    if codes.null_count:
        place = int(np.flatnonzero(codes.is_null().to_numpy(zero_copy_only=False))[0])
        row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
        raise DataError(
            f"{path}: row {row + 1}: item {items.flatten()[place].as_py()!r} is not in the "
            f"catalogue of {dataset.folder}"
        )
    found = np.full((len(users), max(1, int(lengths.max(initial=0)))), -1, dtype=np.int64)
    found[np.arange(found.shape[1]) < lengths[:, None]] = codes.to_numpy(zero_copy_only=False)
    _check_once(path, found)
    return ListFile(found[_rows_of_cases(path, users, dataset, cases)], dataset.n_items)


def _check_once(path: Path, lists: np.ndarray) -> None:
    ordered = np.sort(lists, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise DataError(f"{path}: row {int(np.argmax(twice)) + 1}: holds an item twice")


def _rows_of_cases(path: Path, users: list[str], dataset: Dataset, cases: Cases) -> np.ndarray:
    """Row of the file for each case: int64 ``[cases]``."""
    wanted = cases.users
    index = {user_id: user for user, user_id in enumerate(dataset.user_ids)}
    given = np.array([index.get(user_id, -1) for user_id in users], dtype=np.int64)
    n_users = len(dataset.user_ids)
    have = np.bincount(given[given >= 0], minlength=n_users)
    need = np.bincount(wanted, minlength=n_users)
    wrong = np.flatnonzero(have != need)
    if (given < 0).any():
        row = int(np.argmax(given < 0))
        raise DataError(f"{path}: row {row + 1}: user {users[row]!r} is not in {dataset.folder}")
    if len(wrong):
        user = int(wrong[0])
        raise DataError(
            f"{path}: {have[user]} lists of user {dataset.user_ids[user]!r}, who has {need[user]} "
            f"cases in this split ({len(wrong)} such users); write one list a case"
        )
    rows = np.empty(len(wanted), dtype=np.int64)
    rows[np.argsort(wanted, kind="stable")] = np.argsort(given, kind="stable")
    return rows
