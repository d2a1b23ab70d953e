"""``llmrec enhance`` on a chat model with random weights, and vectors of what it writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("xgrammar", reason="needs the media extra")

from caption_world import write_items
from tiny_chat import save_chat_model

from llmrec.captions import enhance
from llmrec.captions.prompting import KEY_TERMS, SUMMARY_CHARS
from llmrec.cli import run_command
from llmrec.content.features.blocks import load_blocks
from llmrec.errors import ArtifactError, DataError

ITEMS: list[dict[str, Any]] = [
    {"title": "Red wool hat", "brand": "Isla"},
    {},
    {"title": "Striped mug"},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model``: one that chats; ``dataset``: with an item without text."""
    folder = tmp_path_factory.mktemp("enhance")
    texts = [f'{{"key_terms": ["red"], "summary": "a {n}", "wanted_by": "all"}}' for n in range(40)]
    save_chat_model(folder / "model", texts)
    write_items(folder / "dataset", ITEMS)
    return folder


def run(home: Path, out: Path, *flags: str, dataset: str = "dataset") -> list[dict[str, Any]]:
    command = ["enhance", "--dataset", str(home / dataset), "--model", str(home / "model")]
    run_command([*command, "--max-tokens", "40", "--out", str(out), *flags])
    return [json.loads(line) for line in (out / "enhanced.jsonl").read_text().splitlines()]


def test_a_row_an_item_within_the_schema(home: Path, tmp_path: Path) -> None:
    rows = run(home, tmp_path / "one")
    assert [row["item_id"] for row in rows] == ["i0", "i1", "i2"]
    for row in rows:
        assert set(row) == {"item_id", "key_terms", "summary", "wanted_by", "text"}
        assert len(row["key_terms"]) <= KEY_TERMS and len(row["summary"] or "") <= SUMMARY_CHARS
    assert rows[1]["text"] == "" and rows[1]["key_terms"] == []
    assert rows[0]["text"], "random weights write something"
    assert run(home, tmp_path / "two", "--batch-size", "1") == rows


def test_a_run_that_was_killed_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enhance, "SHARD_ITEMS", 1)
    whole, asked = run(home, tmp_path / "whole"), list[str]()
    original = enhance._rows

    def rows(model: Any, grammar: Any, items: Any, limit: int) -> Any:
        asked.extend(item.item_id for item in items)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return original(model, grammar, items, limit)

    monkeypatch.setattr(enhance, "_rows", rows)
    with pytest.raises(KeyboardInterrupt):
        run(home, tmp_path / "killed")
    assert run(home, tmp_path / "killed") == whole
    assert asked == ["i0", "i1", "i1", "i2"]


def test_vectors_of_what_was_written(home: Path, tmp_path: Path) -> None:
    rows = run(home, tmp_path / "written")
    command = ["embed", "--dataset", str(home / "dataset"), "--fields", "title"]
    with_it = [*command, "--enhanced", str(tmp_path / "written")]
    run_command([*with_it, "--out", str(tmp_path / "features")])
    run_command([*command, "--out", str(tmp_path / "plain")])
    found, plain = load_blocks(tmp_path / "features"), load_blocks(tmp_path / "plain")
    np.testing.assert_array_equal(found["text"], plain["text"])
    assert "enhanced" not in plain
    assert found["enhanced"].any(axis=1).tolist() == [bool(row["text"]) for row in rows]


def test_of_another_dataset_or_without_text(home: Path, tmp_path: Path) -> None:
    run(home, tmp_path / "written")
    write_items(home / "other", [{"title": "Teapot"}])
    command = ["embed", "--dataset", str(home / "other"), "--out", str(tmp_path / "features")]
    with pytest.raises(ArtifactError, match="of another dataset; run llmrec enhance again"):
        run_command([*command, "--enhanced", str(tmp_path / "written")])
    write_items(home / "empty", [{}])
    with pytest.raises(DataError, match="no item has any text"):
        run(home, tmp_path / "none", dataset="empty")
