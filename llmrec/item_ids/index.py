"""``llmrec index``: give every item its ID.

    llmrec index --dataset runs/beauty/dataset --features runs/beauty/features \\
        --out runs/beauty/item_ids --kind semantic --blocks text 1.0

The folder holds the IDs (:class:`~llmrec.item_ids.item_ids.ItemIds`), ``report.json`` with the
use of the codes, the reconstruction error and the collisions before and after, and
``code_usage.png``. Atomic IDs need no features; with them, their tokens get content vectors.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from llmrec.config import as_dict, check_ranges
from llmrec.content.features.blocks import combine_blocks, load_blocks
from llmrec.data.dataset import Dataset
from llmrec.data.domains import Domains
from llmrec.errors import CatalogError, ConfigError, require
from llmrec.files import file_hash
from llmrec.item_ids.collisions import (
    UniqueCodes,
    count_collisions,
    resolve_extra_level,
    resolve_last_level,
)
from llmrec.item_ids.continued import continued_ids, known_rows, usual_spare
from llmrec.item_ids.item_ids import CollisionStrategy, IdKind, ItemIds, id_files
from llmrec.item_ids.learned_rows import learned_rows, with_content
from llmrec.item_ids.quantizer import FittedQuantizer, content_codebooks
from llmrec.item_ids.report import format_report, level_report, plot_code_use
from llmrec.item_ids.rq_kmeans import fit_rq_kmeans
from llmrec.item_ids.rq_vae_settings import RqVaeConfig
from llmrec.jsonl import read_json
from llmrec.stage import Manifest, StageRun, folder_hash, input_hashes, run_stage

STAGE = "index"
REPORT = "report.json"


@dataclass(frozen=True)
class IndexConfig:
    """Settings of ``llmrec index``.

    Attributes:
        kind: ``atomic`` (one token an item), ``domain`` (a token for the item's domain, then one of
            its own, so that a list of one domain begins with its token) or ``semantic`` (a few
            codes an item).
        base: folder of an earlier result, or of a model: its items keep their IDs, new ones get
            theirs in the same way, and further settings are those of that.
        method: ``rq-kmeans`` or ``rq-vae``, for semantic IDs.
        levels: codes an item, before an extra level.
        codebook_size: codes a level; lowered when there are fewer items.
        collisions: ``last-level`` or ``extra-level``; see :mod:`llmrec.item_ids.collisions`.
        balanced: RQ-KMeans with clusters of equal size.
        kmeans_iterations: of k-means, per level.
        blocks: feature blocks to use, with their weight in squared distances; by default text
            alone.
        rows_of: folder of a model with atomic IDs of these items: RQ-KMeans is on its item rows
            instead, and ``blocks`` give later items their IDs; see
            :mod:`llmrec.item_ids.learned_rows`.
        spare: items' own tokens kept free for new ones; by default 5% of the items, at least 64.
        rq_vae: how an RQ-VAE is built and trained.
    """

    kind: IdKind = "atomic"
    base: Annotated[Path | None, tyro.conf.arg(aliases=("--from",))] = None
    method: Literal["rq-kmeans", "rq-vae"] = "rq-kmeans"
    levels: int = 3
    codebook_size: int = 256
    collisions: CollisionStrategy = "last-level"
    balanced: bool = False
    kmeans_iterations: int = 25
    blocks: dict[str, float] | None = None
    rows_of: Path | None = None
    spare: int | None = None
    rq_vae: RqVaeConfig = field(default_factory=RqVaeConfig)

    def __post_init__(self) -> None:
        check_ranges(self, "[2, 8]", "levels")
        check_ranges(self, "[1, inf)", "codebook_size", "kmeans_iterations")
        check_ranges(self, "[0, inf)", "spare")
        weights = self.block_weights.values()
        if not weights or any(not 0 < weight < math.inf for weight in weights):
            raise ConfigError(f"blocks: need one or more with weights above 0, got {self.blocks}")
        if self.balanced and self.method == "rq-vae":
            raise ConfigError("balanced: only rq-kmeans can balance its codes")
        if self.rows_of is not None and (self.kind, self.method) != ("semantic", "rq-kmeans"):
            raise ConfigError("rows_of: is for semantic IDs by rq-kmeans; leave it out")

    @property
    def block_weights(self) -> dict[str, float]:
        """``blocks``, or their default."""
        return {"text": 1.0} if self.blocks is None else self.blocks


def run(
    config: IndexConfig, dataset: Path, out: Path, features: Path | None = None, seed: int = 0
) -> Path:
    """Give every item its ID.

    Args:
        config: which kind of ID, and how it is made.
        dataset: folder of llmrec ingest.
        out: folder to write.
        features: folder of llmrec embed, or of train fusion.
        seed: of k-means and of the RQ-VAE.

    Raises:
        CatalogError: if the dataset has no items.
        ConfigError: if features are needed and missing, or there are too few codes.
        DataError: if a content vector is not finite.
    """
    if config.kind == "semantic" and features is None:
        raise ConfigError("features: semantic item ids need the folder of llmrec embed")
    inputs = input_hashes(dataset=dataset, features=features)
    if config.base is not None:
        inputs |= {f"base/{path.name}": file_hash(path) for path in id_files(config.base)}
    if config.rows_of is not None:
        inputs["rows_of"] = folder_hash(config.rows_of)
    manifest = Manifest(STAGE, as_dict(config), inputs, seed=seed)

    def work(stage_run: StageRun) -> None:
        data = Dataset(dataset)
        names = data.item_ids
        n_items = len(names)
        if n_items == 0:
            raise CatalogError(f"{dataset}: the catalogue has no items; ingest some first")
        blocks = None if features is None else load_blocks(features)
        if config.base is not None:
            _continue(stage_run, config, config.base, data, blocks)
            return
        vectors = None
        if blocks is not None:
            vectors = combine_blocks(blocks, config.block_weights, n_items, str(features))
        rows = None if config.rows_of is None else learned_rows(config.rows_of, names)
        domains = Domains.of(data) if config.kind == "domain" else None
        _index(stage_run, config, names, vectors, rows, domains, seed)

    folder = run_stage(out, manifest, work, reads=[dataset, features])
    print(format_report(read_json(folder / REPORT)))
    return folder


def build_ids(
    config: IndexConfig,
    n_items: int,
    vectors: np.ndarray | None,
    seed: int = 0,
    rows: np.ndarray | None = None,
    domains: Domains | None = None,
) -> tuple[ItemIds, dict[str, Any]]:
    """Make the IDs in memory.

    Args:
        n_items: items in the catalogue, 1 or more.
        vectors: float32 ``[n_items, dim]`` content vectors, finite; None for none.
        rows: float32 ``[n_items, width]``, learned of the items; semantic IDs are made of them.
        domains: of the items, for domain IDs.

    Returns:
        The IDs, and the report.

    Raises:
        ConfigError: if semantic IDs lack vectors or have too few codes.
    """
    if config.kind == "semantic":
        if vectors is None:
            raise ConfigError("features: semantic item ids need content vectors")
        return _semantic(config, vectors, rows, seed)
    spare = config.spare if config.spare is not None else usual_spare(n_items)
    weights = {} if vectors is None else config.block_weights
    if domains is None:
        ids = ItemIds.atomic(n_items, spare, vectors, weights)
    else:
        ids = ItemIds.by_domain(domains.of_item, domains.names, spare, vectors, weights)
    report = {"kind": config.kind, "items": n_items, "tokens": ids.n_tokens, "spare": spare}
    return ids, report


def _continue(
    run: StageRun,
    config: IndexConfig,
    base: Path,
    data: Dataset,
    blocks: Mapping[str, np.ndarray] | None,
) -> None:
    old = ItemIds.load(id_files(base)[0].parent)
    if old.kind != config.kind:
        raise ConfigError(f"kind: the IDs of {base} are {old.kind}; set the same")
    ids = continued_ids(old, data.item_ids, blocks, str(base), data.item_domains)
    known = int((known_rows(old, data.item_ids, str(base)) >= 0).sum())
    report = {
        "kind": ids.kind,
        "items": ids.n_items,
        "tokens": ids.n_tokens,
        "known": known,
        "new": ids.n_items - known,
    }
    ids.save(run.folder)
    (run.folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    run.counts.update(report)


def _index(
    run: StageRun,
    config: IndexConfig,
    names: list[str],
    vectors: np.ndarray | None,
    rows: np.ndarray | None,
    domains: Domains | None,
    seed: int,
) -> None:
    started = time.monotonic()
    ids, report = build_ids(config, len(names), vectors, seed, rows, domains)
    # Not among the manifest's counts: those stand for the result, and time is none.
    report["seconds"] = round(time.monotonic() - started, 2)
    replace(ids, names=tuple(names)).save(run.folder)
    (run.folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if ids.kind == "semantic":
        plot_code_use(ids.codes, ids.level_sizes, run.folder / "code_usage.png")
    for name in ("items", "tokens", "spare", "collisions_before", "collisions_after"):
        if name in report:
            run.counts[name] = report[name]


def _semantic(
    config: IndexConfig, vectors: np.ndarray, rows: np.ndarray | None, seed: int
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
    fitted = _fit(config, vectors if rows is None else rows, (size,) * config.levels, seed)
    if rows is not None:
        fitted = with_content(fitted, vectors)
    unique, sizes = _make_unique(config, fitted)
    ids = ItemIds(
        "semantic",
        unique.codes,
        sizes,
        _token_vectors(config, fitted, unique, vectors, sizes),
        fitted.quantizer,
        config.collisions,
        config.block_weights,
    )
    report = {
        "kind": "semantic",
        "method": config.method,
        "items": n_items,
        "tokens": ids.n_tokens,
        "codebook_size": size,
        "codebook_size_wanted": config.codebook_size,
        "levels": level_report(fitted.quantizer, fitted.latents, fitted.codes),
        "relative_mse": round(fitted.relative_mse, 4),
        "collisions": config.collisions,
        "collisions_before": count_collisions(fitted.codes),
        "collisions_after": count_collisions(ids.codes),
        "moved": unique.moved,
        "left_prefix": unique.left_prefix,
        "without_content": int((~vectors.any(axis=1)).sum()),
    }
    return ids, report


def _fit(
    config: IndexConfig, vectors: np.ndarray, sizes: tuple[int, ...], seed: int
) -> FittedQuantizer:
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


def _make_unique(
    config: IndexConfig, fitted: FittedQuantizer
) -> tuple[UniqueCodes, tuple[int, ...]]:
    """Unique codes, and the sizes of their levels."""
    quantizer, sizes = fitted.quantizer, fitted.quantizer.level_sizes
    if config.collisions == "last-level":
        return resolve_last_level(quantizer, fitted.latents, fitted.codes), sizes
    *_, residual = quantizer.residuals(fitted.latents, fitted.codes)
    none = np.empty((0, len(sizes) + 1), np.int32)
    unique = resolve_extra_level(np.square(residual).sum(axis=1), fitted.codes, None, none)
    # At least a codebook's worth, and twice what is needed: room for new items of a code tuple.
    extra = max(config.codebook_size, 2 * (int(unique.codes[:, -1].max()) + 1))
    return unique, (*sizes, extra)


def _token_vectors(
    config: IndexConfig,
    fitted: FittedQuantizer,
    unique: UniqueCodes,
    vectors: np.ndarray,
    sizes: tuple[int, ...],
) -> np.ndarray:
    """float32 ``[n_tokens, dim]``; see :class:`ItemIds`."""
    quantized = fitted.quantizer.level_sizes
    books = list(fitted.quantizer.codebooks)
    if fitted.quantizer.layers:  # the codebooks live in a latent space, the vectors must not
        books = content_codebooks(vectors, unique.codes[:, : len(quantized)], quantized)
    extra = [np.zeros((size, vectors.shape[1]), np.float32) for size in sizes[len(quantized) :]]
    return np.concatenate([*books, *extra]).astype(np.float32)
