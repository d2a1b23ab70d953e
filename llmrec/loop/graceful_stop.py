"""Graceful stopping: a run writes a checkpoint after its next step and ends.

It is asked to by SIGTERM, or by a file named ``stop`` in the folder of the job it runs for.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmrec.loop.status import STOP, own_job

_requested = threading.Event()


class Stopped(SystemExit):
    """A run ended early on request, with a checkpoint; the same command resumes it.

    Where nobody catches it, the process ends with the status of one that SIGTERM ended.
    """

    def __init__(self, message: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.message = message

    def __str__(self) -> str:
        return self.message


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Take the first SIGTERM as a request to stop; the next one kills.

    Signals reach the main thread alone; in any other thread only the ``stop`` file is a request.
    """
    _requested.clear()

    def request(*_: Any) -> None:
        _requested.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, request) if main else None
    try:
        yield
    except Stopped as stopped:
        print(f"llmrec: {stopped}", file=sys.stderr, flush=True)
        raise
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def stop_requested() -> bool:
    """Whether somebody asked the run to stop."""
    job = own_job()
    return _requested.is_set() or (job is not None and (job / STOP).exists())
