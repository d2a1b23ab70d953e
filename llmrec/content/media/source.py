"""Where items' media come from: a file below a folder, bytes in a table, or a URL.

    source = MediaSource(root=Path("data/pictures"), cache=Path("cache"))
    source.read("shoes/1.jpg")               # a path in the folder
    source.read("https://shop.example/1.jpg")  # a path in the cache
    source.read(b"...")                      # the bytes themselves

The cache keeps each content once, under its sha256, and a small record a URL.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from llmrec.content.media.download import MediaLimits, download
from llmrec.content.media.errors import EmptyMediaError, MediaError, SourceError, TooLargeError
from llmrec.errors import ConfigError
from llmrec.files import file_hash, sync, write_whole
from llmrec.jsonl import read_json

T = TypeVar("T")


@dataclass(frozen=True)
class MediaSource:
    """Finds media, within limits.

    Attributes:
        root: the folder that relative paths start at, and that no path leaves; None when there
            is none.
        cache: the folder for what comes from URLs; None when there is none, and URLs are refused.
        limits: what one file may cost; the size holds for files and bytes too.
    """

    root: Path | None = None
    cache: Path | None = None
    limits: MediaLimits = field(default_factory=MediaLimits)

    @classmethod
    def beside(
        cls, out: Path, root: Path | None, limits: MediaLimits, cache: Path | None = None
    ) -> MediaSource:
        """The source of a stage that writes ``out``: downloads stay in ``media_cache`` beside it.

        Raises:
            ConfigError: if ``root`` is no folder.
        """
        if root is not None and not Path(root).is_dir():
            raise ConfigError(f"--media-root: {root} is no folder")
        return cls(root, Path(out).parent / "media_cache" if cache is None else cache, limits)

    def read(self, value: Any) -> Path | bytes:
        """The file or bytes behind one field of a catalogue.

        Args:
            value: a path, a URL, bytes, or a mapping with ``bytes`` or ``path`` as Hugging Face
                datasets store media.

        Raises:
            SourceError: if it cannot be had, or lies where it may not be read.
            TooLargeError: if it is larger than allowed.
            EmptyMediaError: if it has no bytes.
        """
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path") or ""
        if isinstance(value, bytes | bytearray | memoryview):
            content = bytes(value)
            self._check_size(len(content))
            return content
        if not isinstance(value, str) or not value.strip():
            raise SourceError(f"neither a path, a URL nor bytes but {type(value).__name__}")
        if "://" in value:
            return self._fetched(value.strip())
        return self._file(value)

    def _file(self, name: str) -> Path:
        if self.root is None:
            raise SourceError("a path, and no folder of media was given")
        try:
            root = self.root.resolve()
            path = (root / name).resolve()  # follows links: they may lead out of the folder
            inside = path.is_relative_to(root)
            status = path.stat() if inside else None
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise SourceError(f"no such file ({reason})") from None
        if status is None:
            raise SourceError("the path leads out of the folder of media")
        if not stat.S_ISREG(status.st_mode):
            raise SourceError("not a file")
        if not os.access(path, os.R_OK):
            raise SourceError("the file may not be read")
        self._check_size(status.st_size)
        return path

    def _check_size(self, size: int) -> None:
        if size > self.limits.max_bytes:
            raise TooLargeError(f"{size:,} bytes, at most {self.limits.max_bytes:,} are read")
        if size == 0:
            raise EmptyMediaError("an empty file")

    def _fetched(self, url: str) -> Path:
        if self.cache is None:
            raise SourceError("a URL, and no folder to keep downloads in was given")
        record = self.cache / "urls" / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
        path = self._cached(record)
        if path is not None:
            return path
        contents = self.cache / "contents"
        contents.mkdir(parents=True, exist_ok=True)
        part = contents / f".{secrets.token_hex(8)}.part"
        try:
            with open(part, "x+b") as file:
                self._check_size(download(url, cast(BinaryIO, file), self.limits))
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            path = contents / digest
            sync(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        record.parent.mkdir(parents=True, exist_ok=True)
        write_whole(record, json.dumps({"url": url, "sha256": digest}))
        return path

    def _cached(self, record: Path) -> Path | None:
        """What an earlier download of the same URL kept, if it is still there and the same."""
        assert self.cache is not None
        try:
            digest = str(read_json(record)["sha256"])
            path = self.cache / "contents" / digest
            if file_hash(path) != digest:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._check_size(path.stat().st_size)  # it may be from a run that allowed more
        return path


class FileStamps:
    """What stands for the contents of files: their names, sizes and times of change.

    Reading every file twice would double a stage's work.

    Args:
        root: where paths of the catalogue start.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self._digest = hashlib.sha256()

    def add(self, column: str, value: Any) -> None:
        """Add what a column of the catalogue says; only paths of files are stamped.

        Raises:
            ConfigError: for a path when there is no root.
        """
        if not isinstance(value, str) or not value or "://" in value:
            return
        if self.root is None:
            raise ConfigError(
                f"--media-root: the column {column} names files ({value[:80]!r}); "
                "say in which folder they are"
            )
        try:
            status = (Path(self.root) / value).stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):
            stamp = "-"
        self._digest.update(f"{column} {value} {stamp}\n".encode())

    def hexdigest(self) -> str:
        """sha256 of all that was added."""
        return self._digest.hexdigest()


def prefetched(
    function: Callable[[Any], T], values: Iterable[Any], workers: int
) -> Iterator[T | MediaError]:
    """``function`` of each value, in order, at most twice ``workers`` ahead of the reader.

    A :class:`MediaError` is given in the place of its result; any other error is raised.

    >>> list(prefetched(str.upper, ["a", "b"], 2))
    ['A', 'B']
    """

    def attempt(value: Any) -> T | MediaError:
        try:
            return function(value)
        except MediaError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="media")
    ahead: deque[Future[T | MediaError]] = deque()
    try:
        for value in values:
            ahead.append(pool.submit(attempt, value))
            if len(ahead) >= 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
