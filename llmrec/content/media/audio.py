"""Sound from any container as 16 kHz mono, in windows, so that length costs no memory.

    for window in windows(Path("talk.mp3")):
        window.start, window.samples      # seconds, float32 [up to 480,000]

A window ends at the quietest point of its last seconds, so that words are not cut in two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.content.media.container import decoded, opened
from llmrec.content.media.errors import EmptyMediaError
from llmrec.errors import require

RATE = 16_000  # samples a second
WINDOW_SECONDS = 30.0
SILENCE_DB = -60.0  # relative to full scale
_STEP = RATE // 50  # 20 ms: loudness is measured over so many samples


@dataclass(frozen=True, eq=False)
class AudioWindow:
    """A piece of sound.

    Attributes:
        start: seconds from the beginning of the recording.
        samples: float32 ``[n]`` in [-1, 1], 16 kHz, mono.
    """

    start: float
    samples: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    @property
    def silent(self) -> bool:
        """Whether no 20 ms of it are louder than -60 dB of full scale."""
        return bool(loudness(self.samples).max(initial=-np.inf) < SILENCE_DB)


def loudness(samples: np.ndarray) -> np.ndarray:
    """Root mean square of each 20 ms (the last may be shorter), in dB of full scale.

    >>> loudness(np.full(640, 0.1, np.float32)).round().tolist()
    [-20.0, -20.0]
    """
    starts = np.arange(0, len(samples), _STEP)
    if not len(starts):
        return np.zeros(0, np.float32)
    power = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    mean = power / np.diff(np.append(starts, len(samples)))
    return (10 * np.log10(np.maximum(mean, 1e-12))).astype(np.float32)


def windows(
    source: Path | bytes,
    *,
    seconds: float = WINDOW_SECONDS,
    search_seconds: float = 5.0,
    max_seconds: float | None = None,
) -> Iterator[AudioWindow]:
    """Decode sound window by window.

    Args:
        source: a file or its bytes; of a video, its first sound track.
        seconds: the longest a window may be.
        search_seconds: how far before its longest end a window may end, at the quietest point
            there; 0 cuts at the longest end.
        max_seconds: where to stop; None for the end.

    Raises:
        UndecodableError: if it is no media file, or no sound in it can be decoded.
        EmptyMediaError: if it has no sound track, or an empty one.
    """
    size, search = int(seconds * RATE), int(min(search_seconds, seconds / 2) * RATE)
    left = None if max_seconds is None else int(max_seconds * RATE)
    waiting, start = np.zeros(0, np.float32), 0
    for piece in _pieces(source):
        piece = piece if left is None else piece[:left]
        left = None if left is None else left - len(piece)
        waiting = np.concatenate([waiting, piece])
        while len(waiting) > size:
            end = _quietest(waiting[:size], size - search)
            yield AudioWindow(start / RATE, waiting[:end].copy())
            waiting, start = waiting[end:], start + end
        if left == 0:
            break
    if len(waiting):
        yield AudioWindow(start / RATE, waiting)


def _pieces(source: Path | bytes) -> Iterator[np.ndarray]:
    """Decoded and resampled frames, gathered to about a second: float32 ``[n]``."""
    with opened(source) as container:
        if not container.streams.audio:
            raise EmptyMediaError("no sound track")
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        gathered: list[np.ndarray] = []
        length = 0
        for samples in _resampled(decoded(container, stream)):
            for part in _parts(samples):
                gathered.append(part)
                length += len(part)
                if length >= RATE:
                    yield np.concatenate(gathered)
                    gathered, length = [], 0
        if gathered:
            yield np.concatenate(gathered)


def _resampled(frames: Iterator[Any]) -> Iterator[np.ndarray]:
    """float32 ``[n]`` at 16 kHz; a stream whose rate or layout changes gets a new resampler."""
    av = require("av", "media")
    resampler, shape = None, None
    for frame in frames:
        now = (frame.sample_rate, frame.layout.name, frame.format.name)
        if resampler is None or now != shape:
            if resampler is not None:
                yield from _mono(resampler.resample(None))
            resampler, shape = av.AudioResampler("fltp", frame.layout, RATE), now
        frame.pts = None  # gaps and jumps of a damaged file are no silence to fill in
        yield from _mono(resampler.resample(frame))
    if resampler is not None:
        yield from _mono(resampler.resample(None))


def _mono(frames: list[Any]) -> Iterator[np.ndarray]:
    """The mean of the channels; FFmpeg's own mix is louder and clips."""
    return (frame.to_ndarray().mean(axis=0) for frame in frames)


def _parts(samples: np.ndarray) -> Iterator[np.ndarray]:
    """At most ten seconds each, finite and within [-1, 1]: a decoder may give anything."""
    for start in range(0, len(samples), 10 * RATE):
        part = np.nan_to_num(samples[start : start + 10 * RATE], posinf=1, neginf=-1)
        yield part.clip(-1, 1)


def _quietest(samples: np.ndarray, earliest: int) -> int:
    """Where to cut: the middle of the quietest 20 ms after ``earliest``."""
    if earliest >= len(samples):
        return len(samples)
    step = int(loudness(samples[earliest:])[:-1].argmin()) if len(samples) - earliest > _STEP else 0
    return earliest + step * _STEP + _STEP // 2
