"""How calls are counted as right, and what the result says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import write_dataset

from llmrec.bench import assistant_tools
from llmrec.bench.assistant_tools import same_call, tool_accuracy
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.serving.assistant.calls import ToolCall
from llmrec.serving.assistant.dialogues.examples import made_turns
from llmrec.serving.assistant.dialogues.turns import Turn
from llmrec.serving.assistant.mind import EmbeddedModel


class KnowsSearches:
    """Right where a search is wanted; elsewhere it searches too."""

    def next_step(self, turn: Turn) -> Iterator[str | ToolCall]:
        right = turn.call.name == "search_catalog"
        yield "search_catalog"
        yield turn.call if right else ToolCall("search_catalog")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    items = {
        "categories": [["Tops", ("Shirt", "Blouse")[n % 2]] for n in range(12)],
        "attributes": [[f"colour={('red', 'navy', 'white')[n % 3]}"] for n in range(12)],
        "price": [5.0 + n for n in range(12)],
    }
    return write_dataset(tmp_path / "dataset", [[0, 1, 2]], 12, items=items)


def test_the_whole_call_must_be_right(dataset: Path) -> None:
    turns = made_turns(Dataset(dataset), "held_out", 40)
    scores = tool_accuracy(KnowsSearches(), turns)
    searches = [float(turn.call.name == "search_catalog") for turn in turns]
    assert scores.right.tolist() == scores.tool.tolist() == searches
    assert (scores.first <= scores.whole).all() and len(scores.calls) == 40


def test_the_order_within_a_list_does_not_matter_and_anything_else_does() -> None:
    call = ToolCall("search_catalog", {"colour": ["red", "navy"], "price_max": 40})
    assert same_call(call, ToolCall("search_catalog", {"price_max": 40, "colour": ["navy", "red"]}))
    assert not same_call(call, ToolCall("recommend", call.arguments))
    assert not same_call(call, ToolCall("search_catalog", call.arguments | {"price_max": 41}))
    assert not same_call(call, ToolCall("search_catalog", {"colour": ["red", "navy"]}))


def test_the_command_writes_what_was_right_and_what_not(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbeddedModel, "load", lambda *_, **__: KnowsSearches())
    out = assistant_tools.run(dataset, tmp_path / "tools.json", turns=60)
    found: dict[str, Any] = json.loads(out.read_text())
    share = found["metrics"]["tool_accuracy"]
    low, high = found["intervals"]["tool_accuracy"]
    assert 0 < low <= share <= high < 1 and found["metrics"]["tool_name_accuracy"] == share
    assert found["by_intent"]["search"]["right"] == 1 and found["by_intent"]["cart"]["right"] == 0
    assert sum(row["turns"] for row in found["by_intent"].values()) == found["turns"] == 60
    assert all(ToolCall.of_json(row["call"]).name == "search_catalog" for row in found["wrong"])
    assert found["metrics"]["first_decision_p50_ms"] <= found["metrics"]["call_p50_ms"]
    with pytest.raises(ConfigError, match="--turns: 0 must be 1 or more"):
        assistant_tools.run(dataset, tmp_path / "tools.json", turns=0)
