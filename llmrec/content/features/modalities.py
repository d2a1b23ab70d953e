"""The kinds of media that items have: where the catalogue names them, and what embeds them.

``MODALITIES`` is the one table that ``llmrec embed media``, ``train fusion`` and ``search index``
read. A new modality is one file with a subclass of :class:`ModalityEncoder`, and one line of the
table.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrec.config import check_ranges
from llmrec.content.features.models import WHISPER
from llmrec.content.media.container import MAX_PIXELS
from llmrec.content.media.download import MediaLimits
from llmrec.content.media.errors import MediaError
from llmrec.content.media.source import MediaSource, prefetched
from llmrec.content.media.video import Choice
from llmrec.errors import ConfigError
from llmrec.loop.precision import Precision

OnFile = Callable[[int], object]


@dataclass(frozen=True)
class Modality:
    """A line of :data:`MODALITIES`.

    Attributes:
        source: where the catalogue names the file: a column, or ``attributes.NAME``.
        encoder: ``module:class`` of its :class:`ModalityEncoder`.
    """

    source: str
    encoder: str

    def load(self) -> type[ModalityEncoder]:
        """Import the encoder's class; its weights are not loaded yet."""
        module, name = self.encoder.split(":")
        found: type[ModalityEncoder] = getattr(importlib.import_module(module), name)
        return found


MODALITIES: dict[str, Modality] = {
    "image": Modality("image", "llmrec.content.features.image_encoder:ImageModality"),
    "video": Modality("video", "llmrec.content.features.video_encoder:VideoModality"),
    "speech": Modality("audio", "llmrec.content.features.speech_encoder:SpeechModality"),
}


@dataclass(frozen=True)
class EmbedMediaConfig:
    """Settings of ``llmrec embed media``.

    Attributes:
        modalities: which blocks to make, among those of ``MODALITIES``; all by default.
        image_model: a CLIP, ``NAME:PRETRAINED`` as open_clip lists them, ``NAME:FILE``,
            ``hf-hub:OWNER/NAME`` or a folder; it encodes the frames of videos too. Where none is
            named, one is made of the shop's own pictures (``llmrec train clip``). The short name
            ``efficientnet-lite0`` is a picture model without words: no search by them.
        temporal: file of a trained temporal encoder; None for the mean of a video's frames.
        frames: frames of a video that are encoded.
        frame_choice: ``even`` in time, or the beginnings of ``scenes``.
        speech_model: a Whisper, by name, file, folder or short name (``whisper-tiny.en``).
        transcribe: also write transcripts of recordings; needs a Whisper with a decoder.
        language: of the recordings, such as ``en``; None to detect it.
        audio_seconds: of a recording, how much is encoded.
        models: of modalities that have no setting of their own, the model by the modality's name.
        max_pixels: a picture, or a frame, with more pixels is skipped.
        limits: what one file may cost; ``limits.networks`` opens networks that are not public.
        device: auto, cpu, cuda, cuda:1, ...
        precision: of the forward passes; ``auto`` is bfloat16 on a GPU, float32 on a CPU.
        batch_size: pictures or frames a forward pass; a window of speech counts as eight.
        workers: threads that fetch and decode.
    """

    modalities: tuple[str, ...] = field(default_factory=lambda: tuple(MODALITIES))
    image_model: str = ""
    temporal: str | None = None
    frames: int = 8
    frame_choice: Choice = "even"
    speech_model: str = WHISPER
    transcribe: bool = False
    language: str | None = None
    audio_seconds: float = 600.0
    models: dict[str, str] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS
    limits: MediaLimits = field(default_factory=MediaLimits)
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int = 64
    workers: int = 4

    def __post_init__(self) -> None:
        for name in (*self.modalities, *self.models):
            if name not in MODALITIES:
                raise ConfigError(f"modalities: {name!r} is not one of {', '.join(MODALITIES)}")
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ConfigError(
                f"modalities: choose from {', '.join(MODALITIES)}, each once; "
                f"got {list(self.modalities)}"
            )
        check_ranges(self, "[1, inf)", "frames", "audio_seconds", "max_pixels")
        check_ranges(self, "[1, inf)", "batch_size", "workers")
        if self.transcribe and "speech" not in self.modalities:
            raise ConfigError("transcribe: needs speech among the modalities")
        if self.temporal is not None and "video" not in self.modalities:
            raise ConfigError("temporal: needs video among the modalities")


@dataclass
class ModalityBlock:
    """One modality of some items.

    Attributes:
        vectors: float32 ``[items, dim]``, unit rows, zero where there is nothing.
        present: uint8 ``[items]``.
        skipped: row and reason of each file that could not be used.
        transcripts: row and transcript of each recording, as JSON-able values.
    """

    vectors: np.ndarray
    present: np.ndarray
    skipped: list[tuple[int, str]] = field(default_factory=list)
    transcripts: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @classmethod
    def empty(cls, n_items: int, dim: int) -> ModalityBlock:
        """A block in which nothing is present yet."""
        return cls(np.zeros((n_items, dim), np.float32), np.zeros(n_items, np.uint8))


class ModalityEncoder(ABC):
    """Embeds the files of one modality; most are a :class:`BatchEncoder`.

    Args:
        encoders: those of the run, with its settings and the source of its files.
    """

    def __init__(self, encoders: MediaEncoders) -> None:
        self.encoders = encoders
        self.config, self.source = encoders.config, encoders.source

    @classmethod
    def input_hashes(cls, config: EmbedMediaConfig) -> dict[str, str]:
        """What identifies its weights in the stage's manifest, by name.

        Raises:
            ConfigError: if a file that the settings name is not there.
        """
        return {}

    @classmethod
    def is_in_clip_space(cls, config: Mapping[str, Any]) -> bool:
        """Whether its vectors can be compared with words by the image model of these settings."""
        return False

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of a vector."""

    @abstractmethod
    def encode_column(self, values: Sequence[Any], on_file: OnFile) -> ModalityBlock:
        """Embed some items' files.

        Args:
            values: what the catalogue says, None where an item has no file.
            on_file: called with the number of files done.
        """


class BatchEncoder(ModalityEncoder):
    """Embeds files in batches.

    Files are fetched and decoded by threads some steps ahead of the model, in order and bounded, so
    that neither waits for the other and memory does not grow with the catalogue. A file that
    cannot be used is noted with its reason and leaves a zero row.
    """

    @abstractmethod
    def prepare(self, value: Any) -> Any:
        """Fetch and decode one file, in a thread.

        Args:
            value: what the catalogue says of it, for :meth:`MediaSource.read`.

        Raises:
            MediaError: if it cannot be had or decoded, or is larger than allowed.
        """

    @abstractmethod
    def encode(self, prepared: list[Any]) -> np.ndarray:
        """Unit rows float32 ``[files, dim]`` of what :meth:`prepare` gave."""

    @property
    def batch_size(self) -> int:
        """Files of one call of :meth:`encode`."""
        return self.config.batch_size

    def encode_column(self, values: Sequence[Any], on_file: OnFile) -> ModalityBlock:
        """As :meth:`ModalityEncoder.encode_column`."""
        block = ModalityBlock.empty(len(values), self.dim)
        rows = [row for row, value in enumerate(values) if value is not None]
        waiting: list[tuple[int, Any]] = []

        def flush() -> None:
            if waiting:
                done = [row for row, _ in waiting]
                block.vectors[done] = self.encode([prepared for _, prepared in waiting])
                block.present[done] = 1
                on_file(len(waiting))
                waiting.clear()

        ahead = prefetched(self.prepare, [values[row] for row in rows], self.config.workers)
        for row, prepared in zip(rows, ahead, strict=True):
            if isinstance(prepared, MediaError):
                block.skipped.append((row, str(prepared)))
                on_file(1)
                continue
            waiting.append((row, prepared))
            if len(waiting) == self.batch_size:
                flush()
        flush()
        return block


class MediaEncoders:
    """The encoders of a run by modality, each loaded when it is first needed.

    Args:
        config: settings of the stage.
        source: where files come from.
    """

    def __init__(self, config: EmbedMediaConfig, source: MediaSource) -> None:
        self.config, self.source = config, source
        self._loaded: dict[str, ModalityEncoder] = {}

    def __getitem__(self, modality: str) -> ModalityEncoder:
        if modality not in self._loaded:
            self._loaded[modality] = MODALITIES[modality].load()(self)
        return self._loaded[modality]
