"""Downloads from a local HTTP server that can cut, stall, change and refuse."""

import gzip
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from llmrec.cli import run_command
from llmrec.data.fetch import Retry, downloads, fetch
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.files import locked

QUICK = Retry(tries=3, wait=0.01, timeout=5)
REVIEWS = "reviews_Toys_5.json.gz"
META = "meta_Toys.json.gz"


class Shop(ThreadingHTTPServer):
    """Serves ``files``; ``cut_after`` bytes of a body it hangs up, as often as ``cuts`` says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        noise = np.random.default_rng(0).bytes(300_000)
        self.files = {REVIEWS: noise, META: gzip.compress(b'{"asin": "B1"}')}
        self.ranges = True
        self.cut_after, self.cuts, self.failures = 0, 0, 0
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        shop, name = self.server, self.path.rsplit("/", 1)[1]
        wanted = self.headers.get("Range")
        shop.requests.append((name, wanted))
        if shop.failures:
            shop.failures -= 1
            self.send_error(503)
            return
        if name not in shop.files:
            self.send_error(404)
            return
        body = shop.files[name]
        tag = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
        same = self.headers.get("If-Range", tag) == tag
        start = (
            int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and shop.ranges and same else 0
        )
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        rest = body[start:]
        if shop.cuts and len(rest) > shop.cut_after:
            shop.cuts -= 1
            rest = rest[: shop.cut_after]
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(shop: Shop, out: Path, sums: Path | None = None) -> list[Path]:
    return fetch("amazon-2014", "Toys", out, shop.url, sums, QUICK)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


COMPLETE = sorted([REVIEWS, META, f"{REVIEWS}.sha256", f"{META}.sha256"])


def test_both_files_arrive_and_are_recorded(shop: Shop, tmp_path: Path) -> None:
    paths = get(shop, tmp_path / "raw")
    assert [p.name for p in paths] == [REVIEWS, META]
    assert [p.read_bytes() for p in paths] == list(shop.files.values())
    assert names(tmp_path / "raw") == COMPLETE
    record = (tmp_path / "raw" / f"{REVIEWS}.sha256").read_text()
    assert record == f"{sha256(shop.files[REVIEWS])}  {REVIEWS}\n"


def test_what_is_there_is_checked_not_fetched_again(shop: Shop, tmp_path: Path) -> None:
    get(shop, tmp_path)
    get(shop, tmp_path)
    assert len(shop.requests) == 2
    (tmp_path / REVIEWS).write_bytes(b"damaged")
    with pytest.raises(DataError, match=rf"{REVIEWS}: its sha256 is not .* fetch it again"):
        get(shop, tmp_path)


def test_a_file_is_downloaded_by_one_at_a_time(shop: Shop, tmp_path: Path) -> None:
    with locked(tmp_path / REVIEWS):
        with pytest.raises(ArtifactError, match=f"{REVIEWS}: another run writes here"):
            get(shop, tmp_path)
        assert not shop.requests
    get(shop, tmp_path)
    assert names(tmp_path) == COMPLETE


def test_a_cut_download_goes_on_where_it_stopped(shop: Shop, tmp_path: Path) -> None:
    shop.cut_after, shop.cuts = 100_000, 2
    get(shop, tmp_path)
    asked = [wanted for name, wanted in shop.requests if name == REVIEWS]
    assert asked == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / REVIEWS).read_bytes() == shop.files[REVIEWS]
    assert names(tmp_path) == COMPLETE


def test_a_later_call_goes_on_too(shop: Shop, tmp_path: Path) -> None:
    shop.cut_after, shop.cuts = 100_000, 1
    with pytest.raises(DataError, match="goes on after the 100000 bytes it has"):
        fetch("amazon-2014", "Toys", tmp_path, shop.url, None, Retry(tries=1, timeout=5))
    assert (tmp_path / f"{REVIEWS}.part").stat().st_size == 100_000
    get(shop, tmp_path)
    assert shop.requests[1] == (REVIEWS, "bytes=100000-")
    assert (tmp_path / REVIEWS).read_bytes() == shop.files[REVIEWS]


def test_a_file_that_changed_meanwhile_starts_over(shop: Shop, tmp_path: Path) -> None:
    shop.cut_after, shop.cuts = 100_000, 1
    with pytest.raises(DataError):
        fetch("amazon-2014", "Toys", tmp_path, shop.url, None, Retry(tries=1, timeout=5))
    shop.files[REVIEWS] = shop.files[REVIEWS][::-1]
    get(shop, tmp_path)
    assert (tmp_path / REVIEWS).read_bytes() == shop.files[REVIEWS]


def test_a_server_without_ranges(shop: Shop, tmp_path: Path) -> None:
    shop.ranges, shop.cut_after, shop.cuts = False, 100_000, 1
    get(shop, tmp_path)
    assert (tmp_path / REVIEWS).read_bytes() == shop.files[REVIEWS]


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_a_part_that_is_complete_or_too_long(shop: Shop, tmp_path: Path, extra: bytes) -> None:
    (tmp_path / f"{REVIEWS}.part").write_bytes(shop.files[REVIEWS] + extra)
    get(shop, tmp_path)
    assert (tmp_path / REVIEWS).read_bytes() == shop.files[REVIEWS]
    assert names(tmp_path) == COMPLETE


def test_passing_failures_are_tried_again(shop: Shop, tmp_path: Path) -> None:
    shop.failures = 2
    get(shop, tmp_path)
    assert names(tmp_path) == COMPLETE


def test_lasting_failures_end_it(shop: Shop, tmp_path: Path) -> None:
    shop.failures = 99
    with pytest.raises(DataError, match="503 Service Unavailable, 3 times in a row"):
        get(shop, tmp_path)


def test_no_server_at_all(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"refused.*check the network"):
        fetch("amazon-2014", "Toys", tmp_path, "http://127.0.0.1:9", None, QUICK)


def test_wrong_checksum_leaves_nothing(shop: Shop, tmp_path: Path) -> None:
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{'0' * 64}  {REVIEWS}\n")
    with pytest.raises(DataError, match=f"{REVIEWS}: sha256 is .*, expected {'0' * 64}"):
        get(shop, tmp_path / "raw", sums)
    assert names(tmp_path / "raw") == []


def test_missing_category_is_named(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"amazon-2014 has no category 'Boys'; see https://"):
        fetch("amazon-2014", "Boys", tmp_path, shop.url, None, QUICK)
    with pytest.raises(DataError, match=r"category '\.\./x'"):
        fetch("amazon-2014", "../x", tmp_path, shop.url, None, QUICK)
    assert len(shop.requests) == 1  # neither tried again, nor asked for at all


def test_a_folder_that_cannot_be_written(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="choose another --out"):
        get(shop, tmp_path / "file" / "raw")


def test_command_line_with_checksums(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.files = {"Toys.jsonl.gz": b"reviews", "meta_Toys.jsonl.gz": b"meta"}
    sums = tmp_path / "SHA256SUMS"
    sums.write_text("".join(f"{sha256(data)} *{name}\n" for name, data in shop.files.items()))
    arguments = [
        "data",
        "fetch",
        "amazon-2023",
        "--category",
        "Toys",
        "--out",
        str(tmp_path / "raw"),
    ]
    run_command([*arguments, "--base-url", f"{shop.url}/raw/", "--checksums", str(sums)])
    assert (tmp_path / "raw" / "meta_Toys.jsonl.gz").read_bytes() == b"meta"
    assert "llmrec ingest --format amazon-2023" in capsys.readouterr().out
    sums.write_text("what is this\n")
    with pytest.raises(DataError, match="SHA256SUMS: row 1"):
        run_command([*arguments, "--checksums", str(sums)])


def test_an_unknown_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'movies' is not one of amazon-2014, amazon-2023"):
        fetch("movies", "Toys", tmp_path)


def test_published_addresses_are_https() -> None:
    assert list(downloads()) == ["amazon-2014", "amazon-2023"]
    for published in downloads().values():
        assert published.base_url.startswith("https://") and len(published.files) == 2
