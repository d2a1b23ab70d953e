"""What libraries print of a run."""

from __future__ import annotations

import logging


def silence_logs() -> None:
    """Call before peft and trl are loaded.

    bitsandbytes looks for a faster kernel on a hub and reports at length that it is not there,
    whether or not anything is in 4 bits; vLLM, which trl loads where it is installed, that there
    is no Triton for a CPU.
    """
    for name in ("bitsandbytes.backends.cpu.ops", "vllm.triton_utils.importing"):
        logging.getLogger(name).setLevel(logging.ERROR)
