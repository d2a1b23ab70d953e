"""Speech to vectors and to transcripts, with openai-whisper.

    speech = SpeechEncoder("base")
    speech.encode([list(windows(path))])        # float32 [1, 512], unit length
    speech.transcribe(windows(path))            # text, language, segments with times

A recording's vector is the mean of the audio encoder's states over the time that has sound; the
padding to 30 s that the model needs is left out of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.content.features.modalities import (
    EmbedMediaConfig,
    MediaEncoders,
    ModalityBlock,
    ModalityEncoder,
    OnFile,
)
from llmrec.content.features.models import (
    WHISPER,
    pick_device,
    unit_rows,
    weights_hash,
)
from llmrec.content.features.whisper_weights import load_whisper
from llmrec.content.media.audio import RATE, WINDOW_SECONDS, AudioWindow, windows
from llmrec.content.media.errors import EmptyMediaError, MediaError
from llmrec.content.media.source import prefetched
from llmrec.errors import ConfigError, require
from llmrec.loop.precision import Precision, mixed_precision

if TYPE_CHECKING:
    import torch

_SAMPLES_A_STATE = 320  # a state of the encoder stands for 20 ms
_WINDOW_COST = 8  # a window of speech takes the memory of so many pictures, or more


@dataclass(frozen=True)
class Segment:
    """A part of a transcript, with times in seconds from the beginning of the recording."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """The transcript of a recording.

    Attributes:
        text: all of it.
        language: its code, such as ``en``; of the first part with speech.
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

    def prepare(self, window: AudioWindow) -> tuple[torch.Tensor, int]:
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
        with torch.inference_mode(), mixed_precision(self.device.type, self.precision):
            mels = torch.stack([mel for mel, _ in prepared]).to(self.device)
            states = self.whisper.encoder(mels)
        sums = [row[:n].float().sum(0) for row, (_, n) in zip(states, prepared, strict=True)]
        return np.asarray(torch.stack(sums).cpu().numpy())

    def encode(self, recordings: Sequence[Sequence[AudioWindow]]) -> np.ndarray:
        """Embed recordings, each a list of windows: float32 ``[recordings, dim]``, unit rows."""
        vectors = np.zeros((len(recordings), self.dim), np.float32)
        for row, recording in enumerate(recordings):
            if recording:
                vectors[row] = self.sums([self.prepare(w) for w in recording]).sum(0)
        return unit_rows(vectors)

    def with_decoder(self) -> Any:
        """The whole model of openai-whisper.

        Raises:
            ConfigError: if it has no decoder.
        """
        if not self.can_transcribe:
            raise ConfigError(
                f"transcribe: {self.model!r} is only an audio encoder; give a Whisper with its "
                "decoder, or do without transcripts"
            )
        return self.whisper.model

    def transcribe(
        self, windows: Iterable[AudioWindow], *, language: str | None = None
    ) -> Transcript:
        """Transcribe a recording window by window; silent windows are left out.

        Args:
            windows: of one recording, in order.
            language: its code; None to detect it.

        Raises:
            ConfigError: if the model has no decoder.
        """
        model = self.with_decoder()
        segments: list[Segment] = []
        for window in windows:
            if window.silent:
                continue
            result = model.transcribe(
                window.samples,
                language=language,
                temperature=0.0,  # whisper's fall-back draws at random
                condition_on_previous_text=False,
                fp16=self.device.type == "cuda" and self.precision != "float32",
            )
            language = result["language"]
            segments += _segments(result, window)
        text = " ".join(segment.text for segment in segments if segment.text)
        return Transcript(text, language or "", tuple(segments))


class SpeechModality(ModalityEncoder):
    """Recordings by Whisper, decoded window by window: one of hours is never held whole."""

    def __init__(self, encoders: MediaEncoders) -> None:
        super().__init__(encoders)
        if self.config.transcribe:
            self.speech.with_decoder()  # fails now rather than after the pictures

    @classmethod
    def input_hashes(cls, config: EmbedMediaConfig) -> dict[str, str]:
        """Whisper's weights."""
        return {"speech_model": weights_hash(config.speech_model)}

    @cached_property
    def speech(self) -> SpeechEncoder:
        """Whisper."""
        c = self.config
        return SpeechEncoder(c.speech_model, device=c.device, precision=c.precision)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.speech.dim

    def encode_column(self, values: Sequence[Any], on_file: OnFile) -> ModalityBlock:
        """As for every modality, but windows of several recordings share a batch."""
        block = ModalityBlock.empty(len(values), self.dim)
        batch_size = max(1, self.config.batch_size // _WINDOW_COST)
        waiting: list[tuple[int, Any]] = []

        def flush() -> None:
            if waiting:
                sums = self.speech.sums([prepared for _, prepared in waiting])
                for (row, _), total in zip(waiting, sums, strict=True):
                    block.vectors[row] += total
                    block.present[row] = 1
                waiting.clear()

        def encoded(row: int, recording: Iterable[AudioWindow]) -> Iterator[AudioWindow]:
            """The windows with sound, each embedded as it passes."""
            silent = True
            for window in recording:
                if not window.silent:
                    silent = False
                    waiting.append((row, self.speech.prepare(window)))
                    if len(waiting) >= batch_size:
                        flush()
                    yield window
            if silent:
                raise EmptyMediaError("silent from beginning to end")

        rows = [row for row, value in enumerate(values) if value is not None]
        files = prefetched(self.source.read, [values[row] for row in rows], self.config.workers)
        unusable: list[int] = []
        for row, file in zip(rows, files, strict=True):
            try:
                if isinstance(file, MediaError):
                    raise file
                loud = encoded(row, windows(file, max_seconds=self.config.audio_seconds))
                if self.config.transcribe:
                    transcript = self.speech.transcribe(loud, language=self.config.language)
                    block.transcripts.append((row, asdict(transcript)))
                else:
                    deque(loud, maxlen=0)
            except MediaError as error:
                waiting[:] = [entry for entry in waiting if entry[0] != row]
                unusable.append(row)
                block.skipped.append((row, str(error)))
            on_file(1)
        flush()
        block.vectors[unusable] = 0
        block.present[unusable] = 0
        block.vectors = unit_rows(block.vectors)
        return block


def _segments(result: dict[str, Any], window: AudioWindow) -> list[Segment]:
    """Whisper's segments on the recording's clock; an end past the sound is the sound's end."""
    return [
        Segment(
            round(window.start + min(segment["start"], window.seconds), 2),
            round(window.start + min(segment["end"], window.seconds), 2),
            " ".join(segment["text"].split()),
        )
        for segment in result["segments"]
    ]
