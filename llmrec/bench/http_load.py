"""Asks a running service many things at once, at little cost of its own.

It shares its cores with what it measures, so it speaks HTTP/1.1 on kept connections and reads no
more of an answer than it must.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

NOT_ANSWERED = 0  # status of a request whose connection broke


class Connection:
    """One kept connection; it is opened again where the service has closed it."""

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        authorization = f"Authorization: Bearer {key}\r\n" if key else ""
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc}\r\n{authorization}"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of an answer.

        Args:
            body: JSON; bytes as they are.
        """
        data = body if isinstance(body, bytes) else b"" if body is None else _json(body)
        length = (
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n" if data else ""
        )
        request = f"{method} {path}{self._head}{length}\r\n".encode() + data
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(request)
            return await _read(reader)
        except (OSError, EOFError, ValueError, asyncio.IncompleteReadError):
            self.close()
            return NOT_ANSWERED, b""

    async def ask_json(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON.

        Raises:
            ConnectionError: for a status that is no success.
        """
        status, found = await self.ask(method, path, body)
        if not 200 <= status < 300:
            raise ConnectionError(f"{method} {path}: {status} {found[:300].decode()}")
        return json.loads(found)


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    at = head.find(b"content-length:")
    if at < 0:
        raise ValueError("an answer without its length")
    length = int(head[at + 15 : head.index(b"\r\n", at)])
    return status, await reader.readexactly(length)


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


@dataclass
class Timings:
    """What came back.

    Attributes:
        seconds: of each answer, in the order of their ends.
        statuses: how many answers had each.
        wall: seconds in all.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wall: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers a second that were a success."""
        good = sum(n for status, n in self.statuses.items() if 200 <= status < 300)
        return good / self.wall

    def percentile_ms(self, percent: int) -> float:
        """A percentile of the seconds, in milliseconds."""
        if len(self.seconds) < 2:
            return 1000 * (self.seconds[0] if self.seconds else float("nan"))
        return 1000 * statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


async def keep_asking(
    url: str,
    bodies: Callable[[], tuple[str, str, Any]],
    in_flight: int,
    seconds: float,
    key: str = "",
    warm_up: float = 0.0,
    pause: float = 0.0,
) -> Timings:
    """Ask for some seconds, so many requests at a time.

    Args:
        bodies: method, path and body of the next request.
        warm_up: seconds before that which do not count.
        pause: seconds between an answer and the next request of a connection.
    """
    found = Timings()
    begin = time.perf_counter() + warm_up
    until = begin + seconds

    async def one() -> None:
        async with Connection(url, key) as connection:
            while (started := time.perf_counter()) < until:
                status, _ = await connection.ask(*bodies())
                ended = time.perf_counter()
                if ended >= begin:
                    found.seconds.append(ended - started)
                    found.statuses[status] += 1
                if pause or status == NOT_ANSWERED:
                    await asyncio.sleep(pause or 0.05)

    await all_of([one] * in_flight)
    found.wall = time.perf_counter() - begin
    return found


async def all_of(tasks: list[Callable[[], Awaitable[None]]]) -> None:
    """Run some side by side."""
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(_awaited(task))


async def _awaited(task: Callable[[], Awaitable[None]]) -> None:
    await task()
