"""What all TRL trainers here share: the settings of the loop, and what a machine must have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from llmrec.errors import ConfigError, require
from llmrec.loop.logs import silence_logs
from llmrec.training.tune.settings import TuneLoopConfig

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def check_machine(loop: TuneLoopConfig) -> None:
    """Whether the libraries and devices for a loop are there.

    Raises:
        MissingExtraError: if a library is not installed.
        ConfigError: if the precision does not work here.
    """
    silence_logs()
    for package in ("trl", "peft"):
        require(package, "tune")
    if loop.precision == "bf16" and not torch.cuda.is_available():
        raise ConfigError("loop.precision: bf16 needs a GPU, and there is none; set fp32")


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
        "bf16": loop.precision == "bf16",
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
