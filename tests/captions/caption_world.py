"""A shop of ten things in pictures and words, and a multimodal LLaMA with random weights."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from llmrec.captions.asking import TASKS, Seen, question
from llmrec.captions.schema import Field, Schema
from llmrec.models.llava import new_multimodal, save_multimodal
from llmrec.stage import Manifest, writing

COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("item_id", "title", "description", "brand")),
        ("categories", pa.list_(pa.string())),
        ("price", pa.float64()),
        ("attributes", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("image", "video", "audio")),
        ("in_stock", pa.bool_()),
        ("domain", pa.string()),
    ]
)
COLOURS = ("red", "navy", "green", "white", "black", "orange")
FIELDS = {
    "kind": {"values": ["shirt", "shirts", "shirt dress", "mug"]},
    "colour": {"values": list(COLOURS)},
    "odd": {
        "values": ['say "hi"', "Schmuck/Ohrringe", "caf\u00e9", "a", "ab", "\u65e5\u672c \\ x"]
    },
    "number": {"values": [f"value {number}" for number in range(300)]},
}
SCHEMA = Schema({name: Field(**spec) for name, spec in FIELDS.items()})


def write_items(folder: Path, items: list[dict[str, Any]]) -> Path:
    """A catalogue as ``llmrec ingest`` writes it."""
    blank = dict.fromkeys(("title", "description", "brand", "domain"), "")
    base = {**blank, "categories": [], "attributes": [], "in_stock": True, "item_id": ""}
    rows = [{**base, "item_id": f"i{number}", **item} for number, item in enumerate(items)]
    manifest = Manifest("ingest", {"format": "by hand"}, counts={"items": len(rows)})
    with writing(folder, manifest) as run:
        pq.write_table(pa.Table.from_pylist(rows, COLUMNS), run.folder / "items.parquet")
    return folder


def write_shop(folder: Path) -> Path:
    """``dataset`` and ``media``: six pictures, one that is none, words alone, and nothing."""
    media = folder / "media"
    media.mkdir(parents=True)
    items: list[dict[str, Any]] = []
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (30 + number, 40), colour).save(media / f"{colour}.png")
        attributes = [f"colour={colour}", "kind=shirt"]
        items.append({"title": f"{colour} shirt", "image": f"{colour}.png"})
        items[-1]["attributes"] = attributes
    (media / "broken.png").write_bytes(b"no picture at all")
    items.append({"title": "a mug", "image": "broken.png", "price": 3.5})
    items.append({"image": "missing.png"})
    items.append({"title": "only words", "description": "blue wool " * 60})
    items.append({})
    write_items(folder / "dataset", items)
    return folder


def write_schema(path: Path) -> Path:
    """The fields of :data:`SCHEMA` as a YAML file (JSON is YAML)."""
    path.write_text(json.dumps({"fields": FIELDS}), encoding="utf-8")
    return path


def write_model(folder: Path, video: bool = False) -> Path:
    """Random weights, in the layout that transformers and vLLM load."""
    texts = [question(task, Seen(text="red shirt"), SCHEMA) for task in TASKS]
    texts += [json.dumps({"number": value}) for value in SCHEMA.values("number")]
    model, processor = new_multimodal("llava-nano", clip=None, texts=texts * 3, video=video)
    return save_multimodal(model, processor, folder)
