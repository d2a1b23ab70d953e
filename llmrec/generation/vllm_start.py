"""Starts vLLM on a model's folder and its LoRA adapters, with the item constraint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from llmrec.config import check_ranges
from llmrec.content.features.models import check_layers
from llmrec.errors import ArtifactError, ConfigError, one_line
from llmrec.llm.adapters import read_adapter
from llmrec.llm.layout import ADAPTERS
from llmrec.llm.vllm_process import open_vllm
from llmrec.stage import MANIFEST, read_manifest

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # LoRA ranks that vLLM takes
CONSTRAINT = "llmrec.generation.vllm_constraint:ItemConstraint"
PLUGINS = "vllm.logits_processors"  # vLLM's group of entry points
RUNNER = "VLLM_USE_V2_MODEL_RUNNER"
OTHER_RUNNER = (
    "vLLM's second model runner has another interface of logits processors, for which llmrec has "
    f"no item constraint; start it with {RUNNER}=0, and with vllm<0.32"
)


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM is started.

    Attributes:
        dtype: in which numbers it computes.
        memory_gib: for keys and values.
        block_size: tokens of a block of these. Beams share the whole blocks of their history only,
            so small ones are better for short prompts.
        batch_size: users answered at once.

    Raises:
        ConfigError: if a value makes no sense.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    memory_gib: float = 1.0
    block_size: int = 32
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype: {self.dtype!r} is neither float32 nor bfloat16")
        check_ranges(self, "(0, inf)", "memory_gib", "block_size", "batch_size")


def model_and_adapters(folder: Path, adapters: Sequence[str | Path]) -> tuple[Path, list[Path]]:
    """The model's folder and those of its adapters; a bundle's files are checked."""
    if not (folder / MANIFEST).is_file() or read_manifest(folder).stage != "bundle":
        return folder, [Path(adapter) for adapter in adapters]
    if adapters:
        raise ConfigError(f"adapters: {folder} is a bundle and brings its own; give its model")
    read_manifest(folder, hashes=True)
    return folder / "model", sorted((folder / ADAPTERS).glob("*"))


def read_config(model: Path) -> Any:
    """The model's ``config.json``, as transformers reads it."""
    from transformers import AutoConfig

    check_layers(model)
    try:
        return AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        raise ArtifactError(f"{model}: not a trained llmrec model ({one_line(error)})") from None


def start_vllm(model: Path, longest: int, adapters: dict[str, Path], settings: VllmSettings) -> Any:
    """vLLM on a model's folder."""
    use_first_runner()
    options = engine_options(longest, adapters, settings)
    # token ids in, token ids out
    return open_vllm(model, read_config(model), skip_tokenizer_init=True, **options)


def engine_options(
    longest: int, adapters: dict[str, Path], settings: VllmSettings
) -> dict[str, Any]:
    """How vLLM is started, by the names of its Python arguments and its flags.

    Args:
        longest: tokens of a prompt and an item ID.
    """
    options: dict[str, Any] = {
        "dtype": settings.dtype,
        "max_model_len": longest,
        "max_logprobs": -1,
        "logprobs_mode": "processed_logprobs",  # what the constraint leaves adds up to one
        "block_size": settings.block_size,
        "kv_cache_memory_bytes": int(settings.memory_gib * 2**30),
    }
    if not any(one.value == CONSTRAINT for one in entry_points(group=PLUGINS)):
        options["logits_processors"] = [CONSTRAINT]  # llmrec is on the path but not installed
    if adapters:
        # One place more than there are adapters: on a CPU, vLLM's kernels let a request without
        # one read the last place, which has to stay empty.
        options |= {
            "enable_lora": True,
            "max_loras": len(adapters) + 1,
            "max_lora_rank": _lora_rank(adapters),
        }
    return options


def use_first_runner() -> None:
    """Make vLLM take the first of its two model runners, whose interface the constraint has.

    Raises:
        ConfigError: if the environment asks for the second one.
    """
    asked = os.environ.setdefault(RUNNER, "0")
    if asked.lower() not in ("0", "false"):
        raise ConfigError(f"{RUNNER}: is {asked!r}; {OTHER_RUNNER}")


def _lora_rank(adapters: dict[str, Path]) -> int:
    """The least rank that vLLM takes for these adapters."""
    largest = max(read_adapter(folder).rank for folder in adapters.values())
    for rank in RANKS:
        if rank >= largest:
            return rank
    raise ConfigError(f"adapter: rank {largest} is more than the {RANKS[-1]} that vLLM can serve")
