"""Download a public data set: ``llmrec data fetch amazon-2023 --category All_Beauty --out raw``.

A download that was cut goes on where it stopped (HTTP Range, ``NAME.part``). The first complete
download records its sha256 in ``NAME.sha256``; later calls check the file against it, or against
a ``--checksums`` file in the form of ``sha256sum``. The files go straight into ``llmrec ingest``.
"""

from __future__ import annotations

import argparse
import http.client
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

from tqdm import tqdm

from llmrec.errors import ArtifactError, DataError
from llmrec.stage import file_hash

_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Published:
    """Where a data set's publisher keeps it; ``{}`` stands for the category."""

    base_url: str
    files: tuple[str, ...]
    categories: str


DATASETS = {
    "amazon-2014": Published(
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        ("reviews_{}_5.json.gz", "meta_{}.json.gz"),
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
    ),
    "amazon-2023": Published(
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw",
        ("review_categories/{}.jsonl.gz", "meta_categories/meta_{}.jsonl.gz"),
        "https://amazon-reviews-2023.github.io",
    ),
}


@dataclass(frozen=True)
class Patience:
    """How long to keep trying: ``tries`` failures in a row without one new byte end it.

    Attributes:
        wait: seconds before the second try; doubled for each further one.
        timeout: seconds without an answer that count as a failure.
    """

    tries: int = 6
    wait: float = 1.0
    timeout: float = 60.0


def fetch(
    dataset: str,
    category: str,
    out: str | Path,
    base_url: str | None = None,
    checksums: dict[str, str] | None = None,
    patience: Patience | None = None,
) -> list[Path]:
    """Download reviews and metadata of one category.

    Args:
        dataset: a key of ``DATASETS``.
        category: as the publisher spells it, such as ``All_Beauty``.
        checksums: sha256 by file name; a file without one is checked against its own record.

    Returns:
        the review file and the metadata file.

    Raises:
        DataError: if a file is not there, cannot be fetched or has another checksum.
        ArtifactError: if it cannot be written.
    """
    published = DATASETS[dataset]
    if not re.fullmatch(r"[A-Za-z0-9_&-]+", category):
        raise DataError(f"category {category!r}: write it as on {published.categories}")
    out = Path(out)
    paths = []
    for template in published.files:
        url = f"{(base_url or published.base_url).rstrip('/')}/{template.format(category)}"
        target = out / url.rsplit("/", 1)[1]
        expected = (checksums or {}).get(target.name)
        missing = f"{dataset} has no category {category!r}; see {published.categories}"
        with _writing(target):
            out.mkdir(parents=True, exist_ok=True)
            download(url, target, expected, missing, patience or Patience())
        paths.append(target)
    return paths


def download(
    url: str, target: Path, expected: str | None, missing: str, patience: Patience
) -> None:
    """Bring ``url`` to ``target``, unless a file with the right checksum is there.

    Args:
        expected: the sha256 it must have, or None for the one recorded with an earlier download.
        missing: what a 404 means.

    Raises:
        DataError: if it cannot be had; a wrong file does not stay.
        OSError: if it cannot be written.
    """
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
        _try_until_complete(url, part, missing, patience)
        found = file_hash(part)
        if expected is not None and found != expected:
            _forget(part)
            raise DataError(
                f"{url}: sha256 is {found}, expected {expected}; the partial file was removed: "
                "fetch it again, or correct the checksum"
            )
        os.replace(part, target)
        _forget(part)
    if not record.exists():
        record.write_text(f"{file_hash(target)}  {target.name}\n")


def _try_until_complete(url: str, part: Path, missing: str, patience: Patience) -> None:
    failures = 0
    while True:
        before = _size(part)
        try:
            _continue(url, part, patience.timeout)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise DataError(f"{url}: not found; {missing}") from None
            if error.code < 500 and error.code not in (408, 429):
                raise DataError(f"{url}: the server answers {error.code} {error.reason}") from None
            reason = f"{error.code} {error.reason}"
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ssl.SSLError,
        ) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        except ConnectionError as error:
            reason = error.strerror or type(error).__name__
        failures = 1 if _size(part) > before else failures + 1
        if failures >= patience.tries:
            raise DataError(
                f"{url}: {reason}, {failures} times in a row; check the network and run the "
                f"command again: it goes on after the {_size(part)} bytes it has"
            )
        wait = patience.wait * 2 ** (failures - 1)
        print(f"{url}: {reason}; next try in {wait:g} s", file=sys.stderr)
        time.sleep(wait)


def _continue(url: str, part: Path, timeout: float) -> None:
    """Fetch what ``part`` still lacks.

    Raises:
        urllib.error.URLError, http.client.HTTPException, OSError: if that fails on the way.
    """
    tag = part.with_name(part.name + ".tag")  # says which version of the file the part is of
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
            raise http.client.HTTPException("the server sent another range than asked for")
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
    # without a terminal one line a minute is enough
    interval = 0.1 if sys.stderr.isatty() else 60.0
    bar = tqdm(
        total=total, initial=start, desc=name, unit="B", unit_scale=True, mininterval=interval
    )
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


def main(argv: list[str]) -> None:
    """``llmrec data fetch DATASET --category NAME --out DIR``."""
    parser = argparse.ArgumentParser(
        prog="llmrec data fetch", description="Download a public data set, resuming if cut."
    )
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument(
        "--category", required=True, help="such as Beauty (2014), All_Beauty (2023)"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to put the files into")
    parser.add_argument("--base-url", help="a mirror with the publisher's file names")
    parser.add_argument("--checksums", type=Path, help="sha256sum file to check against")
    args = parser.parse_args(argv)
    sums = read_checksums(args.checksums) if args.checksums else None
    reviews, meta = fetch(args.dataset, args.category, args.out, args.base_url, sums)
    print(
        f"next: llmrec ingest --format {args.dataset} --events {reviews} --items {meta} --out DIR"
    )
