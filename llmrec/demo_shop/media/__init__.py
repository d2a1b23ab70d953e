"""The demo shop seen and heard: pictures, videos and speech of its items, with the truth known.

Everything comes from the items' attributes and the shop's seed. The reader's way:
``geometry``, ``clothing`` and ``home`` (silhouettes), ``textures`` (colours and patterns),
``pictures``, ``videos``, ``wording``, ``speech``. Needs ``llmrec[demo]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llmrec.errors import require
from llmrec.types import Item

FILMED = SPOKEN = 1 / 3  # shares of the items that have a video, a spoken description
HELD_OUT_SHARE, MOST_HELD_OUT = 0.2, 500
_PLAN, _PICTURE, _VIDEO, _SPEECH, _QUESTIONS, _ASKED = range(101, 107)  # streams of random numbers


@dataclass(frozen=True)
class Plan:
    """Which items get what; all bool ``[items]``.

    Attributes:
        filmed: has a video.
        spoken: has a spoken description.
        held_out: kept for tests: a fifth of the items, 500 at most.
    """

    filmed: np.ndarray
    spoken: np.ndarray
    held_out: np.ndarray


def make_plan(seed: int, n_items: int) -> Plan:
    """Three draws that know nothing of each other, or of the items."""
    rng = np.random.default_rng([seed, _PLAN])

    def draw(count: int) -> np.ndarray:
        return rng.permutation(n_items) < count

    held_out = min(int(n_items * HELD_OUT_SHARE), MOST_HELD_OUT)
    return Plan(draw(round(n_items * FILMED)), draw(round(n_items * SPOKEN)), draw(held_out))


def write_media(
    items: Sequence[Item], seed: int, folder: Path, views: int = 1
) -> tuple[list[Item], dict[str, int]]:
    """Write pictures, videos, speech, spoken questions and ``media_truth.jsonl``.

    Args:
        items: of a demo shop.
        seed: the shop's.
        folder: of the shop; paths are relative to it.
        views: pictures of each item; ``ID.jpg`` is its own, ``ID-2.jpg`` the next.

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
    seen, truth = [], []
    for row, item in enumerate(tqdm(items, "media", unit="item", disable=None)):
        item, transcript = _write_item(item, row, seed, plan, folder)
        _write_views(item, row, seed, folder, views)
        seen.append(item)
        split = "held_out" if plan.held_out[row] else "train"
        truth.append(_truth_row(item, transcript, split))
    _write_lines(folder / "media_truth.jsonl", truth)
    questions = _write_questions(items, seed, folder)
    counts = {
        "pictures": views * len(items),
        "videos": int(plan.filmed.sum()),
        "spoken": int(plan.spoken.sum()),
        "queries": questions,
        "held_out": int(plan.held_out.sum()),
    }
    return seen, counts


def _write_item(
    item: Item, row: int, seed: int, plan: Plan, folder: Path
) -> tuple[Item, str | None]:
    """The item with the paths of its files, and what its audio says."""
    from llmrec.demo_shop.media.pictures import make_picture
    from llmrec.demo_shop.media.speech import random_voice, speak, write_wav
    from llmrec.demo_shop.media.videos import make_frames, write_video
    from llmrec.demo_shop.media.wording import describe_aloud

    def stream(kind: int) -> np.random.Generator:
        return np.random.default_rng([seed, kind, row])

    image, video, audio, text = f"images/{item.item_id}.jpg", None, None, None
    picture = make_picture(item.attributes, stream(_PICTURE))
    picture.save(folder / image, quality=90, subsampling=0)
    if plan.filmed[row]:
        video = f"videos/{item.item_id}.mp4"
        write_video(folder / video, make_frames(item.attributes, stream(_VIDEO)))
    if plan.spoken[row]:
        audio, rng = f"audio/{item.item_id}.wav", stream(_SPEECH)
        text = describe_aloud(item, rng)
        write_wav(folder / audio, speak(text, random_voice(rng)))
    return replace(item, image=image, video=video, audio=audio), text


def _write_views(item: Item, row: int, seed: int, folder: Path, views: int) -> None:
    """Further pictures of an item, none of which changes the first."""
    from llmrec.demo_shop.media.pictures import make_picture

    for view in range(2, views + 1):
        picture = make_picture(item.attributes, np.random.default_rng([seed, _PICTURE, row, view]))
        path = folder / "images" / f"{item.item_id}-{view}.jpg"
        picture.save(path, quality=90, subsampling=0)


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


def _write_questions(items: Sequence[Item], seed: int, folder: Path) -> int:
    """``queries/``: one WAV a question and ``queries.jsonl``; how many there are."""
    from llmrec.demo_shop.media.speech import random_voice, speak, write_wav
    from llmrec.demo_shop.media.wording import make_questions

    questions = list(make_questions(items, np.random.default_rng([seed, _QUESTIONS])))
    rows = []
    for number, question in enumerate(questions):
        file = f"q{number + 1:03d}.wav"
        voice = random_voice(np.random.default_rng([seed, _ASKED, number]))
        write_wav(folder / "queries" / file, speak(question.text, voice))
        rows.append({"file": file, **question.__dict__})
    _write_lines(folder / "queries" / "queries.jsonl", rows)
    return len(rows)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
