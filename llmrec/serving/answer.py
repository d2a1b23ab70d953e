"""What the cascade answers with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from llmrec.types import Recommendation


@dataclass(frozen=True)
class Shown:
    """A list to show.

    Attributes:
        recommendations: in the order in which they are shown, each with the probability of a click
            at its place.
        notes: what the caller should know, a sentence each.
        timings: milliseconds by step: ``retrieve`` (sources and candidates), ``llm`` (the part of
            it that the language model took), ``features``, ``head`` (with calibration), ``rerank``
            and ``total``.
    """

    recommendations: list[Recommendation]
    notes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Milliseconds by step, of one request.

    Attributes:
        timings: what was measured so far.
    """

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step; one that is done twice adds up."""
        started = time.perf_counter()
        yield
        self._add(name, started)

    def done(self) -> dict[str, float]:
        """All steps, and the whole since the beginning."""
        self._add("total", self._started)
        return {name: round(value, 3) for name, value in self.timings.items()}

    def _add(self, name: str, started: float) -> None:
        spent = (time.perf_counter() - started) * 1000
        self.timings[name] = self.timings.get(name, 0.0) + spent
