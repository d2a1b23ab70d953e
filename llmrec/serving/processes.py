"""What the operating system is asked for on behalf of a service's processes."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys

ARENAS = 2
_M_ARENA_MAX = -8  # of glibc's malloc.h
_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


def limit_arenas(arenas: int = ARENAS) -> bool:
    """Let malloc keep a few arenas, whatever the number of threads; whether it does.

    glibc gives each thread an arena of its own, up to eight a core, and each keeps what its thread
    once needed. A service that answers from many threads then grows to several times of what it
    uses. Must be called before there are threads.
    """
    mallopt = _of_libc("mallopt")  # musl has none
    return mallopt is not None and mallopt(_M_ARENA_MAX, arenas) == 1


def settle_garbage() -> None:
    """Take all that there is now out of what the garbage collector looks through.

    Libraries leave millions of objects behind that live as long as the process. A full collection
    looks at each while no thread may run: half a second in which nobody is answered.
    """
    gc.collect()
    gc.freeze()


def end_with_parent() -> None:
    """End this process as soon as its parent has, even one that was killed."""
    prctl = _of_libc("prctl")
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _of_libc(name: str) -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
