"""Splits by baskets: which events are one, what is held out, what the cases are."""

from pathlib import Path
from typing import Any

import pytest

from llmrec.data.cohorts import run as cohorts
from llmrec.data.dataset import Dataset
from llmrec.data.ingest import run
from llmrec.data.settings import IngestConfig
from llmrec.errors import ConfigError, DataError
from llmrec.types import Cases

T = 1_700_000_000
# u has baskets {a b}, {c a}, {b d}, {a c e}; v has two; the file is in no order
ROWS = "u,c,3;u,a,3;v,a,1;u,b,9;u,d,9;u,b,1;u,a,1;v,b,2;u,e,20;u,a,20;u,c,20"


def ingest(folder: Path, log: str, **settings: Any) -> Dataset:
    (folder / "log.csv").write_text(log)
    settings = {"split": "leave-last-basket", **settings}
    return Dataset(run(IngestConfig(events=folder / "log.csv", **settings), folder / "out"))


def named(data: Dataset, cases: Cases) -> list[tuple[str, list[str], list[str]]]:
    """User, history and basket of each case, in names."""
    names = data.item_ids
    found = []
    for start in cases.starts:
        case = cases.select_whole(cases.basket[[start]])
        history = [names[item] for item in case.histories[0]]
        basket = [names[item] for item in case.targets]
        found.append((data.user_ids[case.users[0]], history, basket))
    return found


def halves(history: list[str]) -> list[set[str]]:
    return [set(history[at : at + 2]) for at in range(0, len(history), 2)]


def test_events_of_one_time_are_a_basket(tmp_path: Path) -> None:
    rows = [row.split(",") for row in ROWS.split(";")]
    log = "".join(f"{user},{item},{T + int(time)}\n" for user, item, time in rows)
    data = ingest(tmp_path, "user_id,item_id,timestamp\n" + log)
    counts = data.manifest.counts
    assert (counts["baskets"], counts["validation"], counts["test"]) == (6, 2, 3)
    ((user, history, basket),) = named(data, data.cases("test"))
    assert (user, sorted(basket)) == ("u", ["a", "c", "e"])
    assert halves(history) == [{"a", "b"}, {"a", "c"}, {"b", "d"}]
    ((user, history, basket),) = named(data, data.cases("validation"))
    assert (user, sorted(basket)) == ("u", ["b", "d"])
    assert halves(history) == [{"a", "b"}, {"a", "c"}]
    assert data.cases("test").histories.now.tolist() == [T + 20] * 3
    train = [[data.item_ids[item] for item in one] for one in data.train_histories()]
    assert [sorted(one) for one in train] == [["a", "a", "b", "c"], ["a", "b"]]


def test_events_of_one_session_are_a_basket_though_others_come_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        ("a", 1, "o1", "purchase"),
        ("b", 2, "o2", "purchase"),
        ("c", 4, "o2", "purchase"),
        ("d", 5, "o1", "purchase"),  # ends last but one
        ("a", 5, "o1", "view"),
        ("e", 3, "o3", "purchase"),
        ("a", 9, "o3", "purchase"),
        ("e", 10, "o3", "purchase"),  # twice in the basket
        ("b", 7, "", "purchase"),
    ]
    log = "".join(f"u,{i},{T + t},{kind},{o}\n" for i, t, o, kind in rows)
    data = ingest(
        tmp_path,
        "user_id,item_id,timestamp,type,order_id\n" + log,
        basket="session",
        event_columns={"session": "order_id"},
        event_types=["purchase"],
    )
    ((_, history, basket),) = named(data, data.cases("test"))
    assert (history, basket) == (["b", "c", "a", "d", "b"], ["e", "a"])
    ((_, history, basket),) = named(data, data.cases("validation"))
    assert (history, basket) == (["b", "c", "a", "d"], ["b"])
    table = data.events
    assert table["basket"].to_pylist().count(-1) == 1  # the view
    assert "every basket has one event" not in capsys.readouterr().err
    newest = Dataset(cohorts(data.folder, tmp_path / "cohorts", newest=0.9, by="time")[1])
    assert named(newest, newest.cases("test")) == named(data, data.cases("test"))


def test_sessions_say_the_baskets_of_a_log_without_times(tmp_path: Path) -> None:
    log = "user_id,item_id,session\nu,a,1\nu,b,1\nu,c,2\nu,a,3\nu,d,3\n"
    settings: dict[str, Any] = {"event_columns": {"timestamp": None}, "order": "file"}
    data = ingest(tmp_path, log, basket="session", **settings)
    assert named(data, data.cases("test")) == [("u", ["a", "b", "c"], ["a", "d"])]
    with pytest.raises(DataError, match="without times only sessions say what is a basket"):
        ingest(tmp_path, log, **settings)


def test_what_is_no_basket_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = "user_id,item_id,timestamp\n" + "".join(f"u,i{n},{T + n}\n" for n in range(5))
    with pytest.raises(DataError, match=r"no event names one; set event_columns: \{session"):
        ingest(tmp_path, log, basket="session")
    ingest(tmp_path, log)
    assert "every basket has one event" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="basket: split: random has no baskets"):
        IngestConfig(events=tmp_path, split="random", basket="session")


def test_a_sample_of_cases_has_whole_baskets() -> None:
    import numpy as np

    from llmrec.types import Histories

    cases = Cases(
        np.array([0, 0, 1, 2, 2]),
        Histories.from_lists([[1], [1], [2], [3], [3]]),
        np.array([5, 6, 7, 8, 9]),
        np.array([0, 0, 1, 2, 2]),
    )
    assert cases.starts.tolist() == [0, 2, 3]
    some = cases.select_whole(np.array([0, 2]))
    assert (some.targets.tolist(), some.basket.tolist()) == ([5, 6, 8, 9], [0, 0, 1, 1])
    assert some.starts.tolist() == [0, 2]
    rest = cases.select([2, 3])
    assert (rest.basket.tolist(), rest.users.tolist()) == ([0, 1], [1, 2])
    plain = Cases(cases.users, cases.histories, cases.targets)
    assert plain.select_whole(np.array([1, 3])).targets.tolist() == [6, 8]
    assert plain.starts.tolist() == [0, 1, 2, 3, 4]


def test_without_times_other_events_keep_the_order_that_was_drawn(tmp_path: Path) -> None:
    rows = [f"u{n // 9},i{n % 4},{'view' if n % 3 == 2 else 'purchase'}\n" for n in range(90)]
    data = ingest(
        tmp_path,
        "user_id,item_id,type\n" + "".join(rows),
        split="leave-one-out",
        event_types=["purchase"],
        event_columns={"timestamp": None},
        order="random",
    )
    assert data.manifest.counts["other_events"] == 30
    splits = [row["split"] for row in data.sequence_events.to_pylist()]
    assert splits == [0, 0, 0, 0, 1, 2] * 10
    orders = {tuple(history.tolist()) for history in data.train_histories()}
    assert len(orders) > 1
