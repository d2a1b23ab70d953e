"""Media of the demo shop: pictures, videos and speech of its items, with ground truth.

Everything comes from the items' attributes and the shop's seed. The reader's way:
``geometry``, ``clothing`` and ``home`` (silhouettes), ``textures`` (colours and patterns),
``pictures``, ``videos``, ``wording``, ``speech``. Needs ``llmrec[demo]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import require
from llmrec.jsonl import write_jsonl
from llmrec.loop.bars import ProgressBar
from llmrec.types import Item

FILMED = SPOKEN = 1 / 3  # shares of the items that have a video, a spoken description
HELD_OUT_SHARE, MOST_HELD_OUT = 0.2, 500
# Streams of random numbers.
_PLAN, _PICTURE, _VIDEO, _SPEECH, _QUERIES, _QUERY_VOICES = range(101, 107)


@dataclass(frozen=True)
class MediaPlan:
    """Which items get what; all bool ``[items]``.

    Attributes:
        filmed: has a video.
        spoken: has a spoken description.
        held_out: kept for tests: a fifth of the items, 500 at most.
    """

    filmed: np.ndarray
    spoken: np.ndarray
    held_out: np.ndarray


def make_plan(seed: int, n_items: int) -> MediaPlan:
    """Three independent draws."""
    rng = np.random.default_rng([seed, _PLAN])

    def draw(count: int) -> np.ndarray:
        return rng.permutation(n_items) < count

    held_out = min(int(n_items * HELD_OUT_SHARE), MOST_HELD_OUT)
    return MediaPlan(draw(round(n_items * FILMED)), draw(round(n_items * SPOKEN)), draw(held_out))


def write_media(
    items: Sequence[Item], seed: int, folder: Path, views: int = 1, *, films: bool = True
) -> tuple[list[Item], dict[str, int]]:
    """Write pictures, videos, speech, spoken queries and ``media_truth.jsonl``.

    Args:
        items: of a demo shop.
        seed: the shop's.
        folder: of the shop; paths are relative to it.
        views: pictures of each item; ``ID.jpg`` is its own, ``ID-2.jpg`` the next.
        films: whether some items have videos and spoken descriptions.

    Returns:
        The items with their paths, and how much was written of what.

    Raises:
        MissingExtraError: if Pillow, PyAV or espeakng-loader is not installed.
    """
    for module in ("PIL", "av", "espeakng_loader"):
        require(module, "demo")
    for name in ("images", "videos", "audio", "queries"):
        (folder / name).mkdir()
    plan = make_plan(seed, len(items))
    if not films:
        none = np.zeros(len(items), bool)
        plan = replace(plan, filmed=none, spoken=none)
    written, truth = [], []
    for row, item in enumerate(ProgressBar(items, "media", unit="item")):
        item, transcript = _write_item(item, row, seed, plan, folder, views)
        written.append(item)
        split = "held_out" if plan.held_out[row] else "train"
        truth.append(_truth_row(item, transcript, split))
    write_jsonl(folder / "media_truth.jsonl", truth)
    queries = _write_queries(items, seed, folder)
    counts = {
        "pictures": views * len(items),
        "videos": int(plan.filmed.sum()),
        "spoken": int(plan.spoken.sum()),
        "queries": queries,
        "held_out": int(plan.held_out.sum()),
    }
    return written, counts


def _write_item(
    item: Item, row: int, seed: int, plan: MediaPlan, folder: Path, views: int
) -> tuple[Item, str | None]:
    """The item with the paths of its files, and the transcript of its audio."""
    from llmrec.demo_shop.media.pictures import make_picture
    from llmrec.demo_shop.media.speech import random_voice, speak, write_wav
    from llmrec.demo_shop.media.videos import make_frames, write_video
    from llmrec.demo_shop.media.wording import spoken_description

    def stream(kind: int, *view: int) -> np.random.Generator:
        return np.random.default_rng([seed, kind, row, *view])

    image, video, audio, text = f"images/{item.item_id}.jpg", None, None, None
    paths = [image, *(f"images/{item.item_id}-{view}.jpg" for view in range(2, views + 1))]
    for number, path in enumerate(paths, 1):  # further pictures change nothing about the first
        picture = make_picture(item.attributes, stream(_PICTURE, *([number] if number > 1 else [])))
        picture.save(folder / path, quality=90, subsampling=0)
    if plan.filmed[row]:
        video = f"videos/{item.item_id}.mp4"
        write_video(folder / video, make_frames(item.attributes, stream(_VIDEO)))
    if plan.spoken[row]:
        audio, rng = f"audio/{item.item_id}.wav", stream(_SPEECH)
        text = spoken_description(item, rng)
        write_wav(folder / audio, speak(text, random_voice(rng)))
    return replace(item, image=image, video=video, audio=audio), text


def _truth_row(item: Item, transcript: str | None, split: str) -> dict[str, Any]:
    visible = ("category", "colour", "accent", "pattern", "motion")
    return {
        "item_id": item.item_id,
        "group": item.categories[0],
        **{name: item.attributes[name] for name in visible},
        "transcript": transcript,
        "image": item.image,
        "video": item.video,
        "audio": item.audio,
        "split": split,
    }


def _write_queries(items: Sequence[Item], seed: int, folder: Path) -> int:
    """``queries/``: one WAV a query and ``queries.jsonl``; how many there are."""
    from llmrec.demo_shop.media.speech import random_voice, speak, write_wav
    from llmrec.demo_shop.media.wording import make_voice_queries

    queries = list(make_voice_queries(items, np.random.default_rng([seed, _QUERIES])))
    rows = []
    for number, query in enumerate(queries):
        file = f"q{number + 1:03d}.wav"
        voice = random_voice(np.random.default_rng([seed, _QUERY_VOICES, number]))
        write_wav(folder / "queries" / file, speak(query.text, voice))
        rows.append({"file": file, **query.__dict__})
    write_jsonl(folder / "queries" / "queries.jsonl", rows)
    return len(rows)
