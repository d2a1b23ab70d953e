"""Where the time of one request goes."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from llmrec.generation.beam_search import SearchOptions
    from llmrec.generation.llm import Llm
    from llmrec.generation.vllm_adapters import AdaptedVllm

AnyLlm = TypeVar("AnyLlm", bound="Llm | AdaptedVllm")


class Stopwatch:
    """Milliseconds by step, of one request; a step within another counts for itself alone."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._started = time.perf_counter()
        self._inner = 0.0  # of the steps within the one that is measured

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step; one that is done twice adds up."""
        started, outer, self._inner = time.perf_counter(), self._inner, 0.0
        try:
            yield
        finally:
            spent = (time.perf_counter() - started) * 1000
            self._spent[name] = self._spent.get(name, 0.0) + spent - self._inner
            self._inner = outer + spent

    def timings_ms(self) -> dict[str, float]:
        """All steps, and ``total`` since the beginning."""
        total = (time.perf_counter() - self._started) * 1000
        return {name: round(ms, 3) for name, ms in self._spent.items()} | {"total": round(total, 3)}


def timed_llm(llm: AnyLlm, watch: Stopwatch, options: SearchOptions | None = None) -> AnyLlm:
    """A language model for one request: its calls are measured as the step ``llm``.

    Args:
        options: how it searches where a call does not say; None as it is.
    """
    view = copy.copy(llm)
    view.options = options or llm.options
    for name in ("recommend", "score", "score_items"):
        if hasattr(view, name):
            setattr(view, name, watch.step("llm")(getattr(view, name)))
    return view
