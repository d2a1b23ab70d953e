"""Content vectors of every item, from its text and its attributes: :mod:`llmrec.content.embed`.

The folder holds ``embeddings.safetensors``:

* ``text`` float32 ``[n_items, dim]``, unit rows, and a zero row for an item without text;
* ``present`` uint8 ``[n_items]``, 0 where an item has no text;
* ``enhanced`` float32 ``[n_items, dim]``, with ``--enhanced``: as ``text``, of what
  ``llmrec enhance`` wrote;
* ``attributes`` float32 ``[n_items, attribute_dim]``, with ``--attributes``.

Every block has a mean square row length of one (over the items that have it), so that blocks
can be put side by side. Items are embedded in shards; a killed run goes on with the next shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrec.config import as_dict, check_ranges
from llmrec.content.features.attributes import AttributeEncoder, attribute_tokens
from llmrec.content.features.models import weights_hash
from llmrec.content.features.text_encoder import MINILM, Dtype, TextEncoder, fetch_model
from llmrec.content.shards import Shards, read_catalogue
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.jsonl import read_jsonl
from llmrec.loop.bars import ProgressBar
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, reading, run_stage

STAGE = "embed"
EMBEDDINGS = "embeddings.safetensors"
ENHANCED_STAGE, ENHANCED = "enhance", "enhanced.jsonl"
BLOCKS = ("text", "attributes", "enhanced")
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
            raise ConfigError(f"fields: choose from {', '.join(FIELDS)}; got {list(self.fields)}")
        check_ranges(self, "[1, inf)", "description_chars", "batch_size")
        check_ranges(self, "[1, inf)", "attribute_dim", "attribute_min_items")

    def open_text_encoder(
        self, device: str | None = None, folder: Path | None = None
    ) -> TextEncoder:
        """Load the text model, on another device or from a folder of its own where one is given."""
        return TextEncoder(
            self.model if folder is None else str(folder),
            device=device or self.device,
            dtype=self.dtype,
            batch_size=self.batch_size,
        )

    def item_texts(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """The text of each row of the catalogue."""
        return [item_text(row, self.fields, self.description_chars) for row in rows]


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
    with reading(path, "llmrec embed"):
        return load_file(path)


def run(
    config: EmbedConfig, dataset: Path, out: Path, *, enhanced: Path | None = None, seed: int = 0
) -> Path:
    """Embed every item of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        enhanced: folder of ``llmrec enhance``, on the same dataset.
        seed: of the attributes' SVD.

    Raises:
        ArtifactError: if ``enhanced`` is of another dataset.
        CatalogError: if the dataset has no items.
        ConfigError, MissingExtraError: if a model cannot be loaded.
    """
    read_manifest(dataset, "ingest")
    settings = {k: v for k, v in as_dict(config).items() if k not in _SPEED_SETTINGS}
    weights = weights_hash(str(fetch_model(config.model)))
    inputs = {"dataset": folder_hash(dataset), "model": weights}
    more = None if enhanced is None else _enhanced_texts(enhanced, inputs["dataset"])
    if enhanced is not None:
        inputs["enhanced"] = folder_hash(enhanced)
    manifest = Manifest(STAGE, settings, inputs, seed=seed)
    catalogue = Path(dataset) / "items.parquet"
    work = partial(_embed, config=config, catalogue=catalogue, enhanced=more, seed=seed)
    run_stage(out, manifest, work, reads=[dataset], resume=True)
    return Path(out)


def _enhanced_texts(folder: Path, dataset: str) -> list[str]:
    """What was written of each item.

    Args:
        dataset: hash of the folder whose items they must be.

    Raises:
        ArtifactError: if they are of another dataset, or damaged.
    """
    if read_manifest(folder, ENHANCED_STAGE).inputs["dataset"] != dataset:
        raise ArtifactError(
            f"{folder}: is of another dataset; run llmrec enhance again on this one"
        )
    with reading(Path(folder) / ENHANCED, "llmrec enhance"):
        return [row["text"] for row in read_jsonl(Path(folder) / ENHANCED)]


def _embed(
    run: StageRun, config: EmbedConfig, catalogue: Path, enhanced: list[str] | None, seed: int
) -> None:
    n_items = sum(batch.num_rows for batch in read_catalogue(catalogue, SHARD_ITEMS, ["item_id"]))
    if n_items == 0:
        raise CatalogError(f"{catalogue}: the catalogue has no items; ingest some first")
    shards = Shards(run.folder)
    text = _embed_texts(shards, config, catalogue, n_items)
    present = np.asarray(text.any(axis=1), np.uint8)
    blocks = {"text": text, "present": present}
    run.counts.update(
        items=n_items, text_dim=text.shape[1], without_text=n_items - int(present.sum())
    )
    if enhanced is not None:
        print(f"{STAGE}: what was written of {len(enhanced):,} items", flush=True)
        blocks["enhanced"] = config.open_text_encoder().encode(enhanced, kind="document")
        run.counts["without_enhanced"] = enhanced.count("")
    if config.attributes:
        columns = ["attributes", "categories", "brand"]
        batches = read_catalogue(catalogue, SHARD_ITEMS, columns)
        bags = [attribute_tokens(row) for batch in batches for row in batch.to_pylist()]
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
    shards.remove()


def _embed_texts(shards: Shards, config: EmbedConfig, catalogue: Path, n_items: int) -> np.ndarray:
    """float32 ``[n_items, dim]``; a shard that an earlier try finished is read back."""
    encoder: TextEncoder | None = None
    done = min(n_items, SHARD_ITEMS * len(shards.folders()))
    with ProgressBar(total=n_items, initial=done, unit="item", desc=STAGE) as progress:
        for number, batch in enumerate(read_catalogue(catalogue, SHARD_ITEMS, config.fields)):
            if shards.has(number):
                continue
            if encoder is None:  # not loaded at all when every shard is there
                encoder = config.open_text_encoder()
            texts = config.item_texts(batch.to_pylist())
            vectors = encoder.encode(texts, kind="document", on_batch=progress.update)
            with shards.writing(number) as folder:
                save_file({"text": vectors}, folder / EMBEDDINGS)
    return np.concatenate([load_file(part / EMBEDDINGS)["text"] for part in shards.folders()])
