"""Made conversations: every intent, right calls, ways of saying that no other split has."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from tiny_models import write_dataset

from llmrec.cli import run_command
from llmrec.errors import DataError
from llmrec.serving.assistant.calls import SYSTEM, ToolCall, render_turn, turn_schema
from llmrec.serving.assistant.dialogues.examples import ExamplesConfig, run
from llmrec.serving.assistant.dialogues.phrases import (
    SPLITS,
    Phrases,
    all_phrases,
    in_split,
    taught_phrases,
)
from llmrec.serving.assistant.dialogues.turns import INTENTS, TurnMaker
from llmrec.serving.assistant.vocabulary import ShopVocabulary

THINGS = [("Accessories", "Scarf"), ("Accessories", "Beanie"), ("Kitchen", "Mug"),
          ("Outerwear", "Rain jacket"), ("Outerwear", "Denim jacket")]  # fmt: skip
COLOURS, MATERIALS = ("red", "navy", "white"), ("wool", "cotton")
ITEMS = [
    {
        "categories": list(THINGS[n % 5]),
        "brand": ("Okapi Lane", "Velta")[n % 2],
        "price": 10.0 + n,
        "attributes": [f"colour={COLOURS[n % 3]}", f"material={MATERIALS[n // 3 % 2]}"],
    }
    for n in range(40)
]


def maker(split: Any = "train", seed: int = 0) -> TurnMaker:
    items = pa.Table.from_pylist(ITEMS)
    return TurnMaker(ShopVocabulary.of_items(items), items, split, seed)


@pytest.mark.parametrize("intent", INTENTS)
def test_every_intent_is_made_and_its_call_is_one_that_its_turn_allows(intent: str) -> None:
    for split in SPLITS:
        made = maker(split)
        for _ in range(4):
            turn = made.make(intent)
            schema = turn_schema(turn.vocabulary, turn.message, turn.view)
            jsonschema.Draft202012Validator(schema).validate(json.loads(turn.call.to_json()))
            assert "[" not in turn.message and "{" not in turn.message
        jsonschema.Draft202012Validator.check_schema(schema)  # slow: the last one's


def test_arguments_stand_in_the_order_of_the_schema() -> None:
    made = maker()
    for turn in (made.make() for _ in range(60)):
        schema = turn_schema(turn.vocabulary, turn.message, turn.view, tool=turn.call.name)
        order = list(schema["properties"]["arguments"]["properties"])
        places = [order.index(name) for name in turn.call.arguments]
        assert places == sorted(places)


# forms of values and numbers, of which some are repeated to be drawn more often
NOT_WAYS = ("ordinals", "values", "amounts", "quantities", "counts", "by_value", "focus")


def lists(found: Any) -> list[list[Any]]:
    """Every list of ways."""
    if isinstance(found, dict):
        return [one for part in found.values() for one in lists(part)]
    ways = found.split("|") if isinstance(found, str) else found
    return [ways]


def test_no_way_is_in_two_splits() -> None:
    found = {name: ways for name, ways in all_phrases().items() if name not in NOT_WAYS}
    for ways in lists(found):
        if len(ways) < 8:
            continue
        parts = {split: [json.dumps(way) for way in in_split(ways, split)] for split in SPLITS}
        assert set(parts["held_out"]).isdisjoint(parts["train"] + parts["validation"]), ways
        assert len(parts["held_out"]) == len(ways) // 4 and parts["validation"]
        assert sum(map(len, parts.values())) == len(ways)


def test_what_a_model_learns_from_has_the_words_of_no_other_split() -> None:
    learned = Phrases("train", np.random.default_rng(0))
    tested = Phrases("held_out", np.random.default_rng(0))
    names = [(name,) for name in taught_phrases() if name not in ("values", "policy")]
    names += [("policy", topic) for topic in taught_phrases()["policy"]]
    for name in names:
        ways: Any = all_phrases()
        for part in name:
            ways = ways[part]
        listed = lists(ways)[0]
        made = {plain(learned.pick(*name)) for _ in range(300)}
        assert len(made) > len({plain(tested.pick(*name)) for _ in range(300)}), name
        assert not any("(" in way or "|" in way for way in made)
        if name[0] not in NOT_WAYS and len(listed) >= 8:
            others = [*in_split(listed, "held_out"), *in_split(listed, "validation")]
            assert made.isdisjoint({plain(way) for way in others}), name


def plain(way: Any) -> str:
    """A way in small letters."""
    return str(way).lower()


def test_every_list_of_more_ways_has_one_that_is_measured() -> None:
    assert set(taught_phrases()) <= set(all_phrases())
    for name in ("policy", "values"):
        assert set(taught_phrases()[name]) <= set(all_phrases()[name])


def test_a_seed_makes_the_same_turns_again_and_another_others() -> None:
    one, again, other = ([m.make().message for _ in range(5)] for m in
                         (maker(seed=1), maker(seed=1), maker(seed=2)))  # fmt: skip
    assert one == again != other


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    columns = {name: [row[name] for row in ITEMS] for name in ITEMS[0]}
    return write_dataset(tmp_path / "dataset", [[0, 1, 2]], len(ITEMS), items=columns)


def test_the_command_writes_what_serving_would_ask(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.jsonl"
    command = ["assistant", "examples", "--dataset", str(dataset), "--out", str(out)]
    run_command([*command, "--count", "50", "--split", "held_out"])
    rows = [json.loads(line)["messages"] for line in out.read_text().splitlines()]
    assert len(rows) == len({row[1]["content"] for row in rows}) == 50
    assert {row[0]["content"] for row in rows} == {SYSTEM}
    turn = maker("held_out").make()
    asked = render_turn(turn.vocabulary, turn.message, turn.view)
    assert rows[0][1]["content"] == asked
    assert ToolCall.of_json(rows[0][2]["content"]) == turn.call


def test_a_catalogue_without_categories_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "dataset", [[0, 1, 2]], 3)
    with pytest.raises(DataError, match=r"--dataset: no item of .* has a category"):
        run(ExamplesConfig(count=3), folder, tmp_path / "own.jsonl")
