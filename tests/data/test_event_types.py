"""One dataset holds every type of event; sequences are as if the others were not there."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec.data.dataset import OTHER_TYPE, Dataset
from llmrec.data.event_store import EventStore
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig

SETTINGS: list[dict[str, Any]] = [
    {},
    {"split": "global-time", "min_rating": 3.0},
    {"duplicates": "first-per-item", "k_core": 2, "drop_unseen_items": True},
    {"event_columns": {"timestamp": None}},
]


def random_log(rows: int = 4000) -> pa.Table:
    """Events of all types with many ties, users and items of one type only, times unsorted."""
    rng = np.random.default_rng(1)
    kinds = rng.choice(["view", "purchase", "cart"], rows, p=[0.6, 0.3, 0.1])
    users, items = rng.integers(200, size=rows), rng.integers(60, size=rows)
    return pa.table(
        {
            "user_id": [
                f"{k[0] if u % 5 == 0 else 'u'}{u}" for u, k in zip(users, kinds, strict=True)
            ],
            "item_id": [
                f"{k[0] if i % 5 == 0 else 'i'}{i}" for i, k in zip(items, kinds, strict=True)
            ],
            "type": kinds,
            "timestamp": rng.integers(1, 300, rows),
            "rating": rng.integers(1, 6, rows),
            "session": [f"s{n}" for n in range(rows)],
        }
    )


def ingest(folder: Path, log: pa.Table, **settings: Any) -> Dataset:
    folder.mkdir()
    pq.write_table(log, folder / "log.parquet")
    settings = {"timestamp_unit": "s", "max_dropped": 1.0} | settings
    config = IngestConfig(folder / "log.parquet", event_types=["purchase"], **settings)
    return Dataset(run(config, folder / "out", seed=5))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("with_items", [True, False])
def test_sequences_are_as_if_other_types_were_not_there(
    tmp_path: Path, settings: dict[str, Any], with_items: bool
) -> None:
    log = random_log()
    if with_items:
        (tmp_path / "items.csv").write_text("item_id\n" + "".join(f"i{n}\n" for n in range(60)))
        settings = settings | {"items": tmp_path / "items.csv"}
    bought = log.filter(pa.array([kind == "purchase" for kind in log["type"].to_pylist()]))
    everything = ingest(tmp_path / "all", log, **settings)
    alone = ingest(tmp_path / "bought", bought, **settings)
    assert everything.sequence_events.equals(alone.events)
    assert everything.items.equals(alone.items)
    assert everything.user_ids == alone.user_ids == alone.all_user_ids
    for split in ("train", "validation", "test"):
        assert everything.manifest.counts[split] == alone.manifest.counts[split]
    histories = everything.train_histories()
    assert len(histories) == len(alone.user_ids)
    np.testing.assert_array_equal(histories.items, alone.train_histories().items)


def test_other_types_are_stored_beside_in_the_order_of_time(tmp_path: Path) -> None:
    log = random_log()
    data = ingest(tmp_path / "all", log, duplicates="keep")
    events = data.events
    assert set(pa.compute.unique(events["type"]).to_pylist()) == {"view", "purchase", "cart"}
    other = events["split"].to_numpy() == OTHER_TYPE
    assert (other == (np.array(events["type"].to_pylist()) != "purchase")).all()
    user, time = events["user"].to_numpy(), events["timestamp"].to_numpy()
    assert (np.lexsort((time, user)) == np.arange(len(user))).all()
    counts = data.manifest.counts
    assert counts["other_events"] == other.sum() > 0
    assert counts["users_without_sequence"] == len(data.all_user_ids) - len(data.user_ids) > 0
    # an event of an item that nobody bought is of no item of the catalogue
    dropped = sum(counts["dropped"].values())
    assert counts["dropped"]["not_in_catalogue"] == dropped == len(log) - len(events)
    # each has its own user, item and session
    rows = {s: n for n, s in enumerate(log["session"].to_pylist())}
    for row in events.to_pylist():
        source = {name: log[name][rows[row["session"]]].as_py() for name in log.column_names}
        assert data.all_user_ids[row["user"]] == source["user_id"]
        assert data.item_ids[row["item"]] == source["item_id"]
        assert (row["type"], row["timestamp"]) == (source["type"], source["timestamp"])


def test_the_event_store_has_all_of_them(tmp_path: Path) -> None:
    data = ingest(tmp_path / "all", random_log())
    store = EventStore.open(data)
    assert len(store) == data.manifest.counts["events"] + data.manifest.counts["other_events"]
    assert set(np.unique(store.kind)) == {0, 2, 3}
    assert store.user_index[data.all_user_ids[-1]] == store.user.max()
