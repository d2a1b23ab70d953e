"""Settings of ``llmrec embed media``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmrec.content.features.image_encoder import CLIP, Precision
from llmrec.content.features.speech_encoder import WHISPER
from llmrec.content.media.download import Limits
from llmrec.content.media.images import MAX_PIXELS
from llmrec.content.media.video import Choice

Modality = Literal["image", "video", "speech"]
MODALITIES: tuple[Modality, ...] = ("image", "video", "speech")
# column of the catalogue behind each modality
COLUMNS = {"image": "image", "video": "video", "speech": "audio"}


@dataclass(frozen=True)
class EmbedMediaConfig:
    """Settings of ``llmrec embed media``.

    Attributes:
        modalities: which blocks to make, among ``image``, ``video`` and ``speech``.
        image_model: a CLIP, ``NAME:PRETRAINED`` as open_clip lists them, ``NAME:FILE``,
            ``hf-hub:OWNER/NAME`` or a folder; it sees the frames of videos too.
        temporal: file of a trained temporal encoder; None for the mean of a video's frames.
        frames: frames of a video that are looked at.
        frame_choice: ``even`` in time, or the beginnings of ``scenes``.
        speech_model: a Whisper, by name, file or folder.
        transcribe: also write down what is said; needs a Whisper with a decoder.
        language: what is spoken, such as ``en``; None to let the model hear it.
        audio_seconds: of a recording, how much is heard.
        max_pixels: a picture, or a frame, with more pixels is skipped.
        limits: what one file may cost; ``limits.networks`` opens networks that are not public.
        device: auto, cpu, cuda, cuda:1, ...
        precision: of the forward passes; ``auto`` is bfloat16 on a GPU, float32 on a CPU.
        batch_size: pictures or frames a forward pass; a window of speech counts as eight.
        workers: threads that fetch and decode.
    """

    modalities: tuple[Modality, ...] = MODALITIES
    image_model: str = CLIP
    temporal: str | None = None
    frames: int = 8
    frame_choice: Choice = "even"
    speech_model: str = WHISPER
    transcribe: bool = False
    language: str | None = None
    audio_seconds: float = 600.0
    max_pixels: int = MAX_PIXELS
    limits: Limits = field(default_factory=Limits)
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int = 64
    workers: int = 4

    def __post_init__(self) -> None:
        unknown = [name for name in self.modalities if name not in MODALITIES]
        if unknown or not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(
                f"modalities: choose from {', '.join(MODALITIES)}, each once; "
                f"got {list(self.modalities)}"
            )
        for name in ("frames", "audio_seconds", "max_pixels", "batch_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, got {getattr(self, name)}")
        if self.transcribe and "speech" not in self.modalities:
            raise ValueError("transcribe: needs speech among the modalities")
        if self.temporal is not None and "video" not in self.modalities:
            raise ValueError("temporal: needs video among the modalities")
