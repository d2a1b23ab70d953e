"""Ids that never move: whatever comes later, and in whatever order."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.captions.categorical_vocabulary import (
    MISSING,
    UNKNOWN,
    CaptionVocabulary,
    FeatureIds,
    row_words,
)
from llmrec.errors import ArtifactError

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)
COUNTS = st.dictionaries(WORDS, st.integers(1, 5), max_size=12)
BUCKETS = st.integers(0, 4)


def test_ids_are_by_count_and_by_text_among_equals() -> None:
    counts = {"blue": 2, "azure": 2, "red": 7, "rare": 1}
    ids = FeatureIds().grown(counts, min_count=2)
    assert ids.values == ("red", "azure", "blue")
    assert [ids.id(value) for value in ("red", "azure", "blue")] == [2, 3, 4]
    assert (ids.id("rare"), ids.id(None), ids.id(""), ids.size) == (UNKNOWN, MISSING, MISSING, 5)


def test_the_tail_goes_to_buckets_between_the_first_ids_and_the_values() -> None:
    ids = FeatureIds(("red",), buckets=8)
    tail = {ids.id(f"word{number}") for number in range(200)}
    assert tail == set(range(2, 10)) and ids.id("red") == 10 and ids.size == 11
    assert {FeatureIds(("red",), 8, seed=1).id(f"word{n}") for n in range(200)} == tail
    moved = [n for n in range(200) if ids.id(f"w{n}") != FeatureIds((), 8, seed=1).id(f"w{n}")]
    assert len(moved) > 100  # another seed is another hash


def test_a_hash_is_the_same_in_every_process() -> None:
    code = (
        "from llmrec.captions.categorical_vocabulary import FeatureIds\n"
        "print([FeatureIds((), 1000).id(w) for w in ('mug', 'caf\\u00e9', 'h\\ud800')])"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    here = [FeatureIds((), 1000).id(word) for word in ("mug", "caf\u00e9", "h\ud800")]
    assert told == [f"{here}\n"] * 2


@given(COUNTS, COUNTS, BUCKETS, st.integers(1, 3), st.integers(1, 15))
def test_growing_never_moves_an_id(
    first: dict[str, int], later: dict[str, int], buckets: int, least: int, most: int
) -> None:
    before = FeatureIds((), buckets).grown(first, least, most)
    after = before.grown(later, least, most)
    assert [after.id(value) for value in before.values] == [before.id(v) for v in before.values]
    assert len(after.values) <= max(most, len(before.values))
    assert len(set(map(after.id, after.values))) == len(after.values)
    for word in {*first, *later} - set(after.values):
        assert after.id(word) == before.id(word)  # the tail stays where it was
    assert all(0 < after.id(word) < after.size for word in {*first, *later, "new"})


@given(st.lists(WORDS, max_size=30), st.randoms())
def test_the_order_of_items_decides_nothing(given: list[str], random: Any) -> None:
    shuffled = random.sample(given, len(given))
    assert FeatureIds().grown(Counter(given)) == FeatureIds().grown(Counter(shuffled))


@given(COUNTS, COUNTS, BUCKETS, st.booleans())
def test_a_vocabulary_survives_the_disk(
    tmp_path_factory: pytest.TempPathFactory,
    fields: dict[str, int],
    tokens: dict[str, int],
    buckets: int,
    summary: bool,
) -> None:
    whole = CaptionVocabulary(
        {"colour": FeatureIds().grown(fields), "field.odd": FeatureIds()},
        FeatureIds((), buckets, seed=5).grown(tokens),
        summary,
    )
    path = tmp_path_factory.mktemp("v") / "vocabulary.json"
    whole.save(path)
    assert CaptionVocabulary.load(path) == whole


def test_a_row_becomes_field_ids_and_distinct_words() -> None:
    vocabulary = CaptionVocabulary(
        {"colour": FeatureIds(("red",)), "style": FeatureIds()}, FeatureIds(("mug", "red", "gift"))
    )
    row = {
        "item_id": "i1",
        "caption": "A red Mug, a red one",
        "key_terms": ["red gift", None],
        "summary": "unread",
        "colour": "  red ",
        "style": None,
    }
    fields, tokens = vocabulary.encode(row)
    assert fields == {"colour": 2, "style": MISSING}
    assert tokens == [UNKNOWN, 2, 3, 4]  # "a" and "one" are unknown, once
    assert row_words(row, summary=True) - row_words(row, summary=False) == {"unread"}
    assert vocabulary.encode({}) == ({"colour": MISSING, "style": MISSING}, [])
    assert vocabulary.encode({"colour": "mauve"})[0]["colour"] == UNKNOWN


GOOD: dict[str, Any] = {
    "version": 1,
    "words_version": 1,
    "summary": False,
    "features": {"tokens": {"buckets": 2, "seed": 0, "values": ["a", "b"]}},
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({**GOOD, "version": 2}, "written with version 2, this llmrec reads up to 1; upgrade llmrec"),
    ({**GOOD, "words_version": 9}, "written with words_version 9"),
    ({**GOOD, "version": "one"}, "is no vocabulary .version is 'one'."),
    ({**GOOD, "features": {}}, "is no vocabulary"),
    ({**GOOD, "features": []}, "is no vocabulary"),
    ({"features": {}}, "is no vocabulary"),
    *(
        (
            {**GOOD, "features": {"tokens": {**GOOD["features"]["tokens"], **wrong}}},
            "distinct texts",
        )
        for wrong in ({"values": ["a", "a"]}, {"values": [1]}, {"buckets": -1}, {"seed": "x"})
    ),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_a_vocabulary_that_is_none_names_the_file(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=rf"vocabulary.json: .*{message}") as told:
        CaptionVocabulary.load(path)
    assert "\n" not in str(told.value)


def test_a_vocabulary_that_is_not_there_or_no_json_names_the_file(tmp_path: Path) -> None:
    for content in (None, b"", b"[]", b"\xff\xfe"):
        if content is not None:
            (tmp_path / "vocabulary.json").write_bytes(content)
        with pytest.raises(ArtifactError, match=r"vocabulary.json: is no vocabulary"):
            CaptionVocabulary.load(tmp_path / "vocabulary.json")
