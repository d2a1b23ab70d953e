"""From an item of the catalogue to the input of a multimodal model.

    given = prepare_input(processor, given)      # pictures as this model takes them
    prompt = render_prompt(processor, "attributes", given, schema)
    processor(text=prompt, **processor_media(given), return_tensors="pt")

It is the same in training and use, and for transformers and vLLM. Pictures and frames are scaled
and cropped as open_clip does it, before transformers' processor gets them, which then has nothing
to scale. That makes what is served what was trained, to the pixel: transformers scales tensors
where open_clip scales pictures, and cuts an odd border one pixel elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.captions.engine import MultimodalModel, ResponseFormat
from llmrec.captions.prompting import TASKS, ModelInput, catalogue_text
from llmrec.captions.settings import CaptionConfig
from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import FileStamps, MediaSource, prefetched
from llmrec.content.media.video import Clip, sample_frames
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, require
from llmrec.types import Item

if TYPE_CHECKING:
    from PIL.Image import Image


def takes_video(processor: Any) -> bool:
    """Whether the model of this processor is one for videos."""
    return hasattr(processor, "video_processor")


def picture(file: Path | bytes, config: Any) -> Image:
    """A picture of an item, within the settings' limit."""
    return decode_image(file, max_pixels=config.max_pixels)


def clip(file: Path | bytes, config: Any) -> Clip:
    """Frames of a video of an item, as the settings choose them."""
    return sample_frames(
        file, config.frames, choice=config.frame_choice, max_pixels=config.max_pixels
    )


def prepare_input(processor: Any, given: ModelInput) -> ModelInput:
    """An item's pictures as the model of this processor takes them.

    A model for pictures takes no videos: it gets the middle frame when there is no picture. A
    model for videos takes one video, all that vLLM allows in a prompt: the picture becomes its
    first frame.

    Returns:
        the same words, without special tokens of the model (a title may hold ``<image>``); the
        picture an RGB square of the tower's side, the frames uint8 ``[n, side, side, 3]``.
    """
    given = replace(
        given,
        text=_without_special(processor, given.text),
        transcript=_without_special(processor, given.transcript),
    )
    image = None if given.image is None else to_square(processor, given.image)
    frames = []
    if given.video is not None:
        from_array = require("PIL.Image", "media").fromarray
        frames = [to_square(processor, from_array(frame)) for frame in given.video.frames]
    if not takes_video(processor):
        if image is None and frames:
            image = frames[len(frames) // 2]
        return replace(given, image=image, video=None)
    first = [] if image is None else [image]
    if not first + frames:
        return replace(given, image=None, video=None)
    pixels = np.stack([np.asarray(frame) for frame in first + frames])
    times = [] if given.video is None else list(given.video.times)
    video = Clip(pixels, np.array([0.0] * len(first) + times, np.float32))
    return replace(given, image=None, video=video)


def to_square(processor: Any, image: Image) -> Image:
    """A picture scaled and cropped to the tower's square, as open_clip does it."""
    functional = require("torchvision.transforms.functional", "media")
    modes = require("torchvision.transforms", "media").InterpolationMode
    settings = processor.image_processor
    size, crop = dict(settings.size), settings.crop_size
    mode = modes.BILINEAR if int(settings.resample) == 2 else modes.BICUBIC
    if size.get("shortest_edge") is None:
        return functional.resize(image, [size["height"], size["width"]], mode)
    scaled = functional.resize(image, size["shortest_edge"], mode)
    return functional.center_crop(scaled, [crop["height"], crop["width"]])


def processor_media(given: ModelInput) -> dict[str, Any]:
    """Pictures of one prompt as transformers' processors take them, from :func:`prepare_input`."""
    media: dict[str, Any] = {}
    if given.image is not None:
        media["images"] = [given.image]
    if given.video is not None:
        media["videos"] = [given.video.frames]
    return media


def vllm_media(given: ModelInput) -> dict[str, Any]:
    """The same as vLLM's ``multi_modal_data``."""
    return {name.removesuffix("s"): files[0] for name, files in processor_media(given).items()}


def _without_special(processor: Any, words: str) -> str:
    marks = {*processor.tokenizer.all_special_tokens, processor.image_token}
    marks.add(getattr(processor, "video_token", None) or processor.image_token)
    for mark in marks:
        words = words.replace(mark, " ")
    return words


@dataclass(frozen=True)
class LoadedItem:
    """One item as the model takes it.

    Attributes:
        item_id: the shop's own.
        given: the model's input.
        skipped: field and reason of each file that could not be used.
    """

    item_id: str
    given: ModelInput
    skipped: list[tuple[str, str]]


@dataclass(frozen=True)
class ItemLoader:
    """Fetches and decodes items.

    Attributes:
        config: which inputs, and within which limits.
        source: where files come from.
        transcripts: of recordings, by item id.
        model: that gets the inputs.
        formats: of its responses.
    """

    config: CaptionConfig
    source: MediaSource
    transcripts: Mapping[str, str]
    model: MultimodalModel
    formats: ResponseFormat

    def load(self, items: Iterable[Item]) -> Iterator[LoadedItem]:
        """The items in order, decoded by threads at most some ahead of the reader."""
        for one in prefetched(self._load, items, self.config.workers):
            assert not isinstance(one, MediaError)  # each file's is kept with the item
            # a tokenizer is not for several threads
            yield replace(one, given=self._fitted(one.given, one.skipped))

    def _load(self, item: Item) -> LoadedItem:
        skipped: list[tuple[str, str]] = []
        found: dict[str, Any] = {}
        for field, decode in (("image", picture), ("video", clip)):
            value = getattr(item, field)
            if value and self.config.wants(field):
                try:
                    found[field] = decode(self.source.read(value), self.config)
                except MediaError as error:
                    skipped.append((field, str(error)))
        transcript = self.transcripts.get(item.item_id, "")
        text = catalogue_text(item, self.config.sources)
        given = ModelInput(transcript=transcript, text=text, **found)
        return LoadedItem(item.item_id, prepare_input(self.model.processor, given), skipped)

    def _fitted(self, given: ModelInput, skipped: list[tuple[str, str]]) -> ModelInput:
        """Without the transcript, then without the text, if the prompt is longer than the context.

        Raises:
            ConfigError: if the pictures alone are too many.
        """
        reason = f"more words than fit the {self.model.context} tokens that the model reads"
        if not self._fits(given) and given.transcript:
            given = replace(given, transcript="")
            skipped.append(("audio", reason))
        if not self._fits(given) and given.text:
            given = replace(given, text="")
            skipped.append(("text", reason))
        if not self._fits(given):
            raise ConfigError(
                f"frames: pictures and responses take more than the {self.model.context} tokens "
                f"that {self.model.base} reads; use fewer --frames or fewer --enhance-tokens"
            )
        return given

    def _fits(self, given: ModelInput) -> bool:
        return all(
            self.model.fits(
                self.model.prompt(task, given, self.formats.schema),
                given,
                self.formats.max_tokens(task),
            )
            for task in TASKS
        )


def stamp_inputs(dataset: Dataset, sources: Iterable[str], root: Path | None) -> str:
    """What stands for the contents of the pictures and videos among some sources.

    Raises:
        ConfigError: if files are named and no folder of media was given.
    """
    stamps = FileStamps(root)
    for field in ("image", "video"):
        if field in sources and field in dataset.items.column_names:
            for value in dataset.items[field].to_pylist():
                stamps.add(field, value)
    return stamps.hexdigest()
