"""What is preferred to what, from logs made by hand."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefer_runs import corpus_at, tiny_prefer
from tiny_models import replace_events, write_dataset

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.generation.constraints import Constraints
from llmrec.generation.load import load_llm
from llmrec.training.preference.negatives import ListNegatives, TrainEvents
from llmrec.training.preference.pairs import PreferencePairs, make_pairs
from llmrec.training.preference.settings import DpoConfig
from llmrec.training.tasks.history_tasks import next_item
from llmrec.types import Histories


def found(pairs: PreferencePairs) -> set[tuple[int, int, int]]:
    """User, chosen and rejected item of every pair."""
    users = TrainEvents.read(pairs.corpus.dataset).user
    chosen = pairs.corpus.histories.items[pairs.events]
    return set(
        zip(users[pairs.events].tolist(), chosen.tolist(), pairs.rejected.tolist(), strict=True)
    )


@pytest.fixture
def log(home: Path, tmp_path: Path) -> Path:
    """Two users; item 9 is clicked, the others of its list were shown with it."""
    times = [[10.0, 20.0, 30.0, 40.0, 50.0], [10.0, 20.0, 30.0, 40.0]]
    return write_dataset(tmp_path / "log", [[1, 9, 3, 4, 5], [6, 9, 7, 8]], 40, times)


def impressions(folder: Path, rows: list[dict]) -> Path:
    path = folder / "impressions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shown(user: str, time: float, items: list[int], clicked: int) -> dict:
    return {
        "user_id": user,
        "timestamp": time,
        "items": [f"i{n}" for n in items],
        "clicked": [int(n == clicked) for n in items],
    }


def test_what_a_list_showed_and_was_passed_over(home: Path, log: Path, tmp_path: Path) -> None:
    rows = [
        shown("u0", 19.0, [20, 9, 21, 3, 1], 9),  # 3 and 1 are taken by the same user
        shown("u0", 25.0, [30, 9], 9),  # after the event
        shown("u0", 5.0, [31, 9], 9),  # an older one
        shown("u1", 19.0, [9, 3, 22, 23, 24], 9),
        shown("u0", 39.0, [25, 4], 4),  # a validation event
        shown("u0", 49.0, [26, 5], 5),  # a test event
        shown("u0", 29.0, [27, 28], -1),
        shown("nobody", 19.0, [29, 9], 9),
    ]
    path = impressions(tmp_path, [*rows, {**rows[0], "items": ["x"], "clicked": [1]}])
    corpus = corpus_at(home / "atomic", log)
    pairs = make_pairs(corpus, DpoConfig(rejected=2), path, None, 0, 0)  # type: ignore[arg-type]
    assert found(pairs) == {(0, 9, 20), (0, 9, 21), (1, 9, 3), (1, 9, 22)}
    negatives = ListNegatives(path, corpus.dataset, TrainEvents.read(corpus.dataset))
    assert len(negatives) == 6
    assert negatives.notes == [
        "1 of 9 lists are of users who are not in the dataset ('nobody' 1)",
        "1 of 23 shown items are not in the catalogue ('x' 1)",
    ]


def test_what_was_viewed_in_the_same_session(home: Path, log: Path) -> None:
    rows = [  # user, item, type, session, split
        (0, 1, "click", "a", 0),
        (0, 20, "view", "b", 0),
        (0, 9, "view", "b", 0),
        (0, 9, "click", "b", 0),
        (0, 21, "view", "c", 0),
        (0, 22, "view", "b", 1),
        (0, 23, "view", "", 0),  # in no session
        (0, 10, "purchase", "", 0),
        (1, 6, "click", "b", 0),
        (1, 9, "rating", "b", 0),
    ]
    user, item, kind, session, split = zip(*rows, strict=True)
    columns = {
        "user": pa.array(user, pa.int32()),
        "item": pa.array(item, pa.int32()),
        "type": pa.array(kind),
        "timestamp": pa.array([None] * len(rows), pa.float64()),
        "session": pa.array(session),
        "split": pa.array(split, pa.int8()),
    }
    replace_events(log, pa.table(columns))
    pairs = make_pairs(corpus_at(home / "atomic", log), DpoConfig(), None, None, 0, 0)  # type: ignore[arg-type]
    assert found(pairs) == {(0, 9, 20)}


def test_popular_items_are_drawn_as_often_as_they_are_popular(home: Path, tmp_path: Path) -> None:
    histories = [[0, 1, 2, 3, 4, 5]] + [[7, 6, 6, 8, 8]] * 30 + [[9, 9, 10, 11]]
    log = write_dataset(tmp_path / "log", histories, 40)
    corpus = corpus_at(home / "atomic", log)
    config = DpoConfig(negatives="popular", rejected=1)
    drawn = [
        rejected
        for seed in range(60)
        for user, _, rejected in found(make_pairs(corpus, config, None, None, 0, seed))  # type: ignore[arg-type]
        if user == 0
    ]
    # the only others with a training event: 7 (30 times), 6 (60), 9 (2)
    assert set(drawn) == {6, 7, 9}
    weights = np.array([60, 30, 2]) ** 0.75
    shares = np.array([drawn.count(item) for item in (6, 7, 9)]) / len(drawn)
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.12)


@pytest.mark.parametrize(("base", "dataset"), [("atomic", "dataset"), ("untied", "timed")])
def test_the_models_own_best_that_were_not_taken(home: Path, base: str, dataset: str) -> None:
    corpus, llm = corpus_at(home / base, home / dataset), load_llm(home / base, beams=40)
    config = DpoConfig(negatives="model", rejected=2)
    pairs = make_pairs(corpus, config, None, llm, 40, 0)
    assert len(pairs) == 40
    for place in np.unique(pairs.events)[:5].tolist():
        items, times, target, now = corpus.event(place)
        owner = int(np.searchsorted(corpus.histories.offsets, place, side="right")) - 1
        asked = Histories.from_lists(
            [items], None if times is None else [times], None if now is None else [now]
        )
        taken = Constraints(exclude=corpus.histories[owner])
        expected = llm.recommend(asked, 2, constraints=[taken]).items[0]
        assert pairs.rejected[pairs.events == place].tolist() == expected.tolist()
        assert target not in expected


def test_rows_are_tokens_in_the_order_of_the_seed(home: Path) -> None:
    corpus = corpus_at(home / "untied", home / "timed")
    pairs = make_pairs(corpus, tiny_prefer().dpo, None, None, 0, 3)  # type: ignore[arg-type]
    rows = pairs.dataset(2 * len(pairs))
    order = rows.with_format(None)["pair"]
    assert sorted(order[: len(pairs)]) == sorted(order[len(pairs) :]) == list(range(len(pairs)))
    assert order[: len(pairs)] != order[len(pairs) :]
    for number, row in enumerate(rows.select(range(5))):
        place = int(pairs.events[order[number]])
        example = next_item(corpus, place, np.random.default_rng([3, number, 3]))
        assert row["prompt_ids"] == example.prompt_ids.tolist()
        assert row["chosen_ids"] == example.completion_ids.tolist()
        expected = corpus.writer.items([pairs.rejected[order[number]]])
        assert row["rejected_ids"] == expected.tolist()


def test_nothing_to_prefer_is_an_error(home: Path, log: Path, tmp_path: Path) -> None:
    corpus = corpus_at(home / "atomic", log)

    def fails(message: str, config: DpoConfig, path: Path | None = None) -> None:
        with pytest.raises(ConfigError, match=message):
            make_pairs(corpus, config, path, None, 0, 0)  # type: ignore[arg-type]

    fails(r"has no record of what was shown \(it has 0 views in sessions\); give", DpoConfig())
    other = impressions(tmp_path, [shown("u9", 1.0, [1, 2], 1), shown("u0", 39.0, [4, 2], 4)])
    fails("none of the 1 clicks in .*jsonl is a training event", DpoConfig(), other)
    everything = write_dataset(tmp_path / "all", [list(range(40)) * 2], 40)
    with pytest.raises(ConfigError, match="gives no pair with negatives: popular"):
        config = DpoConfig(negatives="popular")
        make_pairs(corpus_at(home / "atomic", everything), config, None, None, 0, 0)  # type: ignore[arg-type]


def test_events_of_other_types_choose_nothing(home: Path, log: Path) -> None:
    table = pq.read_table(log / "events.parquet")
    replace_events(log, table.append_column("type", pa.array(["view"] * table.num_rows)))
    corpus = corpus_at(home / "atomic", log)
    with pytest.raises(ConfigError, match=r"no training event of .*log with a history before it"):
        make_pairs(corpus, DpoConfig(), None, None, 0, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"user_id": "u0"}', "items 'None' is no list"),
        ('{"user_id": "u0", "items": ["i1"], "clicked": []}', "1 items and 0 clicked"),
        ("[1]", "expected a JSON object"),
        ("{", "not a readable JSON object"),
    ],
)
def test_a_line_that_is_no_list_is_named(
    home: Path, log: Path, tmp_path: Path, line: str, reason: str
) -> None:
    path = impressions(tmp_path, [shown("u0", 1.0, [1, 2], 1)])
    path.write_text(path.read_text() + line + "\n")
    dataset = Dataset(log)
    with pytest.raises(DataError, match=f"row 2: {reason}"):
        ListNegatives(path, dataset, TrainEvents.read(dataset))
