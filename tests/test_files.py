"""What must be on the disk before a name points at it."""

import os
from pathlib import Path

import pytest

from llmrec import files


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Syncs and renames in their order, with the name of the file or the new name."""
    found: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        found.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        found.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", replaced)
    return found


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    files.write_whole(tmp_path / "state.json", "{}")
    part = f".state.json.{os.getpid()}.part"
    assert calls == [("sync", part), ("rename", "state.json"), ("sync", tmp_path.name)]


def test_a_folder_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    part = tmp_path / ".model.part"
    (part / "tokenizer").mkdir(parents=True)
    (part / "weights").touch()
    (part / "tokenizer" / "vocabulary").touch()
    files.put_in_place(part, tmp_path / "model")
    *before, rename, last = calls
    assert sorted(name for _, name in before) == sorted(
        [".model.part", "tokenizer", "vocabulary", "weights"]
    )
    assert {kind for kind, _ in before} == {"sync"}
    assert (rename, last) == (("rename", "model"), ("sync", tmp_path.name))
