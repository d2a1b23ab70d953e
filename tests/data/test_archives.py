"""Files inside a .zip: found, read, and what is wrong with one said in one line."""

import zipfile
from pathlib import Path

import pytest

from llmrec.data.archives import archive_of, is_archive, members, open_member
from llmrec.data.raw_files import files_at, input_hashes, rows
from llmrec.errors import DataError


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "log.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("__MACOSX/log/._b.csv", "notes of a Mac")
        file.writestr("log/", "")
        file.writestr("log/b.csv", "user_id\n7\n")
        file.writestr("log/a.csv", "user_id\n8\n")
        file.writestr("log/README", "text")
    return path


def test_its_files_are_named_by_paths_that_lead_into_it(packed: Path) -> None:
    names = [path.relative_to(packed).as_posix() for path in members(packed)]
    assert names == ["log/README", "log/a.csv", "log/b.csv"]
    member = packed / "log" / "a.csv"
    assert archive_of(member) == archive_of(packed) == packed and is_archive(packed)
    assert archive_of(packed.parent / "plain.csv") == packed.parent / "plain.csv"
    assert not is_archive(packed.parent / "gone.zip")
    with open_member(member) as stream:
        assert stream.read() == b"user_id\n8\n"


def test_tables_in_it_are_read_as_those_of_a_folder(packed: Path) -> None:
    assert files_at(packed) == [packed / "log" / "a.csv", packed / "log" / "b.csv"]
    assert files_at(packed / "log" / "b.csv") == [packed / "log" / "b.csv"]
    found = [list(rows(path, ["user_id"], {})) for path in files_at(packed)]
    assert found == [[(2, {"user_id": "8"})], [(2, {"user_id": "7"})]]
    assert list(input_hashes("log", packed)) == ["log/log.zip"]


def test_what_cannot_be_read_is_named(packed: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"log/c\.csv: log\.zip holds no such file"),
        open_member(packed / "log" / "c.csv"),
    ):
        pass
    (tmp_path / "no.zip").write_text("no zip at all")
    with pytest.raises(DataError, match=r"no\.zip: cannot be unzipped .*fetch the file again"):
        members(tmp_path / "no.zip")
    with zipfile.ZipFile(tmp_path / "slow.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.csv", "user_id\n7\n")
    with (
        pytest.raises(DataError, match=r"a\.csv: is packed in a way that is not read; unpack slow"),
        open_member(tmp_path / "slow.zip" / "a.csv"),
    ):
        pass


def test_an_encrypted_file_is_named(packed: Path) -> None:
    raw = bytearray(packed.read_bytes())
    at = raw.index(b"PK\x01\x02")  # of each file, its flags are 8 bytes on
    while at >= 0:
        raw[at + 8] |= 1
        at = raw.find(b"PK\x01\x02", at + 1)
    packed.write_bytes(bytes(raw))
    with (
        pytest.raises(DataError, match=r"a\.csv: is encrypted; unpack log\.zip first"),
        open_member(packed / "log" / "a.csv"),
    ):
        pass
