"""``llmrec embed``: content vectors of every item, from its text and its attributes.

    llmrec embed --dataset runs/beauty/dataset --out runs/beauty/features --fields title

The folder holds ``embeddings.safetensors``:

* ``text`` float32 ``[n_items, dim]``, unit rows, and a zero row for an item without text;
* ``present`` uint8 ``[n_items]``, 0 where an item has no text;
* ``attributes`` float32 ``[n_items, attribute_dim]``, with ``--attributes``.

Every block has a mean square row length of one (over the items that have it), so that blocks
can be put side by side. Items are embedded in shards; a killed run goes on with the next shard.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from llmrec.config import as_dict, build, load_yaml
from llmrec.content.features.attributes import AttributeEncoder, attribute_tokens
from llmrec.content.features.text_encoder import MINILM, Dtype, TextEncoder, model_hash
from llmrec.errors import ArtifactError, CatalogError
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, run_stage

STAGE = "embed"
EMBEDDINGS = "embeddings.safetensors"
BLOCKS = ("text", "attributes")
FIELDS = ("title", "brand", "categories", "description", "attributes")
SHARD_ITEMS = 2048
# They change how fast the stage runs, not what it writes: a retry with a smaller batch resumes.
_SPEED_SETTINGS = ("device", "batch_size")


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of ``llmrec embed``.

    Attributes:
        model: ``minilm``, a hub id or a folder with a sentence-transformers model.
        fields: which item fields make up the text, in this order.
        description_chars: characters of the description that are used.
        attributes: also write a block from attributes, categories and brand.
        attribute_dim: length of that block's vectors.
        attribute_min_items: an attribute value on fewer items than this is ignored.
        device: auto, cpu, cuda, cuda:1, ...
        dtype: precision of the text model's weights.
        batch_size: texts a forward pass.
    """

    model: str = MINILM
    fields: tuple[str, ...] = ("title", "brand", "categories", "description")
    description_chars: int = 400
    attributes: bool = False
    attribute_dim: int = 96
    attribute_min_items: int = 3
    device: str = "auto"
    dtype: Dtype = "float32"
    batch_size: int = 64

    def __post_init__(self) -> None:
        unknown = [name for name in self.fields if name not in FIELDS]
        if unknown or not self.fields:
            raise ValueError(f"fields: choose from {', '.join(FIELDS)}; got {list(self.fields)}")
        for name in ("description_chars", "attribute_dim", "attribute_min_items", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, got {getattr(self, name)}")


def item_text(row: Mapping[str, Any], fields: Sequence[str], description_chars: int) -> str:
    """The text of one catalogue row; empty fields leave no trace.

    >>> row = {"title": "Red  Polish", "brand": "OPI", "categories": ["Beauty", "Nails"]}
    >>> item_text(row, ["title", "brand", "categories"], 400)
    'Red Polish. brand: OPI. categories: Beauty, Nails'
    """
    parts = []
    for name in fields:
        value = row[name] or ""
        if not isinstance(value, str):
            value = ", ".join(entry.replace("=", " ", 1) for entry in value)
        value = " ".join(value.split())
        if name == "description":
            value = value[:description_chars]
        if value:
            parts.append(value if name in ("title", "description") else f"{name}: {value}")
    return ". ".join(parts)


def load_features(folder: str | Path) -> dict[str, np.ndarray]:
    """Read the blocks of a finished ``embed`` stage, by name.

    Returns:
        ``text``, ``present`` and, where written, ``attributes``; shapes in the module docstring.

    Raises:
        ArtifactError: if the folder is missing, damaged or of another stage.
    """
    read_manifest(folder, STAGE)
    path = Path(folder) / EMBEDDINGS
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run llmrec embed again") from None


def run(config: EmbedConfig, dataset: Path, out: Path, seed: int = 0) -> Path:
    """Embed every item of ``dataset`` into the folder ``out``.

    Raises:
        CatalogError: if the dataset has no items.
        ConfigError, MissingExtraError: if the text model cannot be loaded.
    """
    read_manifest(dataset, "ingest")
    settings = {k: v for k, v in as_dict(config).items() if k not in _SPEED_SETTINGS}
    inputs = {"dataset": folder_hash(dataset), "model": model_hash(config.model)}
    manifest = Manifest(STAGE, settings, inputs, seed=seed)
    catalogue = Path(dataset) / "items.parquet"
    return run_stage(out, manifest, lambda r: _embed(r, config, catalogue, seed), resume=True)


def _embed(run: StageRun, config: EmbedConfig, catalogue: Path, seed: int) -> None:
    n_items = _n_items(catalogue)
    shards = run.folder / "shards"
    shards.mkdir(exist_ok=True)
    text = np.concatenate(_text_shards(shards, config, catalogue, n_items))
    present = text.any(axis=1).astype(np.uint8)
    blocks = {"text": text, "present": present}
    run.counts.update(
        items=n_items, text_dim=text.shape[1], without_text=n_items - int(present.sum())
    )
    if config.attributes:
        columns = ["attributes", "categories", "brand"]
        bags = [attribute_tokens(row) for rows in _rows(catalogue, columns) for row in rows]
        encoder = AttributeEncoder.fit(
            bags, config.attribute_dim, min_items=config.attribute_min_items, seed=seed
        )
        encoder.save(run.folder)
        block = encoder.transform(bags)
        blocks["attributes"] = block
        run.counts.update(
            attribute_values=len(encoder.tokens),
            attribute_dim=block.shape[1],
            without_attributes=n_items - int(block.any(axis=1).sum()),
        )
    save_file(blocks, run.folder / EMBEDDINGS)
    shutil.rmtree(shards)


def _text_shards(
    shards: Path, config: EmbedConfig, catalogue: Path, n_items: int
) -> list[np.ndarray]:
    """Vectors shard by shard; a shard that an earlier try finished is read back."""
    encoder: TextEncoder | None = None
    vectors = []
    done = min(n_items, SHARD_ITEMS * len(list(shards.glob("*.safetensors"))))
    with tqdm(total=n_items, initial=done, unit="item", desc=STAGE) as progress:
        for number, rows in enumerate(_rows(catalogue, list(config.fields))):
            path = shards / f"{number:06d}.safetensors"
            if path.is_file():
                vectors.append(load_file(path)["text"])
                continue
            if encoder is None:  # not loaded at all when every shard is there
                encoder = TextEncoder(
                    config.model,
                    device=config.device,
                    dtype=config.dtype,
                    batch_size=config.batch_size,
                )
            texts = [item_text(row, config.fields, config.description_chars) for row in rows]
            vectors.append(encoder.encode(texts, kind="document", on_batch=progress.update))
            unfinished = path.with_suffix(".tmp")
            save_file({"text": vectors[-1]}, unfinished)
            os.replace(unfinished, path)
    return vectors


def _n_items(catalogue: Path) -> int:
    try:
        count = int(pq.read_metadata(catalogue).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(catalogue, error) from None
    if count == 0:
        raise CatalogError(f"{catalogue}: the catalogue has no items; ingest some first")
    return count


def _rows(catalogue: Path, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Catalogue rows in shards of ``SHARD_ITEMS``, without holding the whole table."""
    pending: list[dict[str, Any]] = []
    try:
        for batch in pq.ParquetFile(catalogue).iter_batches(SHARD_ITEMS, columns=columns):
            pending += batch.to_pylist()
            while len(pending) >= SHARD_ITEMS:
                yield pending[:SHARD_ITEMS]
                pending = pending[SHARD_ITEMS:]
    except pa.ArrowException as error:
        raise _unreadable(catalogue, error) from None
    if pending:
        yield pending


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path}: cannot be read ({error}); run llmrec ingest again")


def embed_text(argv: list[str]) -> tuple[Path, Path]:
    """The part of ``llmrec embed`` that embeds text; the folders of dataset and features."""
    parser = argparse.ArgumentParser(
        prog="llmrec embed",
        description="Content vectors of every item, from text and attributes.",
        epilog="With --clip MODEL, --whisper MODEL and --media-root DIR, also vectors of its "
        "pictures, videos and speech, into media_features beside --out, or --media-out DIR.",
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--config", type=Path, help="YAML file with the settings below")
    parser.add_argument("--model", help="minilm (default), a hub id or a folder")
    parser.add_argument("--fields", nargs="+", metavar="FIELD", help=f"among {' '.join(FIELDS)}")
    parser.add_argument("--description-chars", type=int)
    parser.add_argument("--attributes", action=argparse.BooleanOptionalAction)
    parser.add_argument("--attribute-dim", type=int)
    parser.add_argument("--attribute-min-items", type=int)
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("--dtype", help="float32 (default), float16, bfloat16")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = vars(parser.parse_args(argv))
    dataset, out, seed, path = (args.pop(name) for name in ("dataset", "out", "seed", "config"))
    settings = load_yaml(path) if path else {}
    settings.update({name: value for name, value in args.items() if value is not None})
    run(build(EmbedConfig, settings, str(path or "llmrec embed")), dataset, out, seed)
    return dataset, out
