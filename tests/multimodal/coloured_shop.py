"""A shop whose pictures are squares of one colour, some striped: what they show is known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from llmrec.multimodal.settings import Config, Drop, ProjectorStep, SecondStep, Vary
from llmrec.stage import Manifest, writing

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
FIELDS = {"colour": {"values": list(COLOURS)}, "pattern": {"values": ["plain", "striped"]}}
_RGB = {"green": (0, 160, 0)}
_COLUMNS = ("item_id", "title", "description", "brand", "image", "video", "audio", "domain")
ITEMS = pa.schema(
    [(name, pa.string()) for name in _COLUMNS]
    + [("categories", pa.list_(pa.string())), ("attributes", pa.list_(pa.string()))]
    + [("price", pa.float64()), ("in_stock", pa.bool_())]
)


def picture(colour: str, *, striped: bool = False, side: int = 20) -> Image.Image:
    """A square of one colour; every third pair of rows grey in a striped one."""
    image = Image.new("RGB", (side, side), _RGB.get(colour, colour))
    if striped:
        pixels = np.asarray(image).copy()
        pixels[np.arange(side) % 6 < 2] = 128
        image = Image.fromarray(pixels)
    return image


def film(path: Path, colour: str) -> None:
    """A video of some frames of one colour."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(6):
            frame = av.VideoFrame.from_image(picture(colour, side=32))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def write_items(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A dataset folder of these items, as ``llmrec ingest`` writes it."""
    empty = {name: "" for name in ("title", "description", "brand", "domain")}
    filled = [{"item_id": f"i{n}", "in_stock": True, **empty, **row} for n, row in enumerate(rows)]
    with writing(folder, Manifest("ingest", {}, counts={"items": len(rows)})) as run:
        pq.write_table(pa.Table.from_pylist(filled, ITEMS), run.folder / "items.parquet")
    return folder


def write_shop(
    home: Path, n: int = len(COLOURS), *, striped: bool = True, films: bool = False
) -> tuple[Path, Path]:
    """A dataset of ``n`` items and the folder of its media; every second item striped."""
    media = home / "media"
    media.mkdir(parents=True)
    rows = []
    for number in range(n):
        colour, stripes = COLOURS[number % len(COLOURS)], striped and number % 2 == 1
        picture(colour, striped=stripes).save(media / f"{number}.png")
        row = {
            "image": f"{number}.png",
            "title": f"Thing {number}",
            "attributes": [f"colour={colour}", f"pattern={'striped' if stripes else 'plain'}"],
        }
        if films:
            film(media / f"{number}.mp4", colour)
            row["video"] = f"{number}.mp4"
        rows.append(row)
    return write_items(home / "dataset", rows), media


def write_schema(path: Path, fields: dict[str, Any] | None = None) -> Path:
    """A schema file; the colours and patterns of the shop unless others are given."""
    path.write_text(yaml.safe_dump({"fields": fields or FIELDS}))
    return path


def write_clip(folder: Path, layers: Any = 2) -> Path:
    """A random CLIP as open_clip keeps it; with a ResNet for a list of layers."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    vision = {"image_size": 32, "layers": layers, "width": 32, "patch_size": 8, "head_width": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config: dict[str, Any] = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    folder.mkdir()
    save_file(CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    whole = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return folder


def tiny_config(schema: Path, **changes: Any) -> Config:
    """A run of seconds."""
    plain: dict[str, Any] = {
        "base": "llava-nano",
        "schema": str(schema),
        "tasks": {"attributes": 1.0},
        "projector": ProjectorStep(epochs=1),
        "second": SecondStep(epochs=2),
        "drop": Drop(alone=1.0),
        "vary": Vary(flip=0.0, crop=0.0),
        "batch_size": 4,
        "frames": 2,
        "logging_steps": 1,
    }
    return Config(**(plain | changes))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A file of one JSON object a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]
