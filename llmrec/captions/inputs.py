"""What a multimodal model is given of one item: the same in training and use, here and in vLLM.

    seen = shown(processor, seen)               # pictures as this model takes them
    prompt = prompt_of(processor, "attributes", seen, schema)
    processor(text=prompt, **media_of(seen), return_tensors="pt")

Pictures and frames are scaled and cut as open_clip does it, before transformers' processor sees
them, which then has nothing to scale. That makes what is served what was trained, to the pixel:
transformers scales tensors where open_clip scales pictures, and cuts an odd border one pixel
elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.captions.asking import Seen, Task, conversation
from llmrec.content.media.video import Clip
from llmrec.content.schema import Schema
from llmrec.errors import require

if TYPE_CHECKING:
    from PIL.Image import Image


def sees_video(processor: Any) -> bool:
    """Whether the model of this processor is one for videos."""
    return hasattr(processor, "video_processor")


def shown(processor: Any, seen: Seen) -> Seen:
    """An item's pictures as the model of this processor takes them.

    A model for pictures takes no videos: of a video it is shown the middle frame when there is no
    picture. A model for videos takes one video, all that vLLM lets it see in a prompt: the picture
    becomes its first frame.

    Returns:
        the same words, without marks that mean something to the model (a title may hold
        ``<image>``); the picture an RGB square of the tower's side, the frames
        uint8 ``[n, side, side, 3]``.
    """
    seen = replace(
        seen, text=_plain(processor, seen.text), transcript=_plain(processor, seen.transcript)
    )
    picture = None if seen.image is None else squared(processor, seen.image)
    frames = [] if seen.video is None else _frames(processor, seen.video)
    if not sees_video(processor):
        if picture is None and frames:
            picture = frames[len(frames) // 2]
        return replace(seen, image=picture, video=None)
    first = [] if picture is None else [picture]
    whole = np.stack([np.asarray(frame) for frame in first + frames]) if first + frames else None
    if whole is None:
        return replace(seen, image=None, video=None)
    times = [] if seen.video is None else list(seen.video.times)
    clip = Clip(whole, np.array([0.0] * len(first) + times, np.float32))
    return replace(seen, image=None, video=clip)


def squared(processor: Any, image: Image) -> Image:
    """A picture scaled and cut to the square that the tower sees, as open_clip does it."""
    functional = require("torchvision.transforms.functional", "media")
    modes = require("torchvision.transforms", "media").InterpolationMode
    settings = processor.image_processor
    size, crop = dict(settings.size), settings.crop_size
    mode = modes.BILINEAR if int(settings.resample) == 2 else modes.BICUBIC
    if size.get("shortest_edge") is None:
        return functional.resize(image, [size["height"], size["width"]], mode)
    scaled = functional.resize(image, size["shortest_edge"], mode)
    return functional.center_crop(scaled, [crop["height"], crop["width"]])


def media_of(seen: Seen) -> dict[str, Any]:
    """Pictures of one prompt as transformers' processors take them, from :func:`shown`."""
    media: dict[str, Any] = {}
    if seen.image is not None:
        media["images"] = [seen.image]
    if seen.video is not None:
        media["videos"] = [seen.video.frames]
    return media


def vllm_media_of(seen: Seen) -> dict[str, Any]:
    """The same as vLLM's ``multi_modal_data``."""
    media: dict[str, Any] = {}
    if seen.image is not None:
        media["image"] = seen.image
    if seen.video is not None:
        media["video"] = seen.video.frames
    return media


def prompt_of(processor: Any, task: Task, seen: Seen, schema: Schema) -> str:
    """The whole prompt as text, one placeholder a picture or video; from :func:`shown`."""
    turns = conversation(task, seen, schema)
    text: str = processor.apply_chat_template(turns, add_generation_prompt=True)
    return text


def starts_itself(processor: Any, prompt: str) -> bool:
    """Whether a prompt already has the start token, so that tokenizing must not add it."""
    start = processor.tokenizer.bos_token
    return bool(start) and prompt.startswith(start)


def _plain(processor: Any, words: str) -> str:
    marks = {*processor.tokenizer.all_special_tokens, processor.image_token}
    marks.add(getattr(processor, "video_token", None) or processor.image_token)
    for mark in marks:
        words = words.replace(mark, " ")
    return words


def _frames(processor: Any, clip: Clip) -> list[Image]:
    image = require("PIL.Image", "media")
    return [squared(processor, image.fromarray(frame)) for frame in clip.frames]
