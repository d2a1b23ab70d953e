"""Parting a dataset into what was known and what came since."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import write_dataset

from llmrec import cli
from llmrec.data import cohorts
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError

# four users; the second came first, the last user last
ROWS = [[0, 1, 2, 3], [3, 2, 1], [4, 0, 1, 2], [1, 2, 4]]
TIMES = [[20.0, 40, 60, 80], [10.0, 15, 25], [30.0, 50, 70, 90], [55.0, 65, 95]]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "shop", ROWS, 5, TIMES)


def test_users_are_parted_by_their_first_event(shop: Path, tmp_path: Path) -> None:
    older, newest = map(Dataset, cohorts.run(shop, tmp_path / "parts", 0.5))
    assert (older.user_ids, newest.user_ids) == (["u0", "u1"], ["u2", "u3"])
    assert [older.history(user).tolist() for user in (0, 1)] == ROWS[:2]
    assert [newest.history(user).tolist() for user in (0, 1)] == ROWS[2:]
    assert newest.cases("test").targets.tolist() == [2, 4]
    assert older.item_ids == newest.item_ids == Dataset(shop).item_ids
    assert newest.manifest.counts["items_without_events"] == 1  # nobody new met item 3


def test_without_times_users_are_as_new_as_their_place_in_the_file(tmp_path: Path) -> None:
    timeless = write_dataset(tmp_path / "shop", ROWS, 5)
    _, newest = cohorts.run(timeless, tmp_path / "parts", 0.25)
    assert Dataset(newest).user_ids == ["u3"]


def test_by_time_the_base_sees_nothing_since_the_moment(shop: Path, tmp_path: Path) -> None:
    older, _ = map(Dataset, cohorts.run(shop, tmp_path / "parts", 0.5, "time"))
    # 14 events: those at 55 and later are the newest half
    assert [older.history(user).tolist() for user in range(3)] == [[0, 1], [3, 2, 1], [4, 0]]
    assert older.cases("test").targets.tolist() == [1]


def test_by_time_histories_go_on_and_only_what_is_new_is_asked_for(
    shop: Path, tmp_path: Path
) -> None:
    _, folder = cohorts.run(shop, tmp_path / "parts", 0.5, "time")
    newest = Dataset(folder)
    assert newest.user_ids == ["u0", "u2", "u3"]  # u1 was not seen since
    asked = newest.cases("validation")
    assert asked.targets.tolist() == [2, 1, 2]
    assert [asked.histories[row].tolist() for row in range(3)] == [[0, 1], [4, 0], [1]]


def test_an_earlier_held_out_event_is_history_and_in_no_split(tmp_path: Path) -> None:
    """A validation event before the moment, whose user was tested after it."""
    shop = write_dataset(tmp_path / "shop", [[0, 1, 2], [3, 4, 0]], 5, [[1, 2, 9], [7, 8, 10.0]])
    _, folder = cohorts.run(shop, tmp_path / "parts", 0.6, "time")
    newest = Dataset(folder)
    assert newest.cases("validation").targets.tolist() == [4]
    test = newest.cases("test")
    assert test.histories[0].tolist() == [0, 1]
    assert np.concatenate(list(newest.train_histories())).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("share", "by", "message"),
    [
        (0.0, "users", "--newest: 0.0 is no share"),
        (1.5, "users", "--newest: 1.5 is no share"),
        (0.01, "users", "--newest: 0.01 leaves one side empty"),
        (0.001, "time", "--by time: .* has events without a time"),
    ],
)
def test_a_share_that_parts_nothing_is_one_line(
    tmp_path: Path, share: float, by: cohorts.By, message: str
) -> None:
    timeless = write_dataset(tmp_path / "shop", ROWS, 5)
    with pytest.raises(ConfigError, match=message):
        cohorts.run(timeless, tmp_path / "parts", share, by)
    assert not (tmp_path / "parts" / "newest").exists()


def test_the_command_does_it_and_finds_it_done(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["data", "cohorts", str(shop), "--out", str(tmp_path / "parts"), "--newest", "0.5"]
    assert cli.main(flags) == 0
    capsys.readouterr()
    assert cli.main(flags) == 0
    assert capsys.readouterr().out.count("up to date") == 2
