"""The time that a download may take in all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from llmrec.content.media.errors import SourceError

T = TypeVar("T")


class Deadline:
    """Counts down from its making.

    Args:
        seconds: until it is over.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left; 0 when it is over."""
        return max(0.0, self._ends - time.monotonic())

    def check(self, what: str) -> float:
        """Seconds left.

        Args:
            what: takes the time, for the message.

        Raises:
            SourceError: if there are none.
        """
        left = self.left
        if not left:
            raise SourceError(self.message(what))
        return left

    def message(self, what: str) -> str:
        """What is said when it is over."""
        return f"{what}: took more than {self.seconds:g} s"

    def run(self, what: str, function: Callable[[], T]) -> T:
        """What a function gives, which cannot be told how long it may take.

        Its thread is left alone when time is up.

        Raises:
            SourceError: if it takes longer.
            Exception: what the function raises.
        """
        results: list[T] = []
        errors: list[Exception] = []

        def attempt() -> None:
            try:
                results.append(function())
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(self.left)
        if errors:
            raise errors[0]
        if not results:
            raise SourceError(self.message(what))
        return results[0]
