"""What libraries print of a run, and trackers that follow it."""

from __future__ import annotations

import logging

from llmrec.errors import require


def silence_logs() -> None:
    """Call before peft and trl are loaded.

    bitsandbytes looks for a faster kernel on a hub and reports at length that it is not there,
    whether or not anything is in 4 bits; vLLM, which trl loads where it is installed, that there
    is no Triton for a CPU.
    """
    for name in ("bitsandbytes.backends.cpu.ops", "vllm.triton_utils.importing"):
        logging.getLogger(name).setLevel(logging.ERROR)


def require_tracker(report_to: str) -> None:
    """Check that the library of an experiment tracker is there.

    Args:
        report_to: ``none``, ``tensorboard`` or ``wandb``.

    Raises:
        MissingExtraError: if it is not installed.
    """
    if report_to != "none":
        require(report_to, "wandb" if report_to == "wandb" else "train")
