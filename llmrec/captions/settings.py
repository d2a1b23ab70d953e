"""Settings of ``llmrec caption``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from llmrec.captions.prompting import SOURCES
from llmrec.config import check_ranges
from llmrec.content.media.container import MAX_PIXELS
from llmrec.content.media.download import MediaLimits
from llmrec.content.media.video import Choice
from llmrec.errors import ConfigError

# They change how fast the stage runs, not what it writes: a retry with a smaller batch resumes.
SPEED_SETTINGS = ("batch_size", "workers", "device", "memory_gib")


def check_chosen(option: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse a setting that names nothing, or what is not known.

    Raises:
        ConfigError: for either.
    """
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        what = f"{unknown[0]!r} is not one" if unknown else "none is named"
        raise ConfigError(f"{option}: {what}; choose from {', '.join(known)}")


@dataclass(frozen=True)
class CaptionConfig:
    """Settings of ``llmrec caption``.

    Attributes:
        schema: name or YAML file of the closed fields; None for those that the model was trained
            on, which its folder holds, or else ``shop``.
        engine: ``vllm``, ``transformers``, or ``auto``: vLLM on a GPU.
        inputs: what the model gets of an item; None for all that there is.
        caption_tokens: limit of a caption.
        enhance_tokens: limit of key terms, summary and who would want it.
        frames: frames of a video.
        frame_choice: ``even`` in time, or the beginnings of ``scenes``.
        max_pixels: a picture, or a frame, with more pixels is left out.
        limits: what one file may cost; ``limits.networks`` opens networks that are not public.
        device: auto, cpu, cuda, cuda:1, ...; vLLM finds its own.
        precision: ``auto`` is bfloat16 on a GPU, float32 on a CPU.
        batch_size: prompts of one forward pass.
        workers: threads that fetch and decode.
        memory_gib: vLLM's for keys and values, on a CPU.
    """

    schema: str | None = None
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    inputs: tuple[str, ...] | None = None
    caption_tokens: int = 64
    enhance_tokens: int = 384
    frames: int = 8
    frame_choice: Choice = "even"
    max_pixels: int = MAX_PIXELS
    limits: MediaLimits = field(default_factory=MediaLimits)
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    batch_size: int = 32
    workers: int = 4
    memory_gib: float = 1.0

    def __post_init__(self) -> None:
        if self.inputs is not None:
            check_chosen("inputs", self.inputs, SOURCES)
        check_ranges(self, "[1, inf)", "caption_tokens", "enhance_tokens", "frames")
        check_ranges(self, "[1, inf)", "max_pixels", "batch_size", "workers")
        check_ranges(self, "(0, inf)", "memory_gib")

    def wants(self, source: str) -> bool:
        """Whether the model gets this source."""
        return self.inputs is None or source in self.inputs

    @property
    def sources(self) -> tuple[str, ...]:
        """What the model gets, in the order of ``SOURCES``."""
        return tuple(name for name in SOURCES if self.wants(name))
