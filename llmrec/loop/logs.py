"""What libraries print of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llmrec.errors import require


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
