"""Speech to vectors and to words, with openai-whisper.

    speech = SpeechEncoder("base")
    speech.encode([list(windows(path))])        # float32 [1, 512], unit length
    speech.transcribe(windows(path))            # text, language, segments with times

A recording's vector is the mean of the audio encoder's states over the time that has sound; the
padding to 30 s that the model needs is left out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.content.features.image_encoder import Precision, mixed_precision, pick_device
from llmrec.content.features.whisper_weights import load_whisper
from llmrec.content.media.audio import RATE, WINDOW_SECONDS, Window
from llmrec.errors import ConfigError, require

if TYPE_CHECKING:
    import torch

WHISPER = "base"
_SAMPLES_A_STATE = 320  # a state of the encoder stands for 20 ms


@dataclass(frozen=True)
class Segment:
    """Words and when they were said, in seconds from the beginning of the recording."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        text: all of it.
        language: its code, such as ``en``; of the first part in which something was said.
        segments: in order of time.
    """

    text: str
    language: str
    segments: tuple[Segment, ...]


class SpeechEncoder:
    """Embeds and transcribes recordings.

    Args:
        model: see :mod:`llmrec.content.features.whisper_weights`.
        device: ``auto`` or a torch device.
        precision: of the forward pass; the vectors are float32 in any case.

    Raises:
        ConfigError: if the model cannot be loaded or the device does not exist.
        MissingExtraError: if openai-whisper is not installed.
    """

    def __init__(
        self, model: str = WHISPER, *, device: str = "auto", precision: Precision = "auto"
    ) -> None:
        self.device = pick_device(device)
        self.precision = precision
        self.model = model
        self.whisper = load_whisper(model, self.device)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.whisper.encoder.ln_post.normalized_shape[0])

    @property
    def can_transcribe(self) -> bool:
        """Whether there is a decoder."""
        return self.whisper.model is not None

    def prepare(self, window: Window) -> tuple[torch.Tensor, int]:
        """The model's input of one window: float32 ``[n_mels, 3000]``, and how many of the
        encoder's 1,500 states stand for sound that is there."""
        torch = require("torch", "media")
        library = require("whisper.audio", "media")
        samples = torch.from_numpy(window.samples)
        states = max(1, -(-len(samples) // _SAMPLES_A_STATE))
        padded = library.pad_or_trim(samples, int(WINDOW_SECONDS * RATE))
        return library.log_mel_spectrogram(padded, self.whisper.n_mels), states

    def sums(self, prepared: Sequence[tuple[torch.Tensor, int]]) -> np.ndarray:
        """The sum of each prepared window's states, float32 ``[windows, dim]``.

        A recording's vector is the sum of its windows' sums, scaled to length 1.
        """
        torch = require("torch", "media")
        with torch.inference_mode(), mixed_precision(self.device, self.precision):
            mels = torch.stack([mel for mel, _ in prepared]).to(self.device)
            states = self.whisper.encoder(mels)
        heard = [row[:n].float().sum(0) for row, (_, n) in zip(states, prepared, strict=True)]
        return np.asarray(torch.stack(heard).cpu().numpy())

    def encode(self, recordings: Sequence[Sequence[Window]]) -> np.ndarray:
        """Embed recordings, each a list of windows: float32 ``[recordings, dim]``, unit rows."""
        vectors = np.zeros((len(recordings), self.dim), np.float32)
        for row, recording in enumerate(recordings):
            if recording:
                vectors[row] = self.sums([self.prepare(w) for w in recording]).sum(0)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(norms > 0, norms, 1)

    def transcribe(self, windows: Iterable[Window], *, language: str | None = None) -> Transcript:
        """Write down what is said, window by window; silent windows are left out.

        Args:
            windows: of one recording, in order.
            language: its code; None to let the model hear it.

        Raises:
            ConfigError: if the model has no decoder.
        """
        if self.whisper.model is None:
            raise ConfigError(
                f"transcribe: {self.model!r} is only an audio encoder; give a Whisper with its "
                "decoder, or do without transcripts"
            )
        segments: list[Segment] = []
        for window in windows:
            if window.silent:
                continue
            heard = self.whisper.model.transcribe(
                window.samples,
                language=language,
                temperature=0.0,  # whisper's fall-back draws at random
                condition_on_previous_text=False,
                fp16=self.device.type == "cuda" and self.precision != "float32",
            )
            language = heard["language"]
            segments += _segments(heard, window)
        text = " ".join(segment.text for segment in segments if segment.text)
        return Transcript(text, language or "", tuple(segments))


def _segments(heard: dict[str, Any], window: Window) -> list[Segment]:
    """Whisper's segments on the recording's clock; an end past the sound is the sound's end."""
    return [
        Segment(
            round(window.start + min(segment["start"], window.seconds), 2),
            round(window.start + min(segment["end"], window.seconds), 2),
            " ".join(segment["text"].split()),
        )
        for segment in heard["segments"]
    ]
