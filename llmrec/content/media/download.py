"""Get a file over http(s) within limits: bytes, seconds, hops, and machines it may come from.

Redirects are followed by hand, so that each hop is checked like the first. Proxies of the
environment are not used: a proxy would choose the address after the check.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

from llmrec.config import check_ranges, shown
from llmrec.content.media.addresses import Network, connect
from llmrec.content.media.deadline import Deadline
from llmrec.content.media.errors import SourceError, TooLargeError, one_line
from llmrec.errors import ConfigError
from llmrec.version import __version__

_BLOCK = 1 << 16  # bytes
_REDIRECTS = (301, 302, 303, 307, 308)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class MediaLimits:
    """What one file may cost.

    Attributes:
        max_bytes: a larger file is refused, at the latest when so much has come.
        timeout: seconds without an answer that end an attempt.
        deadline: seconds that one file may take in all, however slowly it trickles: looking up
            its server's address, connecting and redirects are counted.
        max_redirects: hops before giving up.
        networks: networks that may be reached although they are not public, such as
            ``10.1.0.0/16`` for a shop's own file server.
    """

    max_bytes: int = 200 * 1024 * 1024
    timeout: float = 20.0
    deadline: float = 120.0
    max_redirects: int = 5
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self, "(0, inf)", "max_bytes", "timeout", "deadline")
        check_ranges(self, "[0, inf)", "max_redirects")
        for text in self.networks:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise ConfigError(
                    f"networks: {shown(text)} is no network; write it as 10.1.0.0/16"
                ) from None

    @cached_property
    def allowed(self) -> tuple[Network, ...]:
        """``networks`` as objects."""
        return tuple(ipaddress.ip_network(text) for text in self.networks)


def download(url: str, out: BinaryIO, limits: MediaLimits) -> int:
    """Write what ``url`` leads to into ``out``.

    Returns:
        The number of bytes.

    Raises:
        SourceError: if a hop may not be followed, the server fails, or time is up.
        TooLargeError: if there are more than ``limits.max_bytes`` bytes.
    """
    deadline = Deadline(limits.deadline)
    target = _checked(url, None)
    for _ in range(limits.max_redirects + 1):
        with _response(target, limits, deadline) as response:
            if response.status in _REDIRECTS:
                place = response.getheader("Location")
                if not place:
                    raise SourceError(f"{target.hostname}: redirects to nowhere")
                target = _checked(urljoin(target.geturl(), place), target)
                continue
            if response.status != 200:
                raise SourceError(f"{target.hostname}: answered {response.status}")
            return _copy(response, out, limits.max_bytes)
    raise SourceError(f"{target.hostname}: redirects more than {limits.max_redirects} times")


def _checked(url: str, before: SplitResult | None) -> SplitResult:
    """A URL that may be asked for.

    Raises:
        SourceError: for another scheme, a password in it, or a step back from https to http.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise SourceError(f"not a URL ({error})") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise SourceError(f"only http and https are fetched, not {parts.scheme or url[:40]!r}")
    if parts.username is not None:
        raise SourceError("a URL with a user name in it is not fetched")
    if any(ord(character) <= 32 or ord(character) > 126 for character in url):
        raise SourceError("not a URL (it has blanks or characters that must be escaped)")
    if before is not None and before.scheme == "https" and parts.scheme == "http":
        raise SourceError(f"{before.hostname}: redirects from https to http")
    return parts


@contextmanager
def _response(
    target: SplitResult, limits: MediaLimits, deadline: Deadline
) -> Iterator[http.client.HTTPResponse]:
    """The response to a GET, its connection cut when time is up."""
    assert target.hostname is not None
    host = target.hostname
    port = target.port or _PORTS[target.scheme]
    link = connect(host, port, limits.timeout, deadline, limits.allowed)
    link.settimeout(limits.timeout)
    late, spare = threading.Event(), link.dup()
    # A server that sends a byte now and then never times out by itself.
    timer = threading.Timer(deadline.left, _cut, (spare, late))
    timer.daemon = True
    timer.start()
    connection = http.client.HTTPConnection(host, port)
    try:
        if target.scheme == "https":
            link = ssl.create_default_context().wrap_socket(link, server_hostname=host)
        connection.sock = link
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        agent = {"User-Agent": f"llmrec/{__version__}", "Accept-Encoding": "identity"}
        connection.request("GET", path, headers=agent)
        with connection.getresponse() as response:
            yield response
            if late.is_set():  # the cut looks like the end of a file without a length
                raise SourceError(deadline.message(host))
    # ValueError: http.client on an answer that is no HTTP
    except (OSError, http.client.HTTPException, ValueError) as error:
        if getattr(error, "errno", None) in _FULL:
            raise  # our disk, not their server
        reason = deadline.message(host) if late.is_set() else f"{host}: {one_line(error)}"
        raise SourceError(reason) from None
    finally:
        timer.cancel()
        spare.close()
        connection.close()
        link.close()


def _cut(link: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):  # closed in the meantime
        link.shutdown(socket.SHUT_RDWR)


def _copy(response: http.client.HTTPResponse, out: BinaryIO, max_bytes: int) -> int:
    stated = response.length or 0
    if stated > max_bytes:
        raise TooLargeError(f"{stated:,} bytes, at most {max_bytes:,} are fetched")
    written = 0
    while block := response.read(_BLOCK):
        written += len(block)
        if written > max_bytes:
            raise TooLargeError(f"more than the {max_bytes:,} bytes that are fetched")
        out.write(block)
    if stated and written < stated:
        raise SourceError(f"the connection ended after {written:,} of {stated:,} bytes")
    return written
