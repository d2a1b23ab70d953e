"""What any input may do: work, or end in one line that says what to do."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from typing import TypeVar

from llmrec.errors import LlmrecError

T = TypeVar("T")

LONGEST = 1000  # characters of an error, as its class promises
SECONDS = 10.0  # of the processor; the slowest of the inputs made here takes one


def accepted(call: Callable[[], T]) -> T | None:
    """What a call gives, or None where it refuses its input as it should.

    Raises:
        AssertionError: if it takes too long, or its error is more than a line.
        Exception: what the call raises that is no error of llmrec.
    """
    printed = io.StringIO()
    started = time.process_time()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            return call()
    except LlmrecError as error:
        text = str(error)
        assert text and len(text.splitlines()) == 1 and len(text) <= LONGEST, text[:3000]
        return None
    finally:
        seconds = time.process_time() - started
        assert seconds < SECONDS, f"took {seconds:.1f} s"
        assert "Traceback" not in printed.getvalue(), printed.getvalue()
