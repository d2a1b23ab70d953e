"""Download a public data set: ``llmrec data fetch amazon-2023 --category All_Beauty --out raw``.

A download that was cut goes on where it stopped (HTTP Range, ``NAME.part``). The first complete
download records its sha256 in ``NAME.sha256``; later calls check the file against it, or against
a ``--checksums`` file in the form of ``sha256sum``. The files go straight into ``llmrec ingest``.
"""

from __future__ import annotations

import http.client
import importlib
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmrec.data.settings import FORMATS
from llmrec.data.source import Download
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.files import file_hash, locked, sync, write_whole
from llmrec.loop.bars import ProgressBar

_BLOCK = 1 << 20  # bytes
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ssl.SSLError)


@dataclass(frozen=True)
class Retry:
    """How long to keep trying.

    Attributes:
        tries: failures in a row, without one new byte, that end it.
        wait: seconds before the second try; doubled for each further one.
        timeout: seconds without an answer that count as a failure.
    """

    tries: int = 6
    wait: float = 1.0
    timeout: float = 60.0


def fetch(
    dataset: str,
    /,
    category: str,
    out: Path,
    base_url: str | None = None,
    checksums: Path | None = None,
    retry: Retry | None = None,
) -> list[Path]:
    """Download the events and the items of one category of a public data set.

    A download that was cut goes on where it stopped.

    Args:
        dataset: a format whose publisher's files are known, such as amazon-2023.
        category: as the publisher spells it, such as All_Beauty.
        out: folder to put the files into.
        base_url: a mirror with the publisher's file names: an address, or a folder.
        checksums: file of sha256sum; one that is not in it is checked against its own record.
        retry: how long to keep trying.

    Returns:
        the event file and the item file.

    Raises:
        ConfigError: if there is no such data set.
        DataError: if a file is not there, cannot be fetched or has another checksum.
        ArtifactError: if it cannot be written.
    """
    known = downloads()
    if dataset not in known:
        raise ConfigError(f"dataset: {dataset!r} is not one of {', '.join(known)}")
    source = known[dataset]
    if not re.fullmatch(r"[A-Za-z0-9_&-]+", category):
        raise DataError(f"category {category!r}: write it as on {source.categories}")
    sums = read_checksums(checksums) if checksums else {}
    missing = f"{dataset} has no category {category!r}; see {source.categories}"
    mirror, paths = _mirror(base_url), []
    for template in source.files:
        url = f"{mirror or source.base_url}/{template.format(category)}"
        target = out / url.rsplit("/", 1)[1]
        with _writing(target):
            out.mkdir(parents=True, exist_ok=True)
            download(url, target, sums.get(target.name), missing, retry or Retry())
        paths.append(target)
    events, items = paths
    print(f"next: llmrec ingest --format {dataset} --events {events} --items {items} --out DIR")
    return paths


def _mirror(base_url: str | None) -> str | None:
    """A mirror's address without a slash at its end; that of a folder begins with ``file:``.

    Raises:
        ConfigError: if it is neither an address nor a folder.
    """
    if base_url is None:
        return None
    if not re.match("[a-z]+://", base_url):
        folder = Path(base_url)
        if not folder.is_dir():
            raise ConfigError(
                f"--base-url: {base_url!r} is neither an address (https://...) nor a folder"
            )
        base_url = folder.resolve().as_uri()
    if not base_url.startswith(("http://", "https://", "file://")):
        raise ConfigError(f"--base-url: {base_url!r} is none of https, http and file")
    return base_url.rstrip("/")


def downloads() -> dict[str, Download]:
    """Where the files of each format can be had, for those whose publisher is known."""
    modules = {name: importlib.import_module(module) for name, module in FORMATS.items()}
    return {
        name: module.DOWNLOADS[name]
        for name, module in modules.items()
        if name in getattr(module, "DOWNLOADS", {})
    }


def download(url: str, target: Path, expected: str | None, missing: str, retry: Retry) -> None:
    """Bring ``url`` to ``target``, unless a file with the right checksum is there.

    Args:
        expected: the sha256 it must have, or None for the one recorded with an earlier download.
        missing: what a 404 means.

    Raises:
        DataError: if it cannot be had; a wrong file does not stay.
        ArtifactError: if another run downloads it.
        OSError: if it cannot be written.
    """
    with locked(target):
        _download(url, target, expected, missing, retry)


def _download(url: str, target: Path, expected: str | None, missing: str, retry: Retry) -> None:
    record = target.with_name(target.name + ".sha256")
    if expected is None and record.is_file():
        expected = record.read_text().split()[0]
    if target.exists():
        if expected is not None and file_hash(target) != expected:
            raise DataError(
                f"{target}: its sha256 is not {expected}; delete the file and fetch it again"
            )
        print(f"{target}: already there")
    else:
        part = target.with_name(target.name + ".part")
        _try_until_complete(url, part, missing, retry)
        found = file_hash(part)
        if expected is not None and found != expected:
            _forget(part)
            raise DataError(
                f"{url}: sha256 is {found}, expected {expected}; the partial file was removed: "
                "fetch it again, or correct the checksum"
            )
        sync(part)
        os.replace(part, target)
        _forget(part)
    if not record.exists():
        write_whole(record, f"{file_hash(target)}  {target.name}\n")


def _try_until_complete(url: str, part: Path, missing: str, retry: Retry) -> None:
    failures = 0
    while True:
        before = _size(part)
        try:
            _continue(url, part, retry.timeout)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise DataError(f"{url}: not found; {missing}") from None
            if error.code < 500 and error.code not in (408, 429):
                raise DataError(f"{url}: the server answers {error.code} {error.reason}") from None
            reason = f"{error.code} {error.reason}"
        except _NETWORK_ERRORS as error:
            if url.startswith("file:"):  # to wait would not help
                raise DataError(f"{url}: cannot be read ({error}); {missing}") from None
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        except ConnectionError as error:
            reason = error.strerror or type(error).__name__
        failures = 1 if _size(part) > before else failures + 1
        if failures >= retry.tries:
            raise DataError(
                f"{url}: {reason}, {failures} times in a row; check the network and run the "
                f"command again: it goes on after the {_size(part)} bytes it has"
            )
        wait = retry.wait * 2 ** (failures - 1)
        print(f"{url}: {reason}; next try in {wait:g} s", file=sys.stderr)
        time.sleep(wait)


def _continue(url: str, part: Path, timeout: float) -> None:
    """Fetch what ``part`` still lacks.

    Raises:
        urllib.error.URLError, http.client.HTTPException, OSError: if that fails on the way.
    """
    tag = part.with_name(part.name + ".tag")  # of the version of the file that the part is of
    start = _size(part)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if tag.is_file():
            request.add_header("If-Range", tag.read_text())
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies after `start`: the part is complete, or of another file.
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        error.close()
        if total == str(start):
            return
        _forget(part)
        raise http.client.HTTPException("the partial file did not fit and was removed") from None
    with response:
        if response.status != 206:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _forget(part)
            raise http.client.HTTPException("the server sent another range than requested")
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):  # a weak one may not be used here
            tag.write_text(validator)
        else:
            tag.unlink(missing_ok=True)
        _receive(response, part, start)


def _receive(response: http.client.HTTPResponse, part: Path, start: int) -> None:
    length = response.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    name = part.name.removesuffix(".part")
    bar = ProgressBar(total=total, initial=start, desc=name, unit="B", unit_scale=True)
    with bar, open(part, "ab" if start else "wb") as file:
        while block := response.read(_BLOCK):
            file.write(block)
            bar.update(len(block))
    if total is not None and _size(part) != total:
        raise http.client.HTTPException(f"the connection ended at {_size(part)} of {total} bytes")


def read_checksums(path: Path) -> dict[str, str]:
    """sha256 by file name, from a file that ``sha256sum`` wrote.

    Raises:
        DataError: naming the row that is not of that form.
    """
    sums = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    for row, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(.+)", line.strip())
        if match:
            sums[Path(match[2]).name] = match[1].lower()
        elif line.strip():
            raise DataError(f"{path}: row {row}: expected  SHA256  FILENAME  as sha256sum writes")
    return sums


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".tag").unlink(missing_ok=True)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{error.filename or target}: cannot be written ({error.strerror or error}); free "
            "some space or choose another --out, then run it again: it goes on where it stopped"
        ) from None
