"""Delimited files: every record with its line, whatever its cells hold; faults are named."""

import csv
import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data import csv_records, raw_files, raw_streams
from llmrec.data.reading import Reading, ReadingOptions
from llmrec.errors import DataError

CELLS = st.text(st.sampled_from('ab ",\n\r\\é1'), max_size=6)
TABLES = st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8)
HEADER = ["x", "y", "z"]


def read(path: Path, **options: Any) -> list[tuple[int, dict[str, Any]]]:
    return list(raw_files.rows(path, (), {}, Reading(ReadingOptions(**options))))


def table(path: Path, content: str | bytes, **options: Any) -> list[tuple[int, list[Any]]]:
    """Rows of a file with this content, each with its cells."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(row, list(cells.values())) for row, cells in read(path, **options)]


def failing(path: Path, content: str | bytes, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        table(path, content, **options)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.fixture(params=[7, 31, 8 << 20])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Files are read in parts of so many bytes, so that records begin and end anywhere in them."""
    monkeypatch.setattr(raw_streams, "PART", request.param)
    return request.param


@settings(max_examples=150, deadline=None)
@given(rows=TABLES, quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), end=st.booleans())
@pytest.mark.parametrize("part", [5, 8 << 20])
def test_what_the_csv_module_writes_is_read_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, part: int, rows: list, quoting: Any, end: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator="\r\n")
    writer.writerow(HEADER)
    expected = []
    for cells in rows:
        written = text.getvalue()
        breaks = written.count("\n") + written.replace("\r\n", "").count("\r")
        expected.append((1 + breaks, [cell or None for cell in cells]))
        writer.writerow(cells)
    content = text.getvalue() if end else text.getvalue().removesuffix("\r\n")
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_streams, "PART", part)
        assert table(path, content, escape=None) == expected


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_and_line_breaks_in_cells_count_as_lines(tmp_path: Path, end: str) -> None:
    lines = ["a,b", '1,"two', "lines", 'three"', "", "", "4,x", "5,y"]
    found = table(tmp_path / "t.csv", end.join(lines) + end)
    text = end.join(["two", "lines", "three"])
    assert found == [(2, ["1", text]), (7, ["4", "x"]), (8, ["5", "y"])]


@pytest.mark.usefixtures("parts")
def test_a_quote_without_an_end_is_named_where_it_opens(tmp_path: Path) -> None:
    content = 'a,b\n1,x\n\n2,"great\n3,y\n4,z\n'
    message = failing(tmp_path / "t.csv", content)
    assert "row 4: a quoted cell begins that does not end" in message and "quote" in message
    assert len(table(tmp_path / "t.csv", content, quote=None)) == 4
    # also where a later quote seems to close it
    assert "row 2: a quoted cell" in failing(tmp_path / "t.csv", 'a,b\n1,"great\n2,"fine"\n')
    assert "row 3: a quoted cell" in failing(tmp_path / "t.csv", 'a,b\n1,x\n2,"5" disk"\n')


def test_tsv_has_no_quotes_unless_told(tmp_path: Path) -> None:
    content = 'a\tb\n1\t"Heroes\n2\t"y"\n'
    assert table(tmp_path / "t.tsv", content) == [(2, ["1", '"Heroes']), (3, ["2", '"y"'])]
    assert "row 2: a quoted cell" in failing(tmp_path / "t.tsv", content, quote='"')


@pytest.mark.usefixtures("parts")
def test_a_quote_within_a_cell_that_has_none_at_its_ends_is_a_character(tmp_path: Path) -> None:
    content = 'a,b\n5" disk,x"y"\n"q, ""r""",x""y\n"""",""\n"k ""l"",\nm",n\n'
    assert table(tmp_path / "t.csv", content) == [
        (2, ['5" disk', 'x"y"']),
        (3, ['q, "r"', 'x""y']),
        (4, ['"', None]),
        (5, ['k "l",\nm', "n"]),
    ]


@pytest.mark.usefixtures("parts")
def test_backslashes_escape_quotes_where_the_file_has_it_throughout(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    content = 'a,b\n1,"plain"\n2,"The \\"Best\\", of"\n3,"C:\\new\\\\"\n\\N,"two\\\nlines"\n'
    assert table(path, content) == [
        (2, ["1", "plain"]),
        (3, ["2", 'The "Best", of']),
        (4, ["3", "C:\\new\\"]),
        (5, ["\\N", "two\nlines"]),
    ]
    assert "row 3: a quoted cell" in failing(path, content, escape=None)
    # a backslash at the end of a cell is one, where it escapes nothing
    assert table(path, 'a,b\n1,"C:\\dir\\"\n2,x\n')[0] == (2, ["1", "C:\\dir\\"])


def test_a_file_that_has_it_both_ways_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    content = 'a,b\n1,"C:\\"\n' + "1,x\n" * 20 + '3,"The \\"Best\\" of"\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_streams, "PART", 20)
        message = failing(path, content)
    assert "row 23: a backslash makes a quote part of its cell, but in row 2 it ends" in message
    assert "set the option escape" in message


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_the_delimiter_is_the_one_that_the_first_line_has_most_of(
    tmp_path: Path, delimiter: str
) -> None:
    content = delimiter.join(['"a,b;c|d"', " e", "f "]) + "\n" + delimiter.join("123") + "\n"
    found = read(_written(tmp_path / "t.csv", content))
    assert found == [(2, {"a,b;c|d": "1", "e": "2", "f": "3"})]


@pytest.mark.usefixtures("parts")
def test_delimiters_of_several_characters_and_files_without_a_header(tmp_path: Path) -> None:
    path = _written(tmp_path / "ratings.dat", "1::Blade: Runner::5\n2::It's \"x::4\n")
    found = read(path, delimiter="::", header=False, quote=None)
    assert found == [
        (1, {"1": "1", "2": "Blade: Runner", "3": "5"}),
        (2, {"1": "2", "2": "It's \"x", "3": "4"}),
    ]
    assert "unknown kind of file" in failing(path, "1::2\n")
    assert "U+001F" in failing(path, "1::2\x1f\n", delimiter="::")


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize(
    "encoding, given", [("latin-1", "latin-1"), ("utf-16", "auto"), ("utf-8-sig", "auto")]
)
def test_encodings(tmp_path: Path, encoding: str, given: str) -> None:
    content = 'a,b\n1,"né\nu"\n2,Zoë\n'.encode(encoding)
    found = table(tmp_path / "t.csv", content, encoding=given)
    assert found == [(2, ["1", "né\nu"]), (4, ["2", "Zoë"])]


@pytest.mark.usefixtures("parts")
def test_bytes_of_another_encoding_are_named(tmp_path: Path) -> None:
    message = failing(tmp_path / "t.csv", b'a,b\n1,"x\ny"\n2,Zo\xeb\n')
    assert "row 4, byte 5: not valid UTF-8" in message and "option encoding" in message
    message = failing(tmp_path / "t.csv", b"a\n1\n\x81\n", encoding="cp1252")
    assert "row 3: not valid cp1252" in message


@pytest.mark.usefixtures("parts")
def test_bad_rows_are_skipped_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [b"a,b", b"1,x", b"2", b"3,y,z", b'4,"open', b"5,\xeb", b'6,"w"', b"7,v"]
    path.write_bytes(b"\n".join(lines) + b"\n")
    reading = Reading(ReadingOptions(skip_bad_rows=4))
    found = [(row, list(cells.values())) for row, cells in raw_files.rows(path, (), {}, reading)]
    assert found == [(2, ["1", "x"]), (7, ["6", "w"]), (8, ["7", "v"])]
    assert reading.skipped == 4 and len(reading.examples) == 3
    with pytest.raises(DataError, match=r"after 3 others were skipped, as skip_bad_rows allows"):
        read(path, skip_bad_rows=3)


def test_a_cell_with_many_lines_is_reported(tmp_path: Path) -> None:
    long = "\n".join(["line"] * 22)
    path = _written(tmp_path / "t.csv", f'a,b\n1,x\n2,"{long}"\n3,y\n')
    reading = Reading()
    assert len(list(raw_files.rows(path, (), {}, reading))) == 3
    (notice,) = reading.notices()
    assert "1 rows of more than 20 lines" in notice and "row 3" in notice


def test_a_record_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_streams, "PART", 100)
    monkeypatch.setattr(csv_records, "MOST_BYTES", 1000)
    many = "1,x\n" * 600
    assert "row 2: a quoted cell" in failing(tmp_path / "t.csv", f'a,b\n1,"open\n{many}')
    assert "is this a text file" in failing(tmp_path / "t.csv", "a,b\n1," + "x" * 3000)


def test_zipped_files_are_read_as_they_are(tmp_path: Path) -> None:
    content = b"a,b\n1,x\n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/one.csv", content)
        archive.writestr("inner/README", "words")
    (member,) = raw_files.files_at(tmp_path / "t.zip")
    assert member == tmp_path / "t.zip" / "inner" / "one.csv"
    assert read(tmp_path / "t.csv.gz") == read(member) == [(2, {"a": "1", "b": "x"})]
    with pytest.raises(DataError, match="no such file"):
        raw_files.files_at(tmp_path / "t.zip" / "gone.csv")


def _written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def test_a_row_too_long_that_is_not_utf8_either_is_named(tmp_path: Path) -> None:
    content = b"x,y,z\n1,2,3\n4,\xff,6,7\n8,9,\xff\n5,6,7\n"
    assert "row 3" in failing(tmp_path / "f.csv", content)
    rows = table(tmp_path / "f.csv", content, skip_bad_rows=2)
    assert rows == [(2, ["1", "2", "3"]), (5, ["5", "6", "7"])]


def test_what_is_not_utf8_in_a_column_that_nobody_reads_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"x,y\n1,\xff\n2,3\n")
    (chunk,) = raw_files.chunks(path, ["x"], {})
    assert chunk.columns["x"].to_pylist() == ["1", "2"]


@pytest.mark.usefixtures("parts")
def test_an_escape_where_there_is_no_quote_or_no_row(tmp_path: Path) -> None:
    assert table(tmp_path / "t.csv", 'a,b\n1,\\"x\n', escape="\\") == [(2, ["1", '"x'])]
    assert table(tmp_path / "t.csv", "a,b\n", escape="\\") == []


@pytest.mark.usefixtures("parts")
def test_a_quote_that_loses_its_end_with_a_line_that_is_skipped_is_named(tmp_path: Path) -> None:
    content = b'a,b\n1,"x\n\xffy"\n2,z\n'
    rows = table(tmp_path / "t.csv", content, skip_bad_rows=2)
    assert rows == [(4, ["2", "z"])]
    assert "row 2: a quoted cell" in failing(tmp_path / "t.csv", content, skip_bad_rows=1)
