"""Examples with their files decoded and augmented, in batches some steps ahead of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from llmrec.captions.inputs import clip, picture, prepare_input, takes_video
from llmrec.captions.prompting import ModelInput
from llmrec.captions.training.batches import Batch, Collator, LoadedExample
from llmrec.captions.training.examples import Corpus, Example
from llmrec.captions.training.settings import ViewAugmentation
from llmrec.content.media.errors import MediaError
from llmrec.content.media.source import MediaSource, prefetched
from llmrec.content.media.video import Clip
from llmrec.errors import require

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
_CHUNK = 8  # batches among which examples are sorted by length
_ROUGHLY = 64  # characters: some twenty tokens


@dataclass(frozen=True)
class View:
    """A part of a picture, perhaps mirrored; fractions of its width and height."""

    flip: bool = False
    left: float = 0.0
    top: float = 0.0
    part: float = 1.0

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels; never empty."""
        wide, high = max(1, round(self.part * width)), max(1, round(self.part * height))
        left, top = round(self.left * (width - wide)), round(self.top * (height - high))
        return left, top, left + wide, top + high

    def of_image(self, image: Image) -> Image:
        """This part of a picture."""
        cut = image.crop(self.box(*image.size))
        flipped = require("PIL.Image", "media").Transpose.FLIP_LEFT_RIGHT
        return cut.transpose(flipped) if self.flip else cut

    def of_clip(self, clip: Clip) -> Clip:
        """This part of every frame."""
        left, top, right, bottom = self.box(clip.frames.shape[2], clip.frames.shape[1])
        frames = clip.frames[:, top:bottom, left:right]
        return Clip(np.ascontiguousarray(frames[:, :, ::-1] if self.flip else frames), clip.times)


def draw_view(augmentation: ViewAugmentation, rng: np.random.Generator) -> View:
    """A part of a picture at random."""
    flip, left, top, cut = rng.random(4)
    return View(
        bool(flip < augmentation.flip), float(left), float(top), 1 - augmentation.crop * float(cut)
    )


@dataclass
class ExampleLoader:
    """Fetches and decodes the files of an example.

    Attributes:
        corpus: the items.
        source: where files come from.
        processor: of the model.
        skipped: reason of each file that could not be used, by item index and field.
    """

    corpus: Corpus
    source: MediaSource
    processor: Any
    skipped: dict[tuple[int, str], str] = field(default_factory=dict)

    def load(self, example: Example) -> LoadedExample | None:
        """An example with its input; None where nothing of the item can be used.

        A file that cannot be used is noted; if there is no other source, the item's text is.
        """
        view = View()
        if example.number is not None:
            rng = np.random.default_rng(example.number)
            view = draw_view(self.corpus.config.augmentation, rng)
        image = self._decoded(example, "image", picture, view.of_image)
        video = None
        if image is None or takes_video(self.processor):  # a model for pictures takes one alone
            video = self._decoded(example, "video", clip, view.of_clip)
        row = example.row
        transcript = self.corpus.transcript(row) if "speech" in example.sources else ""
        given = ModelInput(image, video, transcript, self.corpus.text(row, example.sources))
        if given.empty:
            given = ModelInput(text=self.corpus.text(row, self.corpus.config.sources))
        if given.empty:
            return None
        target = self.corpus.targets[row][example.task]
        return LoadedExample(prepare_input(self.processor, given), example.task, target)

    def _decoded(
        self, example: Example, field: str, decode: Callable[..., T], cut: Callable[[T], T]
    ) -> T | None:
        if field not in example.sources:
            return None
        try:
            file = self.source.read(getattr(self.corpus.items[example.row], field))
            return cut(decode(file, self.corpus.config))
        except MediaError as error:
            self.skipped[example.row, field] = str(error)
            return None


@dataclass(frozen=True)
class BatchLoader:
    """The examples of a corpus in batches.

    Attributes:
        corpus: the items.
        examples: loads each.
        collator: makes tensors of them.
    """

    corpus: Corpus
    examples: ExampleLoader
    collator: Collator

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return math.ceil(len(self.corpus.train) / self.corpus.config.batch_size)

    def groups(self, epoch: int) -> list[list[Example]]:
        """The examples of each batch of an epoch."""
        size = self.corpus.config.batch_size
        examples = self.corpus.epoch(epoch)
        if not self.corpus.config.sort:
            return [examples[at : at + size] for at in range(0, len(examples), size)]
        rng = np.random.default_rng([self.corpus.seed, epoch, 0])
        found: list[list[Example]] = []
        for at in range(0, len(examples), _CHUNK * size):
            chunk = sorted(examples[at : at + _CHUNK * size], key=self._length)
            cut = [chunk[start : start + size] for start in range(0, len(chunk), size)]
            found.extend(cut[int(place)] for place in rng.permutation(len(cut)))
        return found

    def load(self, groups: Sequence[Sequence[Example]]) -> Iterator[list[Batch]]:
        """The forward passes of each group, in order; none where nothing could be used."""
        for one in prefetched(self._load, groups, self.corpus.config.workers):
            assert not isinstance(one, MediaError)  # the example loader has noted these
            yield one

    def _load(self, group: Sequence[Example]) -> list[Batch]:
        loaded = map(self.examples.load, group)
        return self.collator.batches([one for one in loaded if one is not None])

    def _length(self, example: Example) -> tuple[bool, int]:
        """About how many tokens a prompt has: frames first, then words.

        Responses do not count, and words only roughly: else a batch would hold responses that are
        alike, which is no fair sample to learn from.
        """
        corpus = self.corpus
        words = len(corpus.text(example.row, example.sources))
        if "speech" in example.sources:
            words += len(corpus.transcript(example.row))
        pictured = "image" in example.sources or "video" in example.sources
        return pictured, words // _ROUGHLY
