"""An example's picture, video and words, opened, varied and brought into the model's form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.captions.asking import Seen
from llmrec.captions.inputs import sees_video, shown
from llmrec.captions.training.examples import Corpus, Example
from llmrec.captions.training.settings import Vary
from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.content.media.video import Clip, sample_frames
from llmrec.errors import require

if TYPE_CHECKING:
    from PIL.Image import Image


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


def drawn_view(vary: Vary, rng: np.random.Generator) -> View:
    """A part of a picture at random."""
    flip, left, top, cut = rng.random(4)
    return View(bool(flip < vary.flip), float(left), float(top), 1 - vary.crop * float(cut))


@dataclass
class Opener:
    """Opens what an example shows.

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

    def open(self, example: Example) -> Seen | None:
        """What the model is shown.

        A file that cannot be used is noted; if nothing else was to be shown, the item's words
        are, and None is given where it has none.
        """
        view = View()
        if example.number is not None:
            rng = np.random.default_rng(example.number)
            view = drawn_view(self.corpus.config.vary, rng)
        picture = self._picture(example, view)
        clip = None
        if picture is None or sees_video(self.processor):  # a model for pictures takes one alone
            clip = self._clip(example, view)
        row = example.row
        said = self.corpus.transcript(row) if "speech" in example.sources else ""
        seen = Seen(picture, clip, said, self.corpus.text(row, example.sources))
        if seen.empty:
            seen = Seen(text=self.corpus.text(row, self.corpus.config.sources))
        return None if seen.empty else shown(self.processor, seen)

    def _picture(self, example: Example, view: View) -> Image | None:
        if "image" not in example.sources:
            return None
        try:
            found = self.source.read(self.corpus.items[example.row].image)
            return view.of_image(decode_image(found, max_pixels=self.corpus.config.max_pixels))
        except MediaError as error:
            self.skipped[example.row, "image"] = str(error)
            return None

    def _clip(self, example: Example, view: View) -> Clip | None:
        if "video" not in example.sources:
            return None
        c = self.corpus.config
        try:
            found = self.source.read(self.corpus.items[example.row].video)
            clip = sample_frames(found, c.frames, choice=c.frame_choice, max_pixels=c.max_pixels)
            return view.of_clip(clip)
        except MediaError as error:
            self.skipped[example.row, "video"] = str(error)
            return None
