"""A little shop whose pictures show a colour and a shape, and whose videos an order of colours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from tiny_media import clip

from llmrec.data.catalogue import SCHEMA
from llmrec.stage import Manifest, writing

COLOURS = {"red": (200, 30, 30), "green": (30, 170, 40), "blue": (30, 40, 200)}
SHAPES = ("disc", "bar")


def draw(path: Path, colour: str, shape: str, rng: np.random.Generator) -> None:
    image = Image.new("RGB", (40, 40), tuple(int(v) for v in rng.integers(150, 250, 3)))
    pen, (x, y) = ImageDraw.Draw(image), rng.integers(8, 14, 2).tolist()
    if shape == "disc":
        pen.ellipse((x, y, x + 16, y + 16), fill=COLOURS[colour])
    else:
        pen.rectangle((x, y + 5, x + 18, y + 10), fill=COLOURS[colour])
    image.save(path)


def write_dataset(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A dataset folder of items without a log."""
    with writing(folder, Manifest("ingest", {"format": "by hand"})) as run:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), run.folder / "items.parquet")
    return folder


def picture_shop(folder: Path, n_items: int = 72) -> tuple[Path, Path, Path]:
    """The dataset, the folder of pictures, and the list of items to leave out (a quarter)."""
    rng, media = np.random.default_rng(0), folder / "media"
    media.mkdir(parents=True)
    rows, left_out = [], []
    for n in range(n_items):
        colour, shape = list(COLOURS)[n % 3], SHAPES[n // 3 % 2]
        draw(media / f"{n}.png", colour, shape, rng)
        attributes = [f"colour={colour}", f"category={shape}"]
        row = {"item_id": f"i{n}", "title": f"{colour} {shape}", "image": f"{n}.png"}
        rows.append(row | {"attributes": attributes})
        if n // 6 % 4 == 0:
            left_out.append({"item_id": f"i{n}", "split": "held_out"})
    listed = folder / "left_out.jsonl"
    listed.write_text("".join(json.dumps(row) + "\n" for row in left_out))
    return write_dataset(folder / "dataset", rows), media, listed


def video_shop(folder: Path, n_items: int = 24) -> tuple[Path, Path, Path]:
    """Half of the videos go from red to blue, half from blue to red: their means are alike."""
    media = folder / "media"
    media.mkdir(parents=True)
    rows = []
    for n in range(n_items):
        order = ["red", "blue"] if n % 2 else ["blue", "red"]
        clip(media / f"{n}.mp4", order)
        motion = "cooling" if n % 2 else "warming"
        row = {"item_id": f"i{n}", "title": "lamp", "video": f"{n}.mp4"}
        rows.append(row | {"attributes": [f"motion={motion}"]})
    listed = folder / "left_out.txt"
    listed.write_text("".join(f"i{n}\n" for n in range(0, n_items // 3)))
    return write_dataset(folder / "dataset", rows), media, listed
