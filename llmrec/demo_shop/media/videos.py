"""Short clips whose only secret is how the product moves.

Every clip of every motion shows the product on one and the same circle of poses, a full turn
about the upright axis with a slight sway; the clip starts anywhere on it. Any single frame of
any clip is therefore drawn from the same distribution whatever the motion, and so are the
frames of ``turning`` and ``in_use`` as a set; only their order differs:

* ``still``: four views of the circle, each held for a quarter of the clip;
* ``turning``: once around the circle, step by step, in either direction;
* ``in_use``: the same sixteen poses, swung round and back: there by every second, back by the
  others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from llmrec.demo_shop.media.pictures import (
    Pose,
    draw_product,
    place,
    random_backdrop,
    random_light,
    view,
)
from llmrec.errors import require

FRAMES, FRAMES_PER_SECOND, VIDEO_PIXELS = 16, 8, 96
_HELD_VIEWS = 4


def motion_steps(motion: str, rng: np.random.Generator) -> np.ndarray:
    """int ``[FRAMES]``: where on the circle of poses each frame is, in sixteenths of a turn."""
    start = rng.integers(FRAMES)
    if motion == "still":
        views = rng.permutation(_HELD_VIEWS) * (FRAMES // _HELD_VIEWS)
        steps = np.repeat(views, FRAMES // _HELD_VIEWS)
    elif motion == "turning":
        steps = np.arange(FRAMES)
    else:
        steps = np.concatenate([np.arange(0, FRAMES, 2), np.arange(FRAMES - 1, 0, -2)])
    direction = 1 if rng.random() < 0.5 else -1
    return (start + direction * steps) % FRAMES


def make_frames(
    attributes: Mapping[str, str], rng: np.random.Generator, pixels: int = VIDEO_PIXELS
) -> Iterator[Image.Image]:
    """The ``FRAMES`` RGB frames of an item's clip; ``attributes["motion"]`` orders them."""
    product = draw_product(attributes, 2 * pixels, rng)
    backdrop = random_backdrop(attributes["colour"], pixels, rng)
    light = random_light(pixels, rng, 0.18)
    upright, scale, grain = rng.normal(0.0, 0.08), rng.uniform(0.76, 0.92), rng.uniform(1.0, 3.0)
    phase = rng.uniform(0.0, 2 * np.pi / FRAMES)
    for step in motion_steps(attributes["motion"], rng):
        turn = phase + 2 * np.pi * step / FRAMES
        pose = Pose(turn, upright + 0.1 * np.sin(turn), scale, 0.0, 0.02 * np.cos(turn))
        noise = rng.normal(0.0, grain, (pixels, pixels, 1))
        yield place(view(product, pose), backdrop, light * (1 + 0.12 * np.sin(turn)), noise)


def write_video(path: str | Path, frames: Iterator[Image.Image]) -> None:
    """Write an MP4 (H.264); the same frames give the same bytes.

    Raises:
        MissingExtraError: without PyAV.
    """
    av = require("av", "demo")
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = None
        for image in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
                stream.width, stream.height, stream.pix_fmt = image.width, image.height, "yuv420p"
                # One thread: x264 divides the work, and with it the bits, by their number.
                # A fixed quantiser: its rate control gives other bits from run to run.
                stream.options = {"qp": "22", "preset": "veryfast", "threads": "1"}
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        if stream is not None:
            container.mux(stream.encode())
