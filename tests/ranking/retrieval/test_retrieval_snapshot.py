"""What a snapshot counts, and that it counts nothing that came later."""

from pathlib import Path

import numpy as np
import pytest
from retrieval_shop import N_ITEMS, SETTINGS, make_log, make_snapshot

from llmrec.config import build
from llmrec.errors import ArtifactError, CatalogError, ConfigError, DataError
from llmrec.ranking.retrieval.co_occurrence import co_occurrence
from llmrec.ranking.retrieval.interactions import Interactions
from llmrec.ranking.retrieval.item_knn import ItemKNN
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import DAY, Snapshot, Snapshots, fit_snapshot, fit_snapshots
from llmrec.types import Histories

ARRAYS = ("counts", "popularity", "starts", "neighbours", "cosines")


def plain_log(rows: list[list[int]]) -> Interactions:
    """One user a row, an event a second."""
    times = [[float(place) for place in range(len(row))] for row in rows]
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return Interactions.from_events(users, np.concatenate(rows), np.concatenate(times))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0, 1], [0, 1], [2.0, 1.0]), "not in time order"),
        (([0], [0, 1], [0.0]), "lengths"),
        (([0], [-1], [0.0]), "item: holds a negative"),
        (([0], [0], [np.nan]), "no time"),
    ],
)
def test_a_wrong_log_is_an_error(columns: tuple[list[float], ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Interactions(*map(np.array, columns))


def test_only_events_within_the_window_are_together() -> None:
    near = co_occurrence(plain_log([[0, 1, 2]]), 3, 1, 10, 0.0).toarray()
    assert near.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    far = co_occurrence(plain_log([[0, 1, 2]]), 3, 2, 10, 0.0).toarray()
    assert far.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


def test_users_do_not_run_into_each_other() -> None:
    log = Interactions.from_events([0, 1, 0, 1], [0, 1, 2, 3], [0.0, 1.0, 2.0, 3.0])
    found = co_occurrence(log, 4, 3, 10, 0.0).toarray()
    assert np.argwhere(found).tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]


@pytest.mark.parametrize("shrink", [0.0, 3.0])
def test_with_a_window_over_everything_it_is_item_knn(shrink: float) -> None:
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 15, rng.integers(0, 12)).tolist() for _ in range(30)]
    knn = ItemKNN(neighbours=15, weighting="cosine", shrink=shrink)
    knn.fit(Histories.from_lists(rows), 15)
    ours = co_occurrence(plain_log(rows), 15, 12, 15, shrink)
    np.testing.assert_allclose(ours.toarray(), knn._similarity.toarray(), rtol=1e-5)


def test_work_in_blocks_counts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = co_occurrence(make_log(), N_ITEMS, 4, 12, 1.0).toarray()
    monkeypatch.setattr("llmrec.ranking.retrieval.co_occurrence._PAIRS", 40)
    parts = co_occurrence(make_log(), N_ITEMS, 4, 12, 1.0).toarray()
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def test_only_the_best_neighbours_are_kept() -> None:
    rows = [[0, 1], [0, 1], [0, 2], [0, 3]]
    found = co_occurrence(plain_log(rows), 4, 1, 2, 0.0).toarray()
    assert np.flatnonzero(found[0]).tolist() == [1, 2]  # 2 and 3 tie; the smaller index stays


def test_popularity_halves_with_every_half_life() -> None:
    log = Interactions.from_events([0, 0, 1], [0, 1, 1], [0.0, 14 * DAY, 28 * DAY])
    known = fit_snapshot(log, 28 * DAY + 1, 3)
    np.testing.assert_allclose(known.popularity, [0.25, 1.5, 0], rtol=1e-5)
    assert known.counts.tolist() == [1, 2, 0]


@pytest.mark.parametrize("until", [0.0, 7.3 * DAY, 20 * DAY])
def test_what_happens_at_or_after_a_time_is_not_known(until: float) -> None:
    log = make_log()
    later = log.time >= until
    log.time[later] = np.maximum(log.time[later], until)
    changed = Interactions(log.user, np.where(later, 1, log.item), log.time)
    at = Interactions.from_events(
        np.append(log.user, 0), np.append(log.item, 2), np.append(log.time, until)
    )
    known = fit_snapshot(log, until, N_ITEMS, SETTINGS)
    assert known.counts.sum() == (~later).sum()
    for other in (changed, log.before(until)):
        again = fit_snapshot(other, until, N_ITEMS, SETTINGS)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(again, name), getattr(known, name))
    np.testing.assert_array_equal(fit_snapshot(at, until, N_ITEMS).counts, known.counts)


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = make_snapshot()
    read = Snapshot.load(known.save(tmp_path / "known"))
    assert read.until == known.until
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(read, name), getattr(known, name))
    assert Snapshot.load(Snapshot.empty(3).save(tmp_path / "empty")).until == -np.inf


def test_a_damaged_snapshot_is_an_error(tmp_path: Path) -> None:
    folder = make_snapshot().save(tmp_path / "known")
    (folder / "snapshot.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"snapshot\.safetensors: cannot be read"):
        Snapshot.load(folder)
    with pytest.raises(ArtifactError, match="run llmrec ctr again"):
        Snapshot.load(tmp_path / "gone")
    with pytest.raises(ArtifactError, match="holds no snapshots"):
        Snapshots.load(tmp_path / "gone")


def test_a_snapshot_of_other_sizes_is_an_error(tmp_path: Path) -> None:
    folder = make_snapshot().save(tmp_path / "known")
    header = (folder / "snapshot.json").read_text()
    (folder / "snapshot.json").write_text(header.replace(f'"n_items": {N_ITEMS}', '"n_items": 7'))
    with pytest.raises(ArtifactError, match="not of 7 items"):
        Snapshot.load(folder)


def test_each_moment_has_the_newest_snapshot_that_is_not_later(tmp_path: Path) -> None:
    log = make_log()
    several = fit_snapshots(log, [20 * DAY, 10 * DAY], N_ITEMS, SETTINGS)
    now = np.array([0, 10 * DAY - 1, 10 * DAY, 19 * DAY, 20 * DAY, 1e12])
    assert several.of(now).tolist() == [-1, -1, 0, 0, 1, 1]
    read = Snapshots.load(several.save(tmp_path))
    assert [one.until for one in read.snapshots] == [10 * DAY, 20 * DAY]
    with pytest.raises(DataError, match="same time"):
        Snapshots([several.snapshots[0]] * 2)


def test_an_event_of_an_unknown_item_is_an_error() -> None:
    with pytest.raises(CatalogError, match="none of the 3 items"):
        fit_snapshot(make_log(), np.inf, 3)
    with pytest.raises(DataError, match="not a time"):
        fit_snapshot(make_log(), np.nan, N_ITEMS)


def test_nothing_is_known_of_an_empty_log() -> None:
    none = Interactions.from_events([], [], [])
    for known in (fit_snapshot(none, np.inf, 4), fit_snapshot(none, 5.0, 4)):
        assert known.counts.tolist() == [0] * 4
        assert not len(known.cosines)
    assert fit_snapshot(none, 5.0, 0).n_items == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("k", 0), ("limit", 0), ("decay", 0.0), ("decay", 1.1), ("half_life_days", 0.0),
     ("shrink", -1.0), ("min_events", -1), ("window", 0), ("item_to_item_decay", 2.0)],
)  # fmt: skip
def test_a_wrong_setting_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"recipe\.{name}: must"):
        build(RetrievalConfig, {name: value}, "recipe")
