"""Requests that come at the same time are answered together, by one thread beside the event loop.

A thread takes what is queued, up to a number of requests, and answers it as one batch; what comes
meanwhile makes the next one. A batch waits a few milliseconds for more, and on while more comes:
what the event loop has to read, it reads fastest while the model rests.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llmrec.errors import LlmrecError

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")
_LONGEST_WAIT = 10  # waits of a batch that others go on joining
_SMOOTHING = 0.2  # of the mean duration of a batch


class BusyError(LlmrecError):
    """Too many requests wait.

    Attributes:
        retry_after: seconds after which there should be room.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(LlmrecError):
    """A request was not answered in time."""


@dataclass(frozen=True)
class _Task(Generic[Q]):
    """What waits in the queue: a question, or a function to run between two batches."""

    question: Q | None = None
    function: Callable[[], Any] | None = None
    answer: Future[Any] = field(default_factory=Future)


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
        self._queue: queue.Queue[_Task[Q] | None] = queue.Queue(waiting)
        self._seconds = wait_seconds  # that a batch takes
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

    async def ask(self, question: Q, seconds: float) -> A:
        """The answer to a question.

        Args:
            seconds: after which it is no longer wanted.

        Raises:
            BusyError: if too many wait.
            DeadlineError: if it takes longer.
        """
        return await self._put(_Task(question=question), seconds)

    async def between(self, function: Callable[[], R], seconds: float = math.inf) -> R:
        """Run a function while no batch is under way, in the order in which things came.

        Raises:
            BusyError, DeadlineError: as for :meth:`ask`.
        """
        return await self._put(_Task(function=function), seconds)

    def wait_between(self, function: Callable[[], None]) -> None:
        """As :meth:`between`, from a thread, however many questions wait."""
        task: _Task[Q] = _Task(function=function)
        self._queue.put(task)
        while self.is_alive:
            try:
                return task.answer.result(timeout=1)
            except TimeoutError:  # it may have ended meanwhile
                continue
        if task.answer.cancel():
            function()

    def close(self) -> None:
        """Answer what is queued, and end."""
        self._queue.put(None)
        self._thread.join()

    async def _put(self, task: _Task[Q], seconds: float) -> Any:
        try:
            self._queue.put_nowait(task)
        except queue.Full:
            batches = self._queue.qsize() / self._most
            raise BusyError(
                "too many requests wait; try again later",
                max(1, math.ceil(batches * self._seconds)),
            ) from None
        waiting = asyncio.wrap_future(task.answer)  # one that is cancelled is not begun
        try:
            return await asyncio.wait_for(waiting, None if seconds == math.inf else seconds)
        except TimeoutError:
            raise DeadlineError(f"there was no answer within {seconds * 1000:.0f} ms") from None

    def _work(self) -> None:
        after: _Task[Q] | None = None
        while (task := after or self._queue.get()) is not None:
            batch, after, is_last = self._collect(task)
            self._run(batch)
            if is_last:
                return

    def _collect(self, first: _Task[Q]) -> tuple[list[_Task[Q]], _Task[Q] | None, bool]:
        """A batch that begins with a task; a task that came after it; whether that is all."""
        batch, until = [first], time.monotonic() + _LONGEST_WAIT * self._wait
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
        wanted = [task for task in tasks if task.answer.set_running_or_notify_cancel()]
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
        for task, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Exception):
                task.answer.set_exception(answer)
            else:
                task.answer.set_result(answer)
