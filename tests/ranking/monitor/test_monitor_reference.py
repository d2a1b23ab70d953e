"""The reference of a model's inputs, and how far a log's shares are from it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llmrec.errors import ArtifactError, DataError
from llmrec.ranking.monitor.drift import compare, psi_by_chance, psi_parts
from llmrec.ranking.monitor.reference import (
    MOST_VALUES,
    CategoricalColumn,
    NumericColumn,
    Reference,
)


def test_numbers_are_parted_at_quantiles_with_bins_outside_and_for_what_is_missing() -> None:
    values = np.append(np.arange(1.0, 101), [np.nan] * 7)
    column = Reference.fit({"x": values}, bins=4).columns["x"]
    assert column == NumericColumn((1.0, 25.0, 50.0, 75.0, 100.0), (0, 1, 24, 25, 25, 25, 0, 7))
    assert column.bins_of(np.array([-5, 1, 25, 25.5, 100, 1e9, np.nan])).tolist() == [
        *(0, 1, 2, 3, 5, 6, 7)
    ]
    assert column.labels()[:3] == ["below 1", "1", "1 to 25"]
    assert len(column.labels()) == len(column.counts)


def test_ties_make_fewer_bins_and_a_constant_still_sees_change() -> None:
    column = Reference.fit({"x": np.zeros(50)}).columns["x"]
    assert column == NumericColumn((0.0,), (0, 50, 0, 0))
    assert column.bins_of(np.array([-1.0, 0, 1])).tolist() == [0, 1, 2]
    counts = np.bincount(column.bins_of(np.full(50, 3.0)), minlength=4)
    assert compare("x", column.labels(), np.array(column.counts), counts).state == "drifted"


def test_a_column_of_which_nothing_is_known_has_only_missing_rows() -> None:
    numbers = Reference.fit({"x": np.full(5, np.nan)}).columns["x"]
    assert numbers.counts[-1] == 5 == sum(numbers.counts)
    words = Reference.fit({"x": np.array([None] * 5, dtype=object)}).columns["x"]
    assert words.counts[-1] == 5 == sum(words.counts)


def test_infinite_values_are_beyond_the_limits() -> None:
    column = Reference.fit({"x": np.array([1.0, 2.0, np.inf, -np.inf])}, bins=1).columns["x"]
    assert column == NumericColumn((1.0, 2.0), (1, 1, 1, 1, 0))


def test_texts_are_counted_and_rare_ones_are_other() -> None:
    values = [f"v{number}" for number in range(60) for _ in range(61 - number)]
    column = Reference.fit({"x": np.array(values)}).columns["x"]
    assert isinstance(column, CategoricalColumn)
    assert len(column.values) == MOST_VALUES
    assert column.values[:2] == ("v0", "v1") and column.counts[0] == 61
    assert column.counts[-2:] == (sum(61 - number for number in range(50, 60)), 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array(["a", None, "b"], dtype=object), CategoricalColumn(("a", "b"), (1, 1, 0, 1))),
        (np.array([True, False, True]), CategoricalColumn(("True", "False"), (2, 1, 0, 0))),
        (np.array([2, None, 1.5], dtype=object), NumericColumn((1.5, 2.0), (0, 1, 1, 0, 1))),
        (np.array([7, 7], dtype=np.int32), NumericColumn((7.0,), (0, 2, 0, 0))),
        (np.array(["a", 3], dtype=object), CategoricalColumn(("a", "3"), (1, 1, 0, 0))),
    ],
)
def test_the_kind_of_a_column_is_told_by_its_values(values: np.ndarray, expected: object) -> None:
    assert Reference.fit({"x": values}, bins=1).columns["x"] == expected


def test_a_saved_reference_is_the_same(tmp_path: Path) -> None:
    columns = {"x": np.random.default_rng(0).random(99), "kind": np.array(["a", "b", "é"] * 33)}
    reference = Reference.fit(columns)
    path = reference.save(tmp_path / "model" / "reference.json")
    assert Reference.load(path) == reference
    assert reference.rows == 99
    assert [file.name for file in path.parent.iterdir()] == ["reference.json"]


def kept(**changes: object) -> str:
    column = {"limits": [1.0, 2.0], "counts": [0, 1, 1, 0, 0]} | changes
    return json.dumps({"schema_version": 1, "rows": 2, "columns": {"x": column}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable reference"),
        ("{}", "has no schema_version; it is not a reference"),
        (json.dumps({"schema_version": 9, "columns": {}}), "schema version 9.*upgrade"),
        (json.dumps({"schema_version": 1, "columns": {}}), "damaged reference.*rows"),
        (kept(limits=[2.0, 1.0]), "damaged reference.*limits do not rise.*fit it again"),
        (kept(counts=[1, 2]), "2 counts for 5 bins"),
        (kept(counts=[0, 1, 1, 0, -1]), "a count is no count"),
    ],
)
def test_a_damaged_reference_is_told_so(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=message):
        Reference.load(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "at least one column"),
        ({"x": np.array([])}, "at least one row"),
        ({"x": np.zeros(3), "y": np.zeros(2)}, "columns differ in length"),
        ({"x": np.zeros((3, 2))}, r"column 'x' is float64 \(3, 2\)"),
        ({"x": np.array(["2024-01-01"], dtype="datetime64[D]")}, "column 'x' is datetime64"),
    ],
)
def test_what_is_no_reference_is_told(columns: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Reference.fit(columns)


def test_psi_is_the_sum_of_the_textbook() -> None:
    before, now = np.array([5000.0, 3000, 2000]), np.array([4000.0, 3000, 3000])
    a, b = before / 1e4, now / 1e4
    assert psi_parts(before, now).sum() == pytest.approx(((b - a) * np.log(b / a)).sum(), rel=1e-3)
    # both ways alike, and nothing for bins that neither has
    assert psi_parts(now, before).sum() == pytest.approx(psi_parts(before, now).sum())
    with_unused = psi_parts(np.append(before, 0), np.append(now, 0))
    assert with_unused.tolist() == pytest.approx([*psi_parts(before, now), 0])


def test_psi_by_chance_is_exceeded_once_in_twenty_times() -> None:
    rng = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    drawn = rng.multinomial(2000, shares, 2000), rng.multinomial(400, shares, 2000)
    exceeded = [psi_parts(a, b).sum() > psi_by_chance(a, b) for a, b in zip(*drawn, strict=True)]
    assert 0.035 < np.mean(exceeded) < 0.065


def test_the_state_follows_the_rule_and_names_what_moved() -> None:
    before = np.array([5000, 3000, 2000])
    labels = ["a", "b", "c"]
    assert compare("x", labels, before, before // 2).state == "stable"
    watch = compare("x", labels, before, np.array([3500, 3000, 3500]))
    assert (watch.state, watch.moved, watch.share_now) == ("watch", "c", 0.35)
    gone = compare("x", labels, before, np.array([0, 3000, 3000]))
    assert (gone.state, gone.moved, gone.share_before, gone.share_now) == ("drifted", "a", 0.5, 0)


def test_a_few_rows_are_no_drift() -> None:
    drift = compare("x", ["a", "b"], np.array([5000, 5000]), np.array([4, 1]))
    assert drift.psi > 0.1 and drift.psi < drift.by_chance and drift.state == "stable"


def test_places_of_other_arrow_types_are_found() -> None:
    column = CategoricalColumn(("a", "b"))
    assert column.bins_of(pa.array([], pa.string())).tolist() == []
    assert column.bins_of(pa.array([None, "b"], pa.string())).tolist() == [3, 1]
