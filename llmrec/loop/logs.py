"""What libraries print of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from llmrec.errors import require


def silence_logs() -> None:
    """Call before peft, trl, or what loads them (sentence-transformers, open_clip), are loaded.

    bitsandbytes looks for a faster kernel on a hub and reports at length that it is not there,
    whether or not anything is in 4 bits; vLLM, which trl loads where it is installed, that there
    is no Triton for a CPU.
    """
    for name in ("bitsandbytes.backends.cpu.ops", "vllm.triton_utils.importing"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' bars of reading weights and its list of those that it does not need."""
    library = require("transformers.utils.logging", "train")
    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()
