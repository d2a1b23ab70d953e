"""``llmrec index``: give every item its ID.

    llmrec index --dataset runs/beauty/dataset --features runs/beauty/features \\
        --out runs/beauty/item_ids --kind semantic

The folder holds the IDs (:class:`~llmrec.item_ids.item_ids.ItemIds`), ``report.json`` with the
use of the codes, the reconstruction error and the collisions before and after, and
``code_usage.png``. Atomic IDs need no features; with them, their tokens get content vectors.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmrec.config import as_dict, build, load_yaml
from llmrec.content.features.blocks import load_blocks
from llmrec.content.features.combine import combine_blocks
from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError, ConfigError, require
from llmrec.item_ids.collisions import (
    Resolved,
    count_collisions,
    resolve_extra_level,
    resolve_last_level,
)
from llmrec.item_ids.item_ids import Collisions, ItemIds, Kind
from llmrec.item_ids.quantizer import Fitted, content_codebooks
from llmrec.item_ids.report import format_report, level_report, plot_code_use
from llmrec.item_ids.rq_kmeans import fit_rq_kmeans
from llmrec.item_ids.rq_vae_settings import RqVaeSettings
from llmrec.stage import Manifest, StageRun, folder_hash, run_stage

if TYPE_CHECKING:
    from collections.abc import Mapping

STAGE = "index"
REPORT = "report.json"


@dataclass(frozen=True)
class IndexConfig:
    """Settings of ``llmrec index``.

    Attributes:
        kind: ``atomic`` (one token an item) or ``semantic`` (a few codes an item).
        method: ``rq-kmeans`` or ``rq-vae``, for semantic IDs.
        levels: codes an item, before an extra level.
        codebook_size: codes a level; lowered when there are fewer items.
        collisions: ``last-level`` or ``extra-level``; see :mod:`llmrec.item_ids.collisions`.
        balanced: RQ-KMeans with clusters of equal size.
        kmeans_iterations: of k-means, per level.
        blocks: feature blocks to use, with their weight in squared distances.
        spare: atomic tokens kept free for new items; by default 5% of the items, at least 64.
        rq_vae: how an RQ-VAE is built and trained.
    """

    kind: Kind = "atomic"
    method: Literal["rq-kmeans", "rq-vae"] = "rq-kmeans"
    levels: int = 3
    codebook_size: int = 256
    collisions: Collisions = "last-level"
    balanced: bool = False
    kmeans_iterations: int = 25
    blocks: dict[str, float] = field(default_factory=lambda: {"text": 1.0})
    spare: int | None = None
    rq_vae: RqVaeSettings = field(default_factory=RqVaeSettings)

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 8:
            raise ValueError(f"levels: must be 2 to 8, got {self.levels}")
        for name in ("codebook_size", "kmeans_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, got {getattr(self, name)}")
        if self.spare is not None and self.spare < 0:
            raise ValueError(f"spare: must be 0 or more, got {self.spare}")
        if not self.blocks or any(not 0 < w < math.inf for w in self.blocks.values()):
            raise ValueError(f"blocks: need one or more with weights above 0, got {self.blocks}")
        if self.balanced and self.method == "rq-vae":
            raise ValueError("balanced: only rq-kmeans can balance its codes")


def run(
    config: IndexConfig, dataset: Path, features: Path | None, out: Path, seed: int = 0
) -> Path:
    """Give the items of ``dataset`` IDs and write them to the folder ``out``.

    Raises:
        CatalogError: if the dataset has no items.
        ConfigError: if features are needed and missing, or there are too few codes.
        DataError: if a content vector is not finite.
    """
    if config.kind == "semantic" and features is None:
        raise ConfigError("features: semantic item ids need the folder of llmrec embed")
    inputs = {"dataset": folder_hash(dataset)}
    if features is not None:
        inputs["features"] = folder_hash(features)
    manifest = Manifest(STAGE, as_dict(config), inputs, seed=seed)

    def work(stage_run: StageRun) -> None:
        n_items = Dataset(dataset).n_items
        if n_items == 0:
            raise CatalogError(f"{dataset}: the catalogue has no items; ingest some first")
        vectors = None
        if features is not None:
            vectors = combine_blocks(load_blocks(features), config.blocks, n_items, str(features))
        _index(stage_run, config, n_items, vectors, seed)

    return run_stage(out, manifest, work)


def build_ids(
    config: IndexConfig, n_items: int, vectors: np.ndarray | None, seed: int = 0
) -> tuple[ItemIds, dict[str, Any]]:
    """Make the IDs in memory.

    Args:
        n_items: items in the catalogue, 1 or more.
        vectors: float32 ``[n_items, dim]`` content vectors, finite; None for none.

    Returns:
        The IDs, and the report.

    Raises:
        ConfigError: if semantic IDs lack vectors or have too few codes.
    """
    if config.kind == "semantic":
        if vectors is None:
            raise ConfigError("features: semantic item ids need content vectors")
        return _semantic(config, vectors, seed)
    spare = config.spare if config.spare is not None else max(64, math.ceil(n_items / 20))
    ids = ItemIds.atomic(n_items, spare, vectors, {} if vectors is None else config.blocks)
    report = {"kind": "atomic", "items": n_items, "tokens": ids.n_tokens, "spare": spare}
    return ids, report


def _index(
    run: StageRun, config: IndexConfig, n_items: int, vectors: np.ndarray | None, seed: int
) -> None:
    started = time.monotonic()
    ids, report = build_ids(config, n_items, vectors, seed)
    # Not among the manifest's counts: those stand for the result, and time is none.
    report["seconds"] = round(time.monotonic() - started, 2)
    ids.save(run.folder)
    (run.folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if ids.kind == "semantic":
        plot_code_use(ids.codes, ids.level_sizes, run.folder / "code_usage.png")
    for name in ("items", "tokens", "spare", "collisions_before", "collisions_after"):
        if name in report:
            run.counts[name] = report[name]


def _semantic(
    config: IndexConfig, vectors: np.ndarray, seed: int
) -> tuple[ItemIds, dict[str, Any]]:
    n_items = len(vectors)
    if config.codebook_size**config.levels < n_items:
        raise ConfigError(
            f"codebook_size: {config.codebook_size} codes on {config.levels} levels make "
            f"{config.codebook_size**config.levels:,} ids for {n_items:,} items; "
            "raise codebook_size or levels"
        )
    # k-means cannot have more centroids than points; n ** levels ids are still enough for n.
    size = min(config.codebook_size, n_items)
    fitted = _fit(config, vectors, (size,) * config.levels, seed)
    resolved, sizes = _resolve(config, fitted)
    ids = ItemIds(
        "semantic",
        resolved.codes,
        sizes,
        _token_vectors(config, fitted, resolved, vectors, sizes),
        fitted.quantizer,
        config.collisions,
        config.blocks,
    )
    report = {
        "kind": "semantic",
        "method": config.method,
        "items": n_items,
        "tokens": ids.n_tokens,
        "codebook_size": size,
        "codebook_size_asked": config.codebook_size,
        "levels": level_report(fitted.quantizer, fitted.latents, fitted.codes),
        "relative_mse": round(fitted.relative_mse, 4),
        "collisions": config.collisions,
        "collisions_before": count_collisions(fitted.codes),
        "collisions_after": count_collisions(ids.codes),
        "moved": resolved.moved,
        "left_prefix": resolved.left_prefix,
        "without_content": int((~vectors.any(axis=1)).sum()),
    }
    return ids, report


def _fit(config: IndexConfig, vectors: np.ndarray, sizes: tuple[int, ...], seed: int) -> Fitted:
    if config.method == "rq-kmeans":
        return fit_rq_kmeans(
            vectors,
            sizes,
            iterations=config.kmeans_iterations,
            balanced=config.balanced,
            seed=seed,
        )
    require("torch", "train")
    from llmrec.item_ids.rq_vae import fit_rq_vae

    return fit_rq_vae(vectors, sizes, config.rq_vae, seed=seed)


def _resolve(config: IndexConfig, fitted: Fitted) -> tuple[Resolved, tuple[int, ...]]:
    """Unique codes, and the sizes of their levels."""
    quantizer, sizes = fitted.quantizer, fitted.quantizer.level_sizes
    if config.collisions == "last-level":
        return resolve_last_level(quantizer, fitted.latents, fitted.codes), sizes
    *_, residual = quantizer.residuals(fitted.latents, fitted.codes)
    none = np.empty((0, len(sizes) + 1), np.int32)
    resolved = resolve_extra_level(np.square(residual).sum(axis=1), fitted.codes, None, none)
    # At least a codebook's worth, and twice what is needed: room for new items of a code tuple.
    extra = max(config.codebook_size, 2 * (int(resolved.codes[:, -1].max()) + 1))
    return resolved, (*sizes, extra)


def _token_vectors(
    config: IndexConfig,
    fitted: Fitted,
    resolved: Resolved,
    vectors: np.ndarray,
    sizes: tuple[int, ...],
) -> np.ndarray:
    """float32 ``[n_tokens, dim]``; see :class:`ItemIds`."""
    quantized = fitted.quantizer.level_sizes
    books = list(fitted.quantizer.codebooks)
    if fitted.quantizer.layers:  # the codebooks live in a latent space, the vectors must not
        books = content_codebooks(vectors, resolved.codes[:, : len(quantized)], quantized)
    extra = [np.zeros((size, vectors.shape[1]), np.float32) for size in sizes[len(quantized) :]]
    return np.concatenate([*books, *extra]).astype(np.float32)


def _parse_blocks(pairs: list[str]) -> Mapping[str, Any]:
    """``["text", "attributes=0.5"]`` as weights by name."""
    blocks = {}
    for pair in pairs:
        name, _, weight = pair.partition("=")
        try:
            blocks[name] = float(weight or 1)
        except ValueError:
            raise ConfigError(f"--blocks: {pair!r} is not NAME or NAME=WEIGHT") from None
    return blocks


def main(argv: list[str]) -> None:
    """The command line of ``llmrec index``."""
    parser = argparse.ArgumentParser(prog="llmrec index", description="Give every item its ID.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--features", type=Path, help="of llmrec embed, or train fusion")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--config", type=Path, help="YAML file with the settings below")
    parser.add_argument("--kind", help="atomic (default) or semantic")
    parser.add_argument("--method", help="rq-kmeans (default) or rq-vae")
    parser.add_argument("--levels", type=int)
    parser.add_argument("--codebook-size", type=int)
    parser.add_argument("--collisions", help="last-level (default) or extra-level")
    parser.add_argument("--balanced", action=argparse.BooleanOptionalAction)
    parser.add_argument("--kmeans-iterations", type=int)
    parser.add_argument("--blocks", nargs="+", metavar="NAME[=WEIGHT]")
    parser.add_argument("--spare", type=int, help="atomic tokens kept for new items")
    parser.add_argument("--seed", type=int, default=0)
    args = vars(parser.parse_args(argv))
    names = ("dataset", "features", "out", "seed", "config")
    dataset, features, out, seed, path = (args.pop(name) for name in names)
    settings = load_yaml(path) if path else {}
    settings.update({name: value for name, value in args.items() if value is not None})
    if isinstance(settings.get("blocks"), list):
        settings["blocks"] = _parse_blocks(settings["blocks"])
    config = build(IndexConfig, settings, str(path or "llmrec index"))
    folder = run(config, dataset, features, out, seed)
    print(format_report(json.loads((folder / REPORT).read_text(encoding="utf-8"))))
