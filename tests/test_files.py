"""What must be on the disk before a name points at it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmrec import files
from llmrec.errors import ArtifactError


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
    (_, part), *rest = calls
    assert part.startswith(".state.json.") and part.endswith(".part")
    assert rest == [("rename", "state.json"), ("sync", tmp_path.name)]
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_many_threads_write_one_file(tmp_path: Path) -> None:
    texts = [str(number) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: files.write_whole(tmp_path / "state.json", text), texts * 5))
    assert (tmp_path / "state.json").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


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


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    out = tmp_path / "cache"
    for text in ("one", "other"):
        with files.replacing(out) as part:
            (part / text).write_text(text)
        assert [path.name for path in out.iterdir()] == [text]
    with pytest.raises(ZeroDivisionError), files.replacing(out) as part:
        (part / "half").touch()
        _ = 1 / 0
    with files.locked(out), pytest.raises(ArtifactError, match="another run writes here"):
        files.replacing(out).__enter__()
    assert [path.name for path in out.iterdir()] == ["other"]
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_damage_of_a_folder_s_files_is_named(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    listed = files.list_files(tmp_path)
    assert {name: size for name, (size, _) in listed.items()} == {"a": 1, "b/c": 3}
    assert files.damaged_files(tmp_path, listed, hashes=True) == []
    (tmp_path / "a").write_text("b")
    assert files.damaged_files(tmp_path, listed) == []
    (damage,) = files.damaged_files(tmp_path, listed, hashes=True)
    assert damage == f"{tmp_path / 'a'}: is not what was written (its sha256 differs)"
    (tmp_path / "b" / "c").write_text("longer")
    (damage,) = files.damaged_files(tmp_path, listed, hashes=True)
    assert damage == f"{tmp_path / 'b/c'}: has 6 bytes, was written with 3"
    assert files.unlisted_files(tmp_path, {"a"}) == ["b/c"]
