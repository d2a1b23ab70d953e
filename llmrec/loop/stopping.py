"""A run that is asked to stop writes a checkpoint at its next step and ends.

It is asked by SIGTERM, or by a file named ``stop`` in the folder of the job it runs for.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmrec.errors import LlmrecError
from llmrec.loop.status import STOP, own_job

EXIT_STATUS = 128 + signal.SIGTERM
_asked = threading.Event()


class Stopped(LlmrecError):
    """A run ended where it was asked to; the same command goes on from there."""


@contextmanager
def on_sigterm() -> Iterator[None]:
    """While this lasts the first SIGTERM asks, and the next one kills.

    Signals reach the main thread alone; in any other nothing changes.
    """
    _asked.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(*_: Any) -> None:
        _asked.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def asked() -> bool:
    """Whether the run should stop."""
    job = own_job()
    return _asked.is_set() or (job is not None and (job / STOP).exists())


@contextmanager
def exit_if_stopped() -> Iterator[None]:
    """Say that a run stopped, and end with the status of a process that SIGTERM ended.

    Raises:
        SystemExit: where it was stopped.
    """
    try:
        yield
    except Stopped as stopped:
        print(f"llmrec: {stopped}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_STATUS) from None
