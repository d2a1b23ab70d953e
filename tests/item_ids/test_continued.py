"""IDs of a catalogue that has changed, matched by name."""

from dataclasses import replace

import numpy as np
import pytest

from llmrec.errors import ArtifactError, ConfigError
from llmrec.item_ids.continued import continued_ids, known_rows, usual_spare
from llmrec.item_ids.item_ids import ItemIds, id_files


def named(names: str, spare: int = 0, vectors: np.ndarray | None = None) -> ItemIds:
    ids = ItemIds.atomic(len(names), spare, vectors, {} if vectors is None else {"text": 1.0})
    return replace(ids, names=tuple(names))


def test_items_are_matched_by_name() -> None:
    assert known_rows(named("abc"), list("cxa"), "old").tolist() == [2, -1, 0]
    with pytest.raises(ConfigError, match=r"^old: knows none of the 2 items \('a' there, 'x' here"):
        known_rows(named("abc"), ["x", "y"], "old")
    with pytest.raises(ConfigError, match=r"^old: does not say which item has which ID"):
        known_rows(ItemIds.atomic(3), ["a"], "old")


@pytest.mark.parametrize(
    ("now", "tokens"),
    [("ab", 5), ("abcde", 5), ("abcdef", 6 + usual_spare(6))],
    ids=["fewer items", "as many as tokens", "more than tokens"],
)
def test_tokens_are_never_taken_away(now: str, tokens: int) -> None:
    ids = continued_ids(named("abc", spare=2), list(now), None, "old")
    assert (ids.n_items, ids.n_tokens, ids.names) == (len(now), tokens, tuple(now))


def test_contents_go_with_their_items_or_are_made_anew() -> None:
    vectors = np.eye(3, 2, dtype=np.float32) + 1
    old = named("abc", 1, vectors)
    without = continued_ids(old, ["c", "x", "a"], None, "old")
    assert without.token_vectors.tolist() == [
        *vectors[[2]].tolist(),
        [0, 0],
        *vectors[[0]].tolist(),
        [0, 0],
    ]
    fresh = np.full((3, 2), 7, np.float32)
    made = continued_ids(old, ["c", "x", "a"], {"text": fresh}, "old")
    assert made.token_vectors.tolist() == [*fresh.tolist(), [0, 0]]
    assert made.blocks == {"text": 1.0}


def test_where_ids_lie(tmp_path) -> None:
    named("abc").save(tmp_path / "model" / "item_ids")
    expected = ["item_ids.json", "item_ids.safetensors", "names.json"]
    for folder in (tmp_path / "model", tmp_path / "model" / "item_ids"):
        assert [path.name for path in id_files(folder)] == expected
    with pytest.raises(ArtifactError, match="holds no item IDs; give a folder of llmrec index"):
        id_files(tmp_path)
