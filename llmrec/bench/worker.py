"""An engine in a process of its own: its memory can be measured, its threads do not mix."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.bench.workload import Workload
from llmrec.errors import LlmrecError, one_line
from llmrec.types import Ranking

T = TypeVar("T")


@dataclass(frozen=True)
class Timed:
    """One batch: how long it took, and what came of it."""

    seconds: float
    ranking: Ranking | None


class Worker:
    """A process that loads one engine and answers on request.

    Every method raises :class:`LlmrecError` where the engine fails or its process ends.
    """

    def __init__(self, name: str, config: DecodeBenchConfig, workload: Workload) -> None:
        self.name = name
        self._pool = fresh_process()
        self._loaded = self._pool.submit(_load, name, config, workload)

    def wait(self) -> dict[str, Any]:
        """Until it has loaded and warmed up; the options that it runs with."""
        return self._result(self._loaded)

    def run(self) -> Timed:
        """Answer the workload's prompts once."""
        return self._result(self._pool.submit(_answer))

    def peak_mib(self) -> float | None:
        """Memory that the batches so far have added above the loaded model."""
        return self._result(self._pool.submit(_peak_mib))

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenProcessPool):
            self._pool.submit(_close)
        self._pool.shutdown()

    def _result(self, future: Future[T]) -> T:
        try:
            return future.result()
        except BrokenProcessPool:
            raise LlmrecError(
                f"--engines: {self.name} ended before it answered; perhaps memory ran out, try a "
                "smaller --batch"
            ) from None
        except LlmrecError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {one_line(error)[:300]}"
            raise LlmrecError(f"--engines: {self.name} failed ({reason})") from error


def fresh_process() -> ProcessPoolExecutor:
    """A new process that calls functions one after the other."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a new process and wait for what it returns.

    Raises:
        LlmrecError: if the process ends without an answer.
    """
    with fresh_process() as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise LlmrecError(
                "bench: a process ended before it answered; perhaps memory ran out"
            ) from None


def use_threads(threads: int) -> None:
    """Let torch use so many threads; 0 changes nothing."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())


_loaded: dict[str, Any] = {}  # in a worker's process: its engine and what it measures


def _load(name: str, config: DecodeBenchConfig, workload: Workload) -> dict[str, Any]:
    """Load an engine and warm it up."""
    from llmrec.bench.decode_engines import MAKERS
    from llmrec.bench.memory import PeakMemory

    use_threads(config.threads)
    engine = _loaded["engine"] = MAKERS[name](config, workload)
    _loaded.update(name=name, config=config, prompts=workload.prompts)
    _loaded["memory"] = PeakMemory(config.device)
    engine.answer(workload.prompts)
    return engine.options


def _answer() -> Timed:
    import torch

    engine = _loaded["engine"]
    engine.forget()
    started = time.perf_counter()
    ranking = engine.answer(_loaded["prompts"])
    if _loaded["config"].device == "cuda":
        torch.cuda.synchronize()
    return Timed(time.perf_counter() - started, ranking)


def _peak_mib() -> float | None:
    if _loaded["name"] == "vllm" and _loaded["config"].device == "cuda":
        return None  # its tensors are another process's
    peak: float = _loaded["memory"].added_mib()
    return peak


def _close() -> None:
    if "engine" in _loaded:
        _loaded["engine"].close()
