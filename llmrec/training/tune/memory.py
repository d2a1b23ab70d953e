"""Out-of-memory errors, of a GPU or of the CPU, as advice on which settings to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from llmrec.errors import ConfigError
from llmrec.metrics.machine import peak_mib


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """Turn an out-of-memory error into advice.

    Raises:
        ConfigError: naming the settings to lower.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and "can't allocate memory" not in str(error):
            raise
        raise ConfigError(
            "out of memory; lower loop.batch_size (and raise loop.gradient_accumulation "
            "as much) or loop.max_length, set loop.gradient_checkpointing, or use method: qlora; "
            "while validating, lower beams"
        ) from error


def most_memory_mib() -> float | None:
    """The most memory the GPU has held for this process; without one, the process itself."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak_mib()
