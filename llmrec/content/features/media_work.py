"""One shard of a catalogue's media to vectors: what ``llmrec embed media`` does inside.

Files are fetched and decoded by threads some steps ahead of the model, in order and bounded, so
that neither waits for the other and memory does not grow with the catalogue. A file that cannot be
used is noted with its reason and leaves a zero row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from llmrec.content.features.media_config import EmbedMediaConfig
from llmrec.content.media.audio import Window, windows
from llmrec.content.media.errors import EmptyMediaError, MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.content.media.video import sample_frames

if TYPE_CHECKING:
    from llmrec.content.features.image_encoder import ImageEncoder
    from llmrec.content.features.speech_encoder import SpeechEncoder, Transcript
    from llmrec.content.features.video_encoder import VideoEncoder

_WINDOW_COST = 8  # a window of speech takes the memory of so many pictures, or more

T = TypeVar("T")
Encode = Callable[[list[Any]], np.ndarray]
OnFile = Callable[[int], object]


@dataclass
class ShardBlock:
    """One modality of one shard.

    Attributes:
        vectors: float32 ``[items, dim]``, zero rows where there is nothing.
        present: uint8 ``[items]``.
        skipped: row in the shard and reason of each file that could not be used.
        transcripts: row in the shard and what was said there.
    """

    vectors: np.ndarray
    present: np.ndarray
    skipped: list[tuple[int, str]] = field(default_factory=list)
    transcripts: list[tuple[int, Transcript]] = field(default_factory=list)


@dataclass
class Encoders:
    """The models of a run, each loaded when it is first needed.

    Attributes:
        config: settings of the stage.
        source: where files come from.
    """

    config: EmbedMediaConfig
    source: MediaSource

    @cached_property
    def image(self) -> ImageEncoder:
        from llmrec.content.features.image_encoder import ImageEncoder

        c = self.config
        return ImageEncoder(c.image_model, device=c.device, precision=c.precision)

    @cached_property
    def video(self) -> VideoEncoder:
        from llmrec.content.features.video_encoder import VideoEncoder

        return VideoEncoder(self.image, self.config.temporal)

    @cached_property
    def speech(self) -> SpeechEncoder:
        from llmrec.content.features.speech_encoder import SpeechEncoder

        c = self.config
        return SpeechEncoder(c.speech_model, device=c.device, precision=c.precision)

    def block(self, modality: str, values: Sequence[Any], on_file: OnFile) -> ShardBlock:
        """Embed one column of a shard.

        Args:
            modality: ``image``, ``video`` or ``speech``.
            values: the column, None where an item has no file.
            on_file: called with the number of files done.
        """
        rows = [row for row, value in enumerate(values) if value is not None]
        files = [values[row] for row in rows]
        if modality == "speech":
            return self._speech(len(values), rows, files, on_file)
        if modality == "image":
            return self._batched(
                len(values), rows, files, self._picture, self._pictures, self.image.dim, on_file
            )
        return self._batched(
            len(values),
            rows,
            files,
            self.prepare_clip,
            self.video.encode_prepared,
            self.video.dim,
            on_file,
            # a clip is a batch of frames by itself
            max(1, self.config.batch_size // self.config.frames),
        )

    def _picture(self, value: Any) -> Any:
        image = decode_image(self.source.read(value), max_pixels=self.config.max_pixels)
        return self.image.prepare(image)

    def _pictures(self, prepared: list[Any]) -> np.ndarray:
        import torch

        return self.image.encode_prepared(torch.stack(prepared))

    def prepare_clip(self, value: Any) -> Any:
        """What the video encoder reads of one file.

        Raises:
            MediaError: if it cannot be had or decoded, or is larger than allowed.
        """
        c = self.config
        clip = sample_frames(
            self.source.read(value),
            c.frames,
            choice=c.frame_choice,
            side=self.image.side,
            max_pixels=c.max_pixels,
        )
        return self.video.prepare(clip)

    def _batched(
        self,
        n_items: int,
        rows: list[int],
        files: list[Any],
        prepare: Callable[[Any], Any],
        encode: Encode,
        dim: int,
        on_file: OnFile,
        batch_size: int | None = None,
    ) -> ShardBlock:
        """Prepare files in threads, and encode them in batches as they come."""
        block = _empty(n_items, dim)
        waiting: list[tuple[int, Any]] = []

        def flush() -> None:
            if waiting:
                block.vectors[[row for row, _ in waiting]] = encode([made for _, made in waiting])
                block.present[[row for row, _ in waiting]] = 1
                on_file(len(waiting))
                waiting.clear()

        ahead = prefetched(prepare, files, self.config.workers)
        for row, made in zip(rows, ahead, strict=True):
            if isinstance(made, MediaError):
                block.skipped.append((row, str(made)))
                on_file(1)
                continue
            waiting.append((row, made))
            if len(waiting) == (batch_size or self.config.batch_size):
                flush()
        flush()
        return block

    def _speech(
        self, n_items: int, rows: list[int], files: list[Any], on_file: OnFile
    ) -> ShardBlock:
        """Decode window by window: a recording of hours is never held whole."""
        block = _empty(n_items, self.speech.dim)
        waiting: list[tuple[int, Any]] = []
        given_up: list[int] = []

        def flush() -> None:
            if waiting:
                sums = self.speech.sums([made for _, made in waiting])
                for (row, _), total in zip(waiting, sums, strict=True):
                    block.vectors[row] += total
                    block.present[row] = 1
                waiting.clear()

        def heard(row: int, recording: Iterable[Window]) -> Iterator[Window]:
            loud = 0
            for window in recording:
                if window.silent:
                    continue
                loud += 1
                waiting.append((row, self.speech.prepare(window)))
                if len(waiting) >= max(1, self.config.batch_size // _WINDOW_COST):
                    flush()
                yield window
            if not loud:
                raise EmptyMediaError("silent from beginning to end")

        for row, found in zip(
            rows, prefetched(self.source.read, files, self.config.workers), strict=True
        ):
            try:
                if isinstance(found, MediaError):
                    raise found
                recording = heard(row, windows(found, max_seconds=self.config.audio_seconds))
                if self.config.transcribe:
                    said = self.speech.transcribe(recording, language=self.config.language)
                    block.transcripts.append((row, said))
                else:
                    deque(recording, maxlen=0)
            except MediaError as error:
                waiting[:] = [entry for entry in waiting if entry[0] != row]
                given_up.append(row)
                block.skipped.append((row, str(error)))
            on_file(1)
        flush()
        block.vectors[given_up] = 0
        block.present[given_up] = 0
        block.vectors = _unit(block.vectors)
        return block


def prefetched(
    function: Callable[[Any], T], values: Iterable[Any], workers: int
) -> Iterator[T | MediaError]:
    """``function`` of each value, in order, at most twice ``workers`` ahead of the reader.

    A :class:`MediaError` is given in the place of its result; any other error is raised.

    >>> list(prefetched(str.upper, ["a", "b"], 2))
    ['A', 'B']
    """

    def attempt(value: Any) -> T | MediaError:
        try:
            return function(value)
        except MediaError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="media")
    ahead: deque[Future[T | MediaError]] = deque()
    try:
        for value in values:
            ahead.append(pool.submit(attempt, value))
            if len(ahead) >= 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _empty(n_items: int, dim: int) -> ShardBlock:
    return ShardBlock(np.zeros((n_items, dim), np.float32), np.zeros(n_items, np.uint8))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(norms > 0, norms, 1)
    return unit
