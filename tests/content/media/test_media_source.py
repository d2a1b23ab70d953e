"""A catalogue's fields lead to files inside the folder, to the cache, or to a reason."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from media_server import PICTURE, Server

from llmrec.content.media.download import MediaLimits
from llmrec.content.media.errors import EmptyMediaError, MediaError, SourceError, TooLargeError
from llmrec.content.media.source import MediaSource

HERE = MediaLimits(networks=("127.0.0.1/32",), timeout=1, deadline=5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "media" / "shoes").mkdir(parents=True)
    (tmp_path / "media" / "shoes" / "1.png").write_bytes(PICTURE)
    (tmp_path / "secret.png").write_bytes(PICTURE)
    return tmp_path / "media"


def test_a_path_is_a_file_of_the_folder(root: Path) -> None:
    source = MediaSource(root)
    assert source.read("shoes/1.png") == (root / "shoes" / "1.png").resolve()
    assert source.read("shoes/../shoes/1.png") == source.read(str(root / "shoes" / "1.png"))


def test_no_path_leads_out_of_the_folder(root: Path) -> None:
    (root / "link.png").symlink_to(root.parent / "secret.png")
    for name in ("../secret.png", str(root.parent / "secret.png"), "link.png", "/etc/passwd"):
        with pytest.raises(SourceError, match="leads out of the folder"):
            MediaSource(root).read(name)


def test_what_is_no_file_is_a_reason(root: Path) -> None:
    os.mkfifo(root / "pipe")  # opening it would wait for ever
    (root / "loop").symlink_to(root / "loop")
    for name in ("shoes", "pipe", "nothing.png", "loop", "a\0b", "x" * 5000, " ", 7, None):
        with pytest.raises(SourceError) as caught:
            MediaSource(root).read(name)
        assert str(root) not in str(caught.value) and "\n" not in str(caught.value)


def test_sizes_hold_for_files_and_bytes_alike(root: Path) -> None:
    small = MediaSource(root, limits=MediaLimits(max_bytes=10))
    (root / "empty.png").touch()
    for value in ("shoes/1.png", PICTURE, {"bytes": PICTURE, "path": "1.png"}):
        with pytest.raises(TooLargeError, match="at most 10 are read"):
            small.read(value)
    for value in ("empty.png", b""):
        with pytest.raises(EmptyMediaError, match="an empty file"):
            small.read(value)


def test_bytes_of_a_table_are_taken_as_they_are(root: Path) -> None:
    assert MediaSource().read(PICTURE) == PICTURE
    assert MediaSource().read({"bytes": PICTURE, "path": None}) == PICTURE
    assert MediaSource(root).read({"bytes": None, "path": "shoes/1.png"}) == root / "shoes/1.png"


def test_a_url_is_fetched_once_and_contents_are_kept_once(server: Server, tmp_path: Path) -> None:
    source = MediaSource(cache=tmp_path / "cache", limits=HERE)
    first = source.read(f"{server.url}/picture")
    assert isinstance(first, Path) and first.read_bytes() == PICTURE
    assert source.read(f"{server.url}/picture") == first and len(server.asked) == 1
    assert source.read(f"{server.url}/picture/other") == first and len(server.asked) == 2
    first.unlink()
    assert source.read(f"{server.url}/picture") == first and len(server.asked) == 3


@pytest.mark.parametrize("damaged", [b"", PICTURE[:-9], PICTURE[:-1] + b"!"])
def test_a_damaged_download_is_fetched_again(
    server: Server, tmp_path: Path, damaged: bytes
) -> None:
    source = MediaSource(cache=tmp_path / "cache", limits=HERE)
    kept = source.read(f"{server.url}/picture")
    assert isinstance(kept, Path)
    kept.write_bytes(damaged)
    assert source.read(f"{server.url}/picture") == kept and kept.read_bytes() == PICTURE


def test_many_who_fetch_at_once_never_mix(server: Server, tmp_path: Path) -> None:
    caches = [MediaSource(cache=tmp_path / "cache", limits=HERE) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda source: source.read(f"{server.url}/picture"), caches))
    assert len(set(found)) == 1
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sorted(path.parent.name for path in files) == ["contents", "urls"]
    assert len({path.stat().st_mode for path in files}) == 1


def test_a_failed_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    source = MediaSource(cache=tmp_path / "cache", limits=HERE)
    for path in ("missing", "stated/1000"):
        with pytest.raises(MediaError):
            source.read(f"{server.url}/{path}")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_without_a_folder_there_are_no_files_and_no_downloads() -> None:
    with pytest.raises(SourceError, match="no folder of media"):
        MediaSource().read("shoes/1.png")
    with pytest.raises(SourceError, match="no folder to keep downloads"):
        MediaSource().read("https://shop.example/1.jpg")
