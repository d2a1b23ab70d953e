"""JSON files: lines or one array, rows that are lines of the file, bounded depth."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmrec.data import raw_files, raw_streams
from llmrec.data.reading import Reading, ReadingOptions
from llmrec.errors import DataError

ROWS = [{"a": 1, "b": "x, ]"}, {"a": [2, {"c": "}"}], "b": "é\u2028\\"}, {"a": None, "b": '"'}]


@pytest.fixture(params=[3, 17, 8 << 20])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in parts of so many bytes."""
    monkeypatch.setattr(raw_streams, "PART", request.param)


def read(path: Path, content: str, **options: Any) -> list[tuple[int, dict[str, Any]]]:
    path.write_text(content, encoding="utf-8", newline="")
    return list(raw_files.json_rows(path, reading=Reading(ReadingOptions(**options))))


def failing(path: Path, content: str) -> str:
    with pytest.raises(DataError) as caught:
        read(path, content)
    return str(caught.value)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_has_the_rows_of_its_lines(tmp_path: Path, indent: int | None) -> None:
    content = json.dumps(ROWS, indent=indent, ensure_ascii=False)
    found = read(tmp_path / "t.json", content)
    assert [value for _, value in found] == ROWS
    lines = content.split("\n")
    begins = [n for n, line in enumerate(lines, 1) if line == "  {"] or [1, 1, 1]
    assert [row for row, _ in found] == begins
    assert read(tmp_path / "t.json", "[\n]\n") == []


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_system_ends_them(tmp_path: Path, end: str) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    found = read(tmp_path / "t.jsonl", end.join([lines[0], "", *lines[1:]]))
    assert found == list(zip([1, 3, 4], ROWS, strict=True))


@pytest.mark.usefixtures("parts")
def test_lines_of_text_have_no_ends(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"a b\r\n\n c\rd\n\r\ne")
    found = list(raw_files.text_lines(path))
    assert found == [(1, "a b"), (3, " c"), (4, "d"), (6, "e")]


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize(
    "content, expected",
    [
        ('[\n{"a": 1},\n{"a": }\n]', "row 3: not a readable JSON object (Expecting value)"),
        ('[\n{"a": 1},\n{"a": 2}\n', "row 4: not a readable JSON object"),
        ('[\n{"a": 1},\n7]', "row 3: expected a JSON object"),
        ('[\n{"a": 1}\n]\n{"a": 2}', "row 3: the file goes on after its array"),
        ('[{"a": ' + "[" * 70 + "]" * 70 + "}]", "row 1: not a readable JSON object (nested deep"),
        ('{"a": 1}\n' + "[" * 100_000, "row 2: not a readable JSON object (nested deeper"),
        ('["u", "a"]\n', "row 1: expected a JSON object"),
    ],
)
def test_what_is_no_row_is_named(tmp_path: Path, content: str, expected: str) -> None:
    message = failing(tmp_path / "t.json", content)
    assert expected in message and len(message) < 300


@pytest.mark.usefixtures("parts")
def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for content in (b'[\n{"a": "x"},\n{"a": "\xff"}]', b'{"a": 1}\n\n{"a": "\xff"}\n'):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"row 3, byte 8: not valid UTF-8"):
            list(raw_files.json_rows(path))


def test_lines_that_cannot_be_read_are_skipped_up_to_a_limit(tmp_path: Path) -> None:
    content = '{"a": 1}\n{"a"\n[1]\n{"a": 2}\n'
    found = read(tmp_path / "t.jsonl", content, skip_bad_rows=2)
    assert found == [(1, {"a": 1}), (4, {"a": 2})]
    with pytest.raises(DataError, match=r"row 3: expected .* \(after 1 others were skipped"):
        read(tmp_path / "t.jsonl", content, skip_bad_rows=1)


@pytest.mark.parametrize("whole", ["%s", "[%s]"])
def test_half_a_surrogate_pair_is_a_question_mark_and_is_noticed(
    tmp_path: Path, whole: str
) -> None:
    line = r'{"a": "\ud83d\ude00 \ud83d, \\ud83d"}'
    (tmp_path / "t.json").write_text(whole % line)
    reading = Reading()
    ((_, row),) = raw_files.json_rows(tmp_path / "t.json", reading=reading)
    assert row == {"a": "😀 ?, \\ud83d"}
    assert "half a surrogate pair" in reading.notices()[0]


def test_a_column_is_looked_for_in_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": 3, "late": 4}\n')
    for chunk in (2, 50_000):
        monkeypatch.setattr(raw_files, "JSON_CHUNK", chunk)
        found = list(raw_files.rows(path, (), {"late": "fix"}))
        assert [row for row, _ in found] == [1, 2, 3]
        with pytest.raises(DataError, match=r"no column 'none' \(it has 'a', 'late'\); fix"):
            list(raw_files.rows(path, (), {"none": "fix"}))


def test_numbers_keep_every_digit() -> None:
    assert raw_files.json_column([1.5, 2**53 + 1, None]).to_pylist() == [
        "1.5",
        "9007199254740993",
        None,
    ]
    assert raw_files.json_column([1.5, 7]).to_pylist() == [1.5, 7.0]
    assert raw_files.json_column([2**63, 1]).to_pylist() == ["9223372036854775808", "1"]
