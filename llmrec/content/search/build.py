"""``llmrec search index``: item vectors -> an index that answers words, pictures and voice.

    llmrec search index --dataset runs/shop/dataset --media runs/shop/media_features

An item is found by its picture, or by its video where it has no picture. The folder holds

* ``vectors.faiss``: the index; the manifest's counts hold its kind and, of an approximate one, its
  recall@10 against the exact answer;
* ``items.parquet``: ``item_id``, ``title`` and ``image`` of the indexed items, in its order.

The manifest names the image model and the hash of its weights: a query must go through the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.config import as_dict
from llmrec.content.features.image_encoder import ImageEncoder, open_same_model
from llmrec.content.features.media import load_media_features
from llmrec.content.features.modalities import MODALITIES
from llmrec.content.search.nearest import build_index, choose_kind, measure_recall
from llmrec.content.search.settings import SearchIndexConfig
from llmrec.content.search.vectors import ItemVectors, item_vectors
from llmrec.errors import ArtifactError, CatalogError, require
from llmrec.loop.bars import ProgressBar
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, reading, run_stage

STAGE = "search-index"
VECTORS, ITEMS = "vectors.faiss", "items.parquet"
_COLUMNS = ("item_id", "title", "image")
# They change how fast the stage runs, not what it writes.
_SPEED_SETTINGS = ("device", "batch_size")


def read_media_manifest(media: Path, dataset: Path) -> Manifest:
    """The manifest of a folder of media features made from ``dataset``.

    Raises:
        ArtifactError: if it was made from another dataset, or has no vectors of an image model.
    """
    manifest = read_manifest(media, "embed-media")
    if manifest.inputs.get("dataset") != folder_hash(dataset):
        raise ArtifactError(
            f"{media}: was not made from {dataset}; run llmrec embed media again on this dataset"
        )
    if "image_model" not in manifest.inputs:
        raise ArtifactError(
            f"{media}: has no vectors of pictures or videos; run llmrec embed media with them"
        )
    return manifest


def run(
    config: SearchIndexConfig,
    dataset: Path,
    media: Path,
    out: Path | None = None,
    *,
    image_model: str | None = None,
    seed: int = 0,
) -> Path:
    """Index the items of ``dataset`` into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        media: folder of ``llmrec embed media``, made from ``dataset``.
        out: folder to write; ``search_index`` beside ``media`` when None.
        image_model: where the image model of ``media`` is now; None for where it was.
        seed: of the samples that an approximate index is trained and measured on.

    Raises:
        ArtifactError: if the folders do not belong together.
        CatalogError: if no item has a vector.
        ConfigError, MissingExtraError: if the model is needed and cannot be loaded.
    """
    made = read_media_manifest(media, dataset)
    settings = {k: v for k, v in as_dict(config).items() if k not in _SPEED_SETTINGS}
    settings |= {
        "image_model": image_model or made.config["image_model"],
        "speech_model": made.config["speech_model"],
    }
    inputs = {
        "dataset": folder_hash(dataset),
        "media": folder_hash(media),
        "image_model": made.inputs["image_model"],
    }
    manifest = Manifest(STAGE, settings, inputs, seed=seed)
    items = read_items(Path(dataset) / "items.parquet")
    job = _Indexing(config, made, items, Path(media), settings["image_model"], seed)

    def work(run: StageRun) -> None:
        job.write(run)
        print(_summary(run.counts))

    return run_stage(out or Path(media).parent / "search_index", manifest, work)


@dataclass
class _Indexing:
    """One run of the stage; the model is loaded only when something needs it."""

    config: SearchIndexConfig
    made: Manifest
    items: pa.Table
    media: Path
    model: str
    seed: int

    @cached_property
    def encoder(self) -> ImageEncoder:
        expected = self.made.inputs["image_model"]
        return open_same_model(self.model, expected, self.media, self.config.device)

    def write(self, run: StageRun) -> None:
        found = self._vectors()
        if not len(found.rows):
            raise CatalogError(
                f"{self.media}: no item has a vector to be found by; see its skipped.jsonl"
            )
        kind = choose_kind(self.config.kind, len(found.rows))
        index = build_index(found.vectors, kind, self.seed)
        require("faiss", "media").write_index(index, str(run.folder / VECTORS))
        pq.write_table(self.items.take(found.rows), run.folder / ITEMS)
        run.counts.update(found.counts, kind=kind, dim=found.vectors.shape[1])
        if kind != "flat":
            queries, source = self._recall_queries(found)
            run.counts["recall@10"] = round(measure_recall(index, found.vectors, queries), 4)
            run.counts.update(recall_queries=len(queries), recall_queries_are=source)

    def _vectors(self) -> ItemVectors:
        blocks = load_media_features(self.media)
        n_items = len(next(iter(blocks.values())))
        if n_items != self.items.num_rows:
            raise ArtifactError(
                f"{self.media}: has {n_items:,} rows, the dataset {self.items.num_rows:,} items; "
                "run llmrec embed media again"
            )
        weight = self.config.text_weight
        titles = self._embedded(self.items["title"].to_pylist()) if weight else None
        comparable = [
            name
            for name in MODALITIES
            if name in blocks and MODALITIES[name].load().is_in_clip_space(self.made.config)
        ]
        return item_vectors(blocks, comparable, titles=titles, text_weight=weight)

    def _recall_queries(self, found: ItemVectors) -> tuple[np.ndarray, str]:
        """Titles, as people search with words, where there are any; else pictures."""
        titles = self.items["title"].take(found.rows).to_pylist()
        named = [row for row, title in enumerate(titles) if title]
        rows = named or range(len(titles))
        count = min(self.config.recall_queries, len(rows))
        chosen = np.random.default_rng(self.seed).choice(rows, count, replace=False)
        if not named:
            return found.vectors[chosen], "item vectors"
        return self._embedded([titles[row] for row in chosen]), "titles"

    def _embedded(self, titles: list[str]) -> np.ndarray:
        """float32 ``[titles, dim]``, zero rows for empty titles."""
        vectors = np.zeros((len(titles), self.encoder.dim), np.float32)
        rows = [row for row, title in enumerate(titles) if title]
        size = self.config.batch_size
        with ProgressBar(total=len(rows), unit="title", desc=STAGE) as progress:
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                vectors[batch] = self.encoder.encode_text([titles[row] for row in batch])
                progress.update(len(batch))
        return vectors


def read_items(path: Path) -> pa.Table:
    """``item_id``, ``title`` ("" when unknown) and ``image`` of every item."""
    with reading(path, "llmrec ingest"):
        schema = pq.read_schema(path)
        table = pq.read_table(path, columns=[name for name in _COLUMNS if name in schema.names])
        ids = table["item_id"]
    empty = pa.nulls(table.num_rows, pa.string())
    columns = {n: table[n] if n in table.column_names else empty for n in _COLUMNS[1:]}
    columns["title"] = columns["title"].fill_null("")
    return pa.table({"item_id": ids, **columns})


def _summary(counts: dict[str, Any]) -> str:
    """The outcome in one line."""
    parts = [
        f"{counts[name]:,} by {name.removeprefix('from_')}"
        for name in counts
        if name.startswith("from_")
    ]
    if "with_title" in counts:
        parts.append(f"{counts['with_title']:,} with title")
    line = f"{STAGE}: {counts['indexed']:,} of {counts['items']:,} items ({', '.join(parts)})"
    if counts["left_out"]:
        line += f"; {counts['left_out']:,} without a vector left out"
    line += f"; {counts['kind']} index"
    if "recall@10" not in counts:
        return line + ", exact"
    return (
        f"{line}, recall@10 {counts['recall@10']:.3f} against exact search "
        f"on {counts['recall_queries']:,} {counts['recall_queries_are']}"
    )
