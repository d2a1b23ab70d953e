"""An engine in a process of its own: its memory can be measured, its threads do not mix."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.bench.workload import Workload
from llmrec.errors import LlmrecError
from llmrec.types import Ranking

T = TypeVar("T")
PATIENCE = 30  # seconds a worker gets to end


@dataclass(frozen=True)
class Timed:
    """One batch: how long it took, and what came of it."""

    seconds: float
    ranking: Ranking | None


class Worker:
    """A process that loads one engine and answers on request."""

    def __init__(self, name: str, config: DecodeBenchConfig, workload: Workload) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, config, workload))
        self._process.start()
        theirs.close()

    def wait(self) -> dict[str, Any]:
        """Until it has loaded and warmed up; the options that it runs with.

        Raises:
            LlmrecError: if it cannot; :meth:`run` and :meth:`peak_mib` raise it as well.
        """
        options: dict[str, Any] = self._receive()
        return options

    def run(self) -> Timed:
        """Answer the workload's prompts once."""
        timed: Timed = self._ask("run")
        return timed

    def peak_mib(self) -> float | None:
        """Memory that the batches so far have added above the loaded model."""
        peak: float | None = self._ask("peak")
        return peak

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def _ask(self, command: str) -> Any:
        self._pipe.send(command)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(PATIENCE)
            raise LlmrecError(
                f"--engines: {self.name} ended with status {self._process.exitcode} before it "
                "answered; perhaps memory ran out, try a smaller --batch"
            ) from None
        if isinstance(answer, LlmrecError):
            raise answer
        return answer


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a new process and wait for what it returns.

    Raises:
        LlmrecError: if the process ends without an answer.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except concurrent.futures.process.BrokenProcessPool:
            raise LlmrecError(
                "bench: a process ended before it answered; perhaps memory ran out"
            ) from None


def use_threads(threads: int) -> None:
    """Let torch use so many threads; 0 changes nothing."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())


def _serve(pipe: Any, name: str, config: DecodeBenchConfig, workload: Workload) -> None:
    """The worker's life: load, warm up, answer until the other end closes."""
    try:
        _answer_all(pipe, name, config, workload)
    except (EOFError, KeyboardInterrupt):
        return
    except LlmrecError as error:
        pipe.send(error)
    except Exception as error:
        if os.environ.get("LLMREC_DEBUG", "") not in ("", "0"):
            traceback.print_exc()
        reason = " ".join(str(error).split())[:300]
        pipe.send(LlmrecError(f"--engines: {name} failed ({type(error).__name__}: {reason})"))


def _answer_all(pipe: Any, name: str, config: DecodeBenchConfig, workload: Workload) -> None:
    from llmrec.bench.decode_engines import MAKERS
    from llmrec.bench.memory import PeakMemory

    use_threads(config.threads)
    engine = MAKERS[name](config, workload)
    try:
        memory = PeakMemory(config.device)
        engine.answer(workload.prompts)
        pipe.send(engine.options)
        while True:
            command = pipe.recv()
            if command == "run":
                engine.forget()
                pipe.send(_timed(engine, config, workload))
            elif name == "vllm" and config.device == "cuda":
                pipe.send(None)  # its tensors are another process's
            else:
                pipe.send(memory.added_mib())
    finally:
        engine.close()


def _timed(engine: Any, config: DecodeBenchConfig, workload: Workload) -> Timed:
    import torch

    started = time.perf_counter()
    ranking = engine.answer(workload.prompts)
    if config.device == "cuda":
        torch.cuda.synchronize()
    return Timed(time.perf_counter() - started, ranking)
