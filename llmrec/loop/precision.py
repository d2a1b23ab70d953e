"""In which precision a forward pass is computed, by what the device has."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

from llmrec.errors import require

logger = logging.getLogger(__name__)
Precision = Literal["auto", "float32", "bfloat16", "float16"]
# As trainers for accelerate and TRL name them.
PRECISIONS: dict[str, Precision] = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16"}


def choose_precision(device_type: str, precision: Precision) -> Precision:
    """The precision to compute in; never ``auto``.

    ``auto`` is bfloat16 on a GPU that has it, else float16, and float32 on a CPU. A CPU without
    units for a half precision emulates it, a hundred times slower than float32: there float32 is
    taken instead, and a warning says so once.

    Args:
        device_type: ``cpu`` or ``cuda``.
    """
    torch = require("torch", "train")
    if precision == "auto":
        if device_type != "cuda":
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if device_type == "cpu" and precision != "float32" and not computes("cpu", precision):
        _warn(precision)
        return "float32"
    return precision


def mixed_precision(device_type: str, precision: Precision) -> AbstractContextManager[Any]:
    """Autocast for a forward pass in what :func:`choose_precision` chooses."""
    chosen = choose_precision(device_type, precision)
    if chosen == "float32":
        return nullcontext()
    torch = require("torch", "train")
    return torch.autocast(device_type, getattr(torch, chosen))


@contextmanager
def bfloat16_products() -> Iterator[None]:
    """Products of float32 matrices on a CPU in bfloat16 units, summed up and kept in float32.

    Two to five times as fast where the CPU has such units, forwards and backwards, and without the
    conversions of autocast: weights and states stay as they are.
    """
    matmul = require("torch", "train").backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def bfloat16_autocast() -> AbstractContextManager[Any]:
    """The same for a CPU with AVX-512 BF16 alone, by autocast, around steps of training.

    It keeps no converted weights: they would stay those of the first step.
    """
    torch = require("torch", "train")
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)


@functools.cache
def bfloat16_products_differ() -> bool:
    """Whether :func:`bfloat16_products` changes anything on this CPU.

    oneDNN does so on AMX; with AVX-512 BF16 alone it goes on in float32.
    """
    one = require("torch", "train").arange(1 << 16).reshape(256, 256).sin()
    with bfloat16_products():
        product = one @ one
    # rounding to 8 bits is off by some hundredths here, another order of sums by 1e-5
    return float((product - one @ one).abs().max()) > 1e-3


def computes(device_type: str, precision: Precision) -> bool:
    """Whether a device multiplies matrices of a half precision itself: a CPU by AVX-512 BF16 or
    AMX."""
    torch = require("torch", "train")
    if device_type == "cuda":
        return precision == "float16" or bool(torch.cuda.is_bf16_supported())
    cpu = torch.cpu
    if precision == "float16":
        return bool(cpu._is_amx_fp16_supported())
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


@functools.cache
def _warn(precision: Precision) -> None:
    logger.warning(
        "precision: this CPU has no units for %s; computing in float32, which is faster here",
        precision,
    )
