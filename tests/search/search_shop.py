"""Eight items: six with a picture, one with a video alone, one with nothing to see."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.numpy import save_file
from tiny_media import clip, tiny_clip

from llmrec.features import media
from llmrec.features.image_encoder import weights_hash
from llmrec.features.media_config import Config
from llmrec.stage import Manifest, folder_hash, writing

PICTURED = [f"i{number}" for number in range(6)]
FILMED, UNSEEN = "i6", "i7"
ITEM_IDS = [*PICTURED, FILMED, UNSEEN]
WORDS = ("red", "green", "blue", "", "grey", "pink", "brown", "lost")
TITLES = [f"{word} thing" if word else "" for word in WORDS]


@dataclass(frozen=True)
class Shop:
    """Folders of the stages before the index, and what they were made from."""

    root: Path
    clip: Path
    dataset: Path
    media: Path

    def picture(self, item_id: str) -> Path:
        return self.root / f"{item_id}.png"


def make_shop(folder: Path) -> Shop:
    root = folder / "root"
    root.mkdir()
    rng = np.random.default_rng(0)
    for item_id in PICTURED:
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 40), Image.Resampling.NEAREST).save(
            root / f"{item_id}.png"
        )
    clip(root / f"{FILMED}.mp4", ["brown", "white"])
    files = {item_id: {"image": f"{item_id}.png"} for item_id in PICTURED}
    files[FILMED] = {"video": f"{FILMED}.mp4"}
    model = tiny_clip(folder / "clip")
    dataset = write_dataset(folder / "dataset", ITEM_IDS, TITLES, files)
    config = Config(("image", "video"), image_model=str(model), speech_model="tiny", device="cpu")
    media.run(config, dataset, folder / "media", media_root=root, log=lambda _: None)
    return Shop(root, model, dataset, folder / "media")


def write_dataset(
    folder: Path, item_ids: list[str], titles: list[str], files: Mapping[str, dict[str, str]]
) -> Path:
    rows: list[dict[str, Any]] = [
        {"item_id": item_id, "title": title, **files.get(item_id, {})}
        for item_id, title in zip(item_ids, titles, strict=True)
    ]
    schema = pa.schema([(name, pa.string()) for name in ("item_id", "title", "image", "video")])
    manifest = Manifest("ingest", {"format": "by hand"}, counts={"items": len(rows)})
    with writing(folder, manifest) as run:
        pq.write_table(pa.Table.from_pylist(rows, schema), run.folder / "items.parquet")
    return folder


def write_media(
    folder: Path, dataset: Path, clip: Path, blocks: Mapping[str, np.ndarray], **config: Any
) -> Path:
    """A folder as ``llmrec embed media`` writes it, with vectors chosen by hand."""
    settings = {"image_model": str(clip), "speech_model": "tiny", "temporal": None, **config}
    inputs = {"dataset": folder_hash(dataset), "image_model": weights_hash(str(clip))}
    present = {f"{k}_present": v.any(axis=1).astype(np.uint8) for k, v in blocks.items()}
    with writing(folder, Manifest("embed-media", settings, inputs)) as run:
        save_file({**blocks, **present}, run.folder / media.FEATURES)
    return folder
