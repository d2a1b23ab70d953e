"""Downloads end at their limits, and reach only machines that everybody can reach."""

import io
import ipaddress
import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from media_server import PICTURE, Server, serving

from llmrec.content.media.addresses import is_public
from llmrec.content.media.download import MediaLimits, download
from llmrec.content.media.errors import SourceError, TooLargeError
from llmrec.errors import ConfigError

HERE = MediaLimits(networks=("127.0.0.1/32",), timeout=1, deadline=5, max_bytes=1 << 20)

PRIVATE = """
127.0.0.1 10.1.2.3 192.168.0.1 172.16.9.9 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1
255.255.255.255 240.0.0.1 192.0.2.1 ::1 :: fe80::1 fc00::1 ff02::1 ::ffff:10.0.0.1
64:ff9b::7f00:1 2002:7f00:1:: 2001:0:7f00:1:: fec0::1 feff:ffff::1 192.0.0.192 192.88.99.1 3fff::1
169.254.170.2 168.63.129.16 100.100.100.200 fd00:ec2::254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe
"""


def fetched(url: str, limits: MediaLimits = HERE) -> bytes:
    out = io.BytesIO()
    size = download(url, out, limits)
    assert size == len(out.getvalue())
    return out.getvalue()


def limits(**changes: Any) -> MediaLimits:
    return replace(HERE, **changes)


def test_a_file_comes_as_it_is(server: Server) -> None:
    assert fetched(f"{server.url}/picture") == PICTURE


def test_redirects_are_followed_to_their_end(server: Server) -> None:
    assert fetched(f"{server.url}/to/{server.url}/to//picture") == PICTURE
    assert server.asked[1:] == ["/to//picture", "/picture"]


def test_a_redirect_without_a_host_stays_at_the_one_that_sent_it(server: Server) -> None:
    with Server() as other, serving(other):
        assert fetched(f"{server.url}/to/{other.url}/to//picture") == PICTURE
        assert other.asked == ["/to//picture", "/picture"]
    assert len(server.asked) == 1


def test_redirects_in_a_circle_end(server: Server) -> None:
    with pytest.raises(SourceError, match="redirects more than 5 times"):
        fetched(f"{server.url}/circle")
    assert len(server.asked) == 6


@pytest.mark.parametrize("address", PRIVATE.split())
def test_addresses_that_not_everybody_can_reach_are_no_public_ones(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_open_internet_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "[::1]"])
def test_this_machine_is_not_asked_unless_it_is_allowed(server: Server, host: str) -> None:
    with pytest.raises(SourceError, match="not a public address"):
        fetched(f"http://{host}:{server.server_port}/picture", limits(networks=()))
    assert server.asked == []


@pytest.mark.parametrize("host", ["127.0.0.2", "10.0.0.1", "169.254.169.254", "[::1]"])
def test_a_redirect_to_a_private_address_is_refused(server: Server, host: str) -> None:
    place = f"http://{host}:{server.server_port}/picture"
    with pytest.raises(SourceError, match="not a public address"):
        fetched(f"{server.url}/to/{place}")
    assert len(server.asked) == 1


def test_a_redirect_to_a_name_of_a_private_address_is_refused() -> None:
    with Server("127.0.0.2") as elsewhere, serving(elsewhere):
        place = f"http://localhost:{elsewhere.server_port}/picture"
        only_there = limits(networks=("127.0.0.2/32",))
        with pytest.raises(SourceError, match=r"localhost leads to .* not a public address"):
            fetched(f"{elsewhere.url}/to/{place}", only_there)
        assert fetched(f"{elsewhere.url}/picture", only_there) == PICTURE


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "::ffff:169.254.169.254"]
)
def test_a_metadata_service_is_never_asked(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a name that leads there, nor where the network around it is allowed."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 80))])
    everywhere = limits(networks=("0.0.0.0/0", "::/0"))
    with pytest.raises(SourceError, match=r"metadata\.internal leads to .*, which is not a public"):
        fetched("http://metadata.internal/", everywhere)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_a_redirect_to_another_scheme_is_refused(server: Server, place: str) -> None:
    with pytest.raises(SourceError, match="only http and https"):
        fetched(f"{server.url}/to/{place}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("http://", "only http and https"),
        ("http://me:secret@shop.example/1.jpg", "user name"),
        ("http://shop.example/a b.jpg", "not a URL"),
        ("http://shop.example/a\r\nHost: x", "not a URL"),
        ("http://shop.example:99999/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://no-such-host.invalid/", "has no address"),
    ],
)
def test_what_is_no_plain_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        fetched(url)


def test_a_size_that_is_too_large_is_refused_before_it_comes(server: Server) -> None:
    with pytest.raises(TooLargeError, match="5,000,000 bytes, at most 1,048,576"):
        fetched(f"{server.url}/stated/5000000")


def test_a_file_without_an_end_is_cut(server: Server) -> None:
    out = io.BytesIO()
    with pytest.raises(TooLargeError, match="more than the 1,048,576 bytes"):
        download(f"{server.url}/endless", out, HERE)
    assert len(out.getvalue()) <= 1 << 20


@pytest.mark.parametrize("path", ["trickle", "header"])
def test_a_server_that_trickles_runs_out_of_time(server: Server, path: str) -> None:
    started = time.monotonic()
    with pytest.raises(SourceError, match=r"took more than 0\.5 s"):
        fetched(f"{server.url}/{path}", limits(deadline=0.5))
    assert time.monotonic() - started < 3


def test_finding_the_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(20))
    started = time.monotonic()
    with pytest.raises(SourceError, match=r"shop\.example: took more than 0\.3 s"):
        fetched("http://shop.example/picture", limits(deadline=0.3))
    over.set()
    assert time.monotonic() - started < 2


def test_connecting_to_every_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (f"127.0.0.{n}", 80)) for n in range(1, 250)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    waited = []

    def nobody_answers(address: tuple[str, int], timeout: float) -> None:
        waited.append(timeout)
        time.sleep(min(timeout, 0.1))
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", nobody_answers)
    started = time.monotonic()
    with pytest.raises(SourceError, match=r"shop\.example: took more than 0\.5 s"):
        fetched("http://shop.example/", limits(networks=("127.0.0.0/8",), deadline=0.5))
    assert time.monotonic() - started < 2
    assert len(waited) < 10 and max(waited) <= 0.5


def test_a_server_that_says_nothing_runs_out_of_time(server: Server) -> None:
    started = time.monotonic()
    with pytest.raises(SourceError, match="timed out"):
        fetched(f"{server.url}/silent", limits(timeout=0.3))
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "answered 404"),
        ("stated/1000", "ended after 1 of 1,000"),
        ("nonsense", "127.0.0.1: "),
    ],
)
def test_a_server_that_fails_is_a_reason(server: Server, path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        fetched(f"{server.url}/{path}")
    assert "\n" not in str(caught.value)


def test_a_server_that_speaks_no_tls_is_a_reason(server: Server) -> None:
    with pytest.raises(SourceError, match="SSL"):
        fetched(server.url.replace("http:", "https:") + "/picture")


def test_limits_that_cannot_hold_name_the_setting() -> None:
    with pytest.raises(ConfigError, match="timeout: must be above 0"):
        MediaLimits(timeout=0)
    with pytest.raises(ConfigError, match=r"networks: .*10\.1\.0\.0/16"):
        MediaLimits(networks=("our network",))
