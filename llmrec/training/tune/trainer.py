"""What all TRL trainers here share: the settings of the loop, and what a machine must have."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

from llmrec.errors import ConfigError, require
from llmrec.loop.precision import (
    bfloat16_autocast,
    bfloat16_products,
    bfloat16_products_differ,
    computes,
)
from llmrec.training.tune.settings import TuneLoopConfig

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def check_machine(loop: TuneLoopConfig) -> None:
    """Whether the libraries and devices for a loop are there.

    Raises:
        MissingExtraError: if a library is not installed.
        ConfigError: if the precision does not work here.
    """
    for package in ("trl", "peft"):
        require(package, "tune")
    if loop.precision.startswith("bf16") and not (computes_bfloat16() or converts_to_bfloat16()):
        raise ConfigError(
            f"loop.precision: {loop.precision} needs a GPU, or a CPU with AMX or AVX-512 BF16, "
            "and there is neither; set fp32, or auto"
        )


def converts_to_bfloat16() -> bool:
    """Whether this machine has units for products of what was made bfloat16 first."""
    return not torch.cuda.is_available() and computes("cpu", "bfloat16")


def computes_bfloat16() -> bool:
    """Whether this machine computes products in bfloat16 as they are."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bfloat16_products_differ()


def chosen_precision(loop: TuneLoopConfig) -> Literal["fp32", "bf16", "bf16-true"]:
    """What products are computed in on this machine."""
    if loop.precision == "auto":
        return "bf16" if computes_bfloat16() else "fp32"
    return loop.precision


def products(loop: TuneLoopConfig) -> AbstractContextManager[Any]:
    """In which a trainer trains: bfloat16 products on a CPU; a GPU's trainer autocasts itself."""
    if chosen_precision(loop) == "bf16" and not torch.cuda.is_available():
        return bfloat16_products() if computes_bfloat16() else bfloat16_autocast()
    return nullcontext()


def trainer_arguments(loop: TuneLoopConfig, folder: Path, seed: int, steps: int) -> dict[str, Any]:
    """Settings of a loop under their names in transformers.

    Args:
        folder: of checkpoints.
    """
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "learning_rate": loop.learning_rate,
        "lr_scheduler_type": SCHEDULES[loop.schedule],
        "warmup_steps": math.ceil(loop.warmup_ratio * steps),
        "weight_decay": 0.0,
        "per_device_train_batch_size": loop.batch_size,
        "gradient_accumulation_steps": loop.gradient_accumulation,
        "gradient_checkpointing": loop.gradient_checkpointing,
        "bf16": chosen_precision(loop) == "bf16" and torch.cuda.is_available(),
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "seed": seed,
        "train_sampling_strategy": "sequential",  # rows are shuffled already
        "remove_unused_columns": False,  # rows are rendered when they are read
        "logging_steps": loop.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": loop.save_steps,
        "save_total_limit": 2,
        "report_to": loop.report_to,
    }
