"""A few frames of a video with their times, without ever holding the whole clip.

    clip = sample_frames(Path("mixer.mp4"), 8)
    clip.frames      # uint8 [8, height, width, 3]
    clip.times       # float32 [8], seconds

``even`` frames stand in the middle of equal parts of the time; ``scenes`` are the frames right
after the strongest changes of picture. Long clips are read by seeking, at most some seconds each;
where that fails (no index, broken tail) one pass over what can be decoded does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llmrec.content.media.container import MAX_PIXELS, decoded, opened
from llmrec.content.media.errors import EmptyMediaError, MediaError, TooLargeError
from llmrec.errors import require

Choice = Literal["even", "scenes"]

_SEEK_SECONDS = 60.0  # clips longer than this are read by seeking
_SEEK_FRAMES = 600  # decoded after one seek before its place is given up: key frames far apart
_CUT_GAP = 0.5  # seconds between two changes of scene
_CUT_LEVEL = 12.0  # mean change of brightness (of 255) that counts as one


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one video.

    Attributes:
        frames: uint8 ``[n, height, width, 3]``, RGB, upright.
        times: float32 ``[n]``, seconds from the beginning, increasing.
    """

    frames: np.ndarray
    times: np.ndarray


def sample_frames(
    source: Path | bytes,
    n: int,
    *,
    choice: Choice = "even",
    side: int = 256,
    max_pixels: int = MAX_PIXELS,
) -> Clip:
    """Decode at most ``n`` frames.

    Args:
        source: a file or its bytes.
        n: frames wanted; a clip with fewer gives what it has.
        choice: which frames: ``even`` in time, or the beginnings of ``scenes``, filled up
            with even ones.
        side: the shorter side of a frame is scaled down to this many pixels.
        max_pixels: width times height above which a video is refused.

    Raises:
        UndecodableError: if it is no video, or not one frame can be decoded.
        EmptyMediaError: if it has no picture track, or an empty one.
        TooLargeError: if its frames have more than ``max_pixels`` pixels.
    """
    seconds = _checked_seconds(source, max_pixels)
    found: list[_Frame] = []
    if choice == "even" and seconds > _SEEK_SECONDS:
        found = _by_seeking(source, n, side, max_pixels, seconds)
    if len(found) < n:
        found = max(found, _in_one_pass(source, n, choice, side, max_pixels, seconds), key=len)
    found.sort(key=lambda frame: frame.time)
    shape = found[0].pixels.shape
    same = [frame for frame in found if frame.pixels.shape == shape]  # a stream may change size
    times = np.array([frame.time for frame in same], np.float32)
    return Clip(np.stack([frame.pixels for frame in same]), times)


@dataclass(frozen=True, eq=False)
class _Frame:
    time: float
    pixels: np.ndarray


@dataclass
class _Evenly:
    """Keeps frames about equally far apart in time, never more than eight times ``n``."""

    n: int
    kept: list[_Frame] = field(default_factory=list)
    gap: float = 0.0
    last: float = -np.inf

    def wants(self, time: float) -> bool:
        return time >= self.last + self.gap

    def add(self, frame: _Frame) -> None:
        self.kept.append(frame)
        self.last = frame.time
        if len(self.kept) > 8 * self.n:
            self.gap = (self.kept[-1].time - self.kept[0].time) / (4 * self.n)
            thinned, self.last = [], -np.inf
            for one in self.kept:
                if self.wants(one.time):
                    thinned.append(one)
                    self.last = one.time
            self.kept = thinned

    def chosen(self) -> list[_Frame]:
        """At most ``n``: for the middle of each of ``n`` equal parts, the nearest frame."""
        if len(self.kept) <= self.n:
            return self.kept
        times = np.array([frame.time for frame in self.kept])
        targets = _middles(times[0], times[-1], self.n)
        rows = {int(np.abs(times - target).argmin()) for target in targets}
        return [self.kept[row] for row in sorted(rows)]


@dataclass
class _Scenes:
    """Keeps the frames after the strongest changes of picture, at most ``n``."""

    n: int
    cuts: list[tuple[float, _Frame]] = field(default_factory=list)
    before: np.ndarray | None = None

    def strength(self, small: np.ndarray) -> float:
        """Mean change of brightness since the last frame; the first frame is a change."""
        before, self.before = self.before, small
        return np.inf if before is None else float(np.abs(small - before).mean())

    def wants(self, strength: float, time: float) -> bool:
        if strength < _CUT_LEVEL:
            return False
        near = [cut for cut, frame in self.cuts if time - frame.time < _CUT_GAP]
        if near:
            return strength > max(near)
        return len(self.cuts) < self.n or strength > min(cut for cut, _ in self.cuts)

    def add(self, strength: float, frame: _Frame) -> None:
        far = [(s, kept) for s, kept in self.cuts if frame.time - kept.time >= _CUT_GAP]
        self.cuts = sorted([*far, (strength, frame)], key=lambda cut: -cut[0])[: self.n]


def _middles(start: float, end: float, n: int) -> np.ndarray:
    return start + (np.arange(n) + 0.5) / n * (end - start)


def _in_one_pass(
    source: Path | bytes, n: int, choice: Choice, side: int, max_pixels: int, seconds: float
) -> list[_Frame]:
    even, scenes = _Evenly(n), _Scenes(n)
    with opened(source, max_pixels) as container:
        stream = _picture_track(container)
        if seconds > _SEEK_SECONDS:  # key frames are all that a long clip needs
            stream.codec_context.skip_frame = "NONKEY"
        for frame, time in _timed(decoded(container, stream), stream):
            _check_pixels(frame.width, frame.height, max_pixels)
            strength = scenes.strength(_small(frame)) if choice == "scenes" else 0.0
            cut = choice == "scenes" and scenes.wants(strength, time)
            if cut or even.wants(time):
                kept = _Frame(time, _pixels(frame, side))
                if cut:
                    scenes.add(strength, kept)
                if even.wants(time):
                    even.add(kept)
    chosen = [frame for _, frame in scenes.cuts]
    taken = {frame.time for frame in chosen}
    rest = [frame for frame in even.chosen() if frame.time not in taken]
    return (chosen + rest)[:n]


def _by_seeking(
    source: Path | bytes, n: int, side: int, max_pixels: int, seconds: float
) -> list[_Frame]:
    """The frames at ``n`` even times; those that cannot be reached are missing."""
    found: dict[float, _Frame] = {}
    for target in _middles(0.0, seconds, n):
        try:
            with opened(source, max_pixels) as container:
                stream = _picture_track(container)
                frame = _frame_at(container, stream, float(target), side)
        except (MediaError, require("av", "media").FFmpegError):
            continue
        if frame is not None:
            found[frame.time] = frame
    return list(found.values())


def _frame_at(container: Any, stream: Any, target: float, side: int) -> _Frame | None:
    start = stream.start_time or 0
    container.seek(start + int(target / stream.time_base), stream=stream, backward=True)
    for number, (frame, time) in enumerate(_timed(decoded(container, stream), stream)):
        if time >= target:
            return _Frame(time, _pixels(frame, side))
        if number >= _SEEK_FRAMES:
            break
    return None


def _checked_seconds(source: Path | bytes, max_pixels: int) -> float:
    """The length that the file states, 0 when it does not."""
    with opened(source, max_pixels) as container:
        stream = _picture_track(container)
        _check_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels)
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return (container.duration or 0) / 1e6


def _picture_track(container: Any) -> Any:
    """The first track of moving pictures; the cover of a song is none."""
    for stream in container.streams.video:
        if not stream.disposition & type(stream.disposition).attached_pic:
            stream.codec_context.thread_count = 1  # more threads hold more frames
            return stream
    raise EmptyMediaError("no picture track")


def _timed(frames: Iterator[Any], stream: Any) -> Iterator[tuple[Any, float]]:
    """Frames with seconds from the beginning, by counting where the file gives no times."""
    rate = float(stream.average_rate or 25)
    origin = float((stream.start_time or 0) * (stream.time_base or 0))
    last = -1 / rate
    for frame in frames:
        time = last + 1 / rate if frame.time is None else max(0.0, frame.time - origin)
        last = time
        yield frame, time


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooLargeError(f"{width} x {height} pixels a frame, at most {max_pixels:,} are read")


def _small(frame: Any) -> np.ndarray:
    """float32 ``[18, 32]``, brightness."""
    gray = frame.reformat(32, 18, "gray", interpolation="AREA")
    return np.asarray(gray.to_ndarray(), np.float32)


def _pixels(frame: Any, side: int) -> np.ndarray:
    """uint8 ``[height, width, 3]``, scaled down and upright."""
    scale = min(1.0, side / min(frame.width, frame.height))
    width, height = (max(1, round(size * scale)) for size in (frame.width, frame.height))
    rgb = frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90) % 4))
