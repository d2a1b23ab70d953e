"""Requests that come at the same time are answered together, by one thread beside the event loop.

A thread takes what is queued, up to a number of requests, and answers it as one batch; what comes
meanwhile makes the next one. After a batch of several the next one waits a few milliseconds for
more, and on while more comes: what the event loop has to read, it reads fastest while the model
rests. Whoever asks alone does not wait.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from llmrec.errors import LlmrecError

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")
_LONGEST_WAIT = 10  # waits of a batch that others go on joining
_SMOOTHING = 0.2  # of the mean duration of a batch
LOOK_SECONDS = 0.2  # between two looks whether anybody still waits for an answer


class BusyError(LlmrecError):
    """Too many requests wait.

    Attributes:
        retry_after: seconds after which there should be room.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(LlmrecError):
    """A request was not answered in time.

    Args:
        seconds: within which it should have been.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"there was no answer within {seconds * 1000:.0f} ms")


class ClientGoneError(LlmrecError):
    """Nobody waits for the answer any more."""


class Deadline:
    """When an answer is no longer wanted, from now on.

    Args:
        seconds: that are left.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds, self._until = seconds, time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(0.0, self._until - time.monotonic())

    def check(self) -> None:
        """
        Raises:
            DeadlineError: if it has passed.
        """
        if not self.left:
            raise DeadlineError(self._seconds)


@dataclass(frozen=True)
class _Task(Generic[Q]):
    """What waits in the queue: a question, or a function to run between two batches."""

    answer: asyncio.Future[Any] | Future[Any]
    question: Q | None = None
    function: Callable[[], Any] | None = None

    def give(self, answer: Any) -> None:
        """Answer, in the event loop of who asked; nobody may be waiting any more."""
        if self.answer.done():
            return
        with suppress(InvalidStateError):  # a thread gave up just now
            if isinstance(answer, Exception):
                self.answer.set_exception(answer)
            else:
                self.answer.set_result(answer)


class Batcher(Generic[Q, A]):
    """Joins questions into batches.

    Args:
        answer: a batch's answers in its order, an exception where there is none.
        most: questions of a batch.
        wait_seconds: that a batch waits for one more question; ten times that in all.
        waiting: questions that wait at most; further ones are refused.
        observe: is told the size of each batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Sequence[A | Exception]],
        *,
        most: int = 32,
        wait_seconds: float = 0.002,
        waiting: int = 256,
        observe: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self._answer, self._most, self._wait = answer, most, wait_seconds
        self._observe = observe
        self._waiting = waiting
        self._queue: queue.SimpleQueue[_Task[Q] | None] = queue.SimpleQueue()
        self._seconds = wait_seconds  # that a batch takes
        self._last = 0  # size of the last batch
        self._thread = threading.Thread(target=self._work, name="llmrec-batches", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Questions that wait."""
        return self._queue.qsize()

    @property
    def is_alive(self) -> bool:
        """Whether questions are answered."""
        return self._thread.is_alive()

    async def ask(
        self,
        question: Q,
        seconds: float,
        gone: Callable[[], Awaitable[bool]] | None = None,
    ) -> A:
        """The answer to a question.

        Args:
            seconds: after which it is no longer wanted.
            gone: says whether who asked has gone; then it is not begun. Asked now and again.

        Raises:
            BusyError: if too many wait.
            DeadlineError: if it takes longer.
            ClientGoneError: if nobody waits any more.
        """
        answer = asyncio.get_running_loop().create_future()
        return await self._put(_Task(answer, question), seconds, gone)

    async def between(self, function: Callable[[], R], seconds: float = math.inf) -> R:
        """Run a function while no batch is under way, in the order in which things came.

        Raises:
            BusyError, DeadlineError: as for :meth:`ask`.
        """
        answer = asyncio.get_running_loop().create_future()
        return await self._put(_Task(answer, function=function), seconds)

    def wait_between(self, function: Callable[[], None]) -> None:
        """As :meth:`between`, from a thread, however many questions wait."""
        answer: Future[None] = Future()
        self._queue.put(_Task(answer, function=function))
        while self.is_alive:
            try:
                return answer.result(timeout=1)
            except TimeoutError:  # it may have ended meanwhile
                continue
        if answer.cancel():
            function()

    def close(self, seconds: float | None = None) -> None:
        """Answer what is queued, and end.

        Args:
            seconds: after which what is not answered yet is left.
        """
        self._queue.put(None)
        self._thread.join(seconds)

    def ask_from_thread(self, question: Q, seconds: float) -> A:
        """As :meth:`ask`, from a thread that may wait."""
        answer: Future[A] = Future()
        self._put_now(_Task(answer, question))
        try:
            return answer.result(timeout=None if seconds == math.inf else seconds)
        except TimeoutError:
            raise DeadlineError(seconds) from None
        finally:
            answer.cancel()  # what is cancelled is not begun

    def _put_now(self, task: _Task[Q]) -> None:
        if self.queued >= self._waiting:
            batches = self.queued / self._most
            raise BusyError(
                "too many requests wait; try again later",
                max(1, math.ceil(batches * self._seconds)),
            )
        self._queue.put(task)

    async def _put(
        self,
        task: _Task[Q],
        seconds: float,
        gone: Callable[[], Awaitable[bool]] | None = None,
    ) -> Any:
        self._put_now(task)
        answer, until = task.answer, time.monotonic() + seconds
        assert isinstance(answer, asyncio.Future)
        try:
            while True:
                left = until - time.monotonic()
                await asyncio.wait([answer], timeout=min(left, LOOK_SECONDS))
                if answer.done():
                    break
                if time.monotonic() >= until:
                    raise DeadlineError(seconds)
                if gone is not None and await gone():
                    raise ClientGoneError("whoever asked has gone")
            return answer.result()
        finally:
            answer.cancel()  # what is cancelled is not begun

    def _work(self) -> None:
        after: _Task[Q] | None = None
        while (task := after or self._queue.get()) is not None:
            batch, after, is_last = self._collect(task)
            self._last = len(batch)
            self._run(batch)
            if is_last:
                return

    def _collect(self, first: _Task[Q]) -> tuple[list[_Task[Q]], _Task[Q] | None, bool]:
        """A batch that begins with a task; a task that came after it; whether that is all."""
        batch, alone = [first], self._last == 1
        until = time.monotonic() + (0 if alone else _LONGEST_WAIT * self._wait)
        while first.function is None and len(batch) < self._most:
            try:
                left = min(self._wait, until - time.monotonic())
                task = self._queue.get(timeout=max(0.0, left))
            except queue.Empty:
                break
            if task is None:
                return batch, None, True
            if task.function is not None:
                return batch, task, False
            batch.append(task)
        return batch, None, False

    def _run(self, tasks: list[_Task[Q]]) -> None:
        wanted = [task for task in tasks if not task.answer.cancelled()]
        if not wanted:
            return
        started = time.monotonic()
        try:
            if wanted[0].function is not None:
                answers: Sequence[Any] = [wanted[0].function()]
            else:
                self._observe(len(wanted))
                answers = self._answer([task.question for task in wanted])  # type: ignore[misc]
                self._seconds += _SMOOTHING * (time.monotonic() - started - self._seconds)
        except Exception as error:
            answers = [error] * len(wanted)
        _give(list(zip(wanted, answers, strict=True)))


def _give(answered: list[tuple[_Task[Any], Any]]) -> None:
    """Hand out answers, waking each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Task[Any], Any]]] = {}
    for task, answer in answered:
        if isinstance(task.answer, Future):  # a thread waits
            task.give(answer)
        else:
            by_loop.setdefault(task.answer.get_loop(), []).append((task, answer))
    for loop, some in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_give_each, some)


def _give_each(answered: list[tuple[_Task[Any], Any]]) -> None:
    for task, answer in answered:
        task.give(answer)
