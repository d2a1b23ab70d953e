"""``llmrec data cohorts``: split a dataset into what a shop knew and what came since.

    llmrec data cohorts DATASET --by users --newest 0.2 --out DIR
    llmrec data cohorts DATASET --by time --newest 0.2 --out DIR

Writes ``DIR/older`` and ``DIR/newest``, dataset folders with the same catalogue: an item has the
same index, hence the same ID, in both. That is what one needs to train a base on what was known,
fine-tune it on what came since, and measure.

Only the events of sequences are kept. By users, each user is in one of the two with their whole
sequence and its splits. A user is as new as their first event; where a dataset has no times, users
count in the order of the file they were read from. By time, ``older`` holds the events before a
cut-off, and ``newest`` holds all events, since a history goes on; its validation and test events
are those after the cut-off, and the earlier ones are part of histories and of no split.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.dataset import HISTORY_ONLY, SPLIT_CODES, Dataset
from llmrec.errors import ConfigError
from llmrec.stage import Manifest, StageRun, folder_hash, run_stage

By = Literal["users", "time"]
COHORTS = ("older", "newest")


def run(dataset: Path, /, out: Path, newest: float = 0.2, by: By = "users") -> tuple[Path, Path]:
    """Split a dataset into what a shop knew and what came since.

    Args:
        dataset: folder of the ingest stage.
        out: gets the folders older/ and newest/.
        newest: share of the users, or of the events, that are the newest.
        by: what is split.

    Returns:
        The folders of the older and of the newest.

    Raises:
        ConfigError: for a share that leaves either empty, or to part by time without times.
        ArtifactError: if the dataset cannot be read.
    """
    if not 0 < newest < 1:
        raise ConfigError(f"--newest: {newest} is no share; give one between 0 and 1")
    parent = Dataset(dataset)
    inputs = {"dataset": folder_hash(dataset)}
    folders = []
    for cohort in COHORTS:
        settings = {"cohort": cohort, "newest": newest, "by": by}
        manifest = Manifest("ingest", settings, inputs, command="data cohorts")

        def work(stage: StageRun, cohort: str = cohort) -> None:
            older, later = (_by_users if by == "users" else _by_time)(parent, newest)
            for part in (older, later):
                if not part.num_rows:
                    raise ConfigError(f"--newest: {newest} leaves one side empty; change it")
            _write(parent, older if cohort == "older" else later, stage)

        folders.append(run_stage(Path(out) / cohort, manifest, work))
    return folders[0], folders[1]


def _newest_users(events: pa.Table, users: int, share: float) -> np.ndarray:
    """Which users came last, bool ``[users]``; of two who came at one time, the later row."""
    first = np.full(users, np.inf)  # of a user without a time: as in a dataset without any
    np.fmin.at(first, events["user"].to_numpy(), _times(events))
    order = np.lexsort((np.arange(users), first))
    newest = np.zeros(users, dtype=bool)
    newest[order[users - round(users * share) :]] = True
    return newest


def _by_users(dataset: Dataset, share: float) -> tuple[pa.Table, pa.Table]:
    events = dataset.sequence_events
    newest = _newest_users(events, len(dataset.user_ids), share)
    of_newest = newest[events["user"].to_numpy()]
    return events.filter(pa.array(~of_newest)), events.filter(pa.array(of_newest))


def _by_time(dataset: Dataset, share: float) -> tuple[pa.Table, pa.Table]:
    events = dataset.sequence_events
    times = _times(events)
    if np.isnan(times).any():
        raise ConfigError(f"--by time: {dataset.folder} has events without a time; split by users")
    before = times < np.quantile(times, 1 - share, method="higher")
    split = events["split"].to_numpy()
    held_out = before & (split != SPLIT_CODES["train"])
    column = events.schema.get_field_index("split")
    recoded = pa.array(np.where(held_out, HISTORY_ONLY, split).astype(split.dtype))
    later = events.set_column(column, events.schema.field(column), recoded)
    # users without an event since then have nothing to predict: leave them out
    users = np.unique(events["user"].to_numpy()[~before])
    return events.filter(pa.array(before)), later.filter(
        pa.array(np.isin(events["user"].to_numpy(), users))
    )


def _write(dataset: Dataset, events: pa.Table, stage: StageRun) -> None:
    user = events["user"].to_numpy()
    keep = np.zeros(len(dataset.user_ids), dtype=bool)
    keep[user] = True
    numbers = (np.cumsum(keep) - 1).astype(np.int32)
    column = events.schema.get_field_index("user")
    events = events.set_column(column, events.schema.field(column), pa.array(numbers[user]))
    pq.write_table(events, stage.folder / "events.parquet")
    shutil.copy(dataset.folder / "items.parquet", stage.folder)
    users = dataset.users.slice(0, len(keep)).filter(pa.array(keep))
    pq.write_table(users, stage.folder / "users.parquet")
    split = events["split"].to_numpy()
    stage.counts.update(
        users=int(keep.sum()),
        items=dataset.n_items,
        events=events.num_rows,
        **{name: int((split == code).sum()) for name, code in SPLIT_CODES.items()},
        items_without_events=dataset.n_items - len(np.unique(events["item"].to_numpy())),
    )


def _times(events: pa.Table) -> np.ndarray:
    times: np.ndarray = events["timestamp"].to_numpy().astype(np.float64)
    return times
