"""``llmrec items add``: a bundle with more items in it; nothing is trained.

    llmrec items add FILE --bundle BUNDLE --out BUNDLE2

The file is read as ``llmrec ingest`` reads items. Each new item gets an ID of the bundle's own kind
and vectors by the encoders of its catalogue; what is otherwise learned from events (the row of an
atomic token, the click model's fused vector) is made by content. Old items keep
everything, so adapters still fit. The next training on a dataset with events of the new items
learns the rest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.content.features.models import unit_rows
from llmrec.content.features.text import EMBEDDINGS, load_features
from llmrec.content.new_items import joined_blocks, values_by_content
from llmrec.data.new_items import item_settings, read_new_items
from llmrec.errors import ArtifactError
from llmrec.llm.layout import ADAPTERS
from llmrec.serving.build import CTR, FEATURES, HYBRID, adapter_inputs
from llmrec.serving.item_table import ItemTable
from llmrec.stage import (
    MANIFEST,
    Manifest,
    StageRun,
    folder_hash,
    input_hashes,
    read_manifest,
    run_stage,
    write_manifest,
)

COMMAND = "items add"
ITEMS, MODEL = "items.parquet", "model"  # parts of a bundle

Blocks = dict[str, np.ndarray]
Rows = Sequence[Mapping[str, Any]]


def run(
    items: Path,
    /,
    bundle: Path,
    out: Path,
    recipe: Path | None = None,
    skip_known: bool = False,
) -> Path:
    """Add the items of a file to a bundle.

    Args:
        items: a file, or folder of files, of items that the bundle does not have yet.
        bundle: folder of llmrec bundle.
        out: folder to write, a bundle too.
        recipe: whose `ingest:` section says which column is what.
        skip_known: leave out items that the bundle has; otherwise they are an error.

    Raises:
        DataError: naming the row that cannot be read, or is of an item that the bundle has.
        CatalogError: if the model has no token left for an item.
        ArtifactError: if the bundle is damaged.
    """
    made = read_manifest(bundle, "bundle", hashes=True)
    known = ItemTable(bundle / ITEMS).index
    new = read_new_items(item_settings(items, recipe), known, skip_known)
    content = json.dumps(new.to_pylist()).encode()
    inputs = input_hashes(bundle=bundle) | {"items": hashlib.sha256(content).hexdigest()}
    manifest = Manifest("bundle", made.config, _inputs_of(out) | inputs, command=COMMAND)

    def work(stage: StageRun) -> None:
        shutil.copytree(
            bundle,
            stage.folder,
            ignore=lambda at, _: [MANIFEST] if Path(at) == bundle else [],
            dirs_exist_ok=True,
        )
        parts = _extend(stage.folder, new, inputs)
        manifest.inputs = {"dataset": made.inputs["dataset"]} | inputs | parts
        stage.counts.update(items=len(known) + new.num_rows, new_items=new.num_rows)
        print(f"{COMMAND}: {new.num_rows:,} new items beside {len(known):,}")

    return run_stage(out, manifest, work)


def _inputs_of(out: Path) -> dict[str, str]:
    """Inputs of an earlier result: those of its parts are known only when they are made."""
    try:
        return read_manifest(out, "bundle").inputs
    except ArtifactError:
        return {}


def _extend(bundle: Path, new: pa.Table, inputs: Mapping[str, str]) -> dict[str, str]:
    """Add items to every part of a bundle, in place; hashes of the parts."""
    from llmrec.llm.adapters import INFO, base_hash, read_adapter
    from llmrec.llm.new_items import add_items

    rows, names = new.to_pylist(), new["item_id"].to_pylist()
    domains = [row.get("domain") or "" for row in rows]
    known_blocks, new_blocks = Blocks(), Blocks()
    if (bundle / FEATURES).is_dir():
        with _changing(bundle / FEATURES, inputs, len(names)):
            known_blocks, new_blocks = _extend_features(bundle / FEATURES, rows)
    with _changing(bundle / MODEL, inputs, len(names)):
        add_items(bundle / MODEL, names, domains, known_blocks, new_blocks)
    if (bundle / CTR).is_dir():
        with _changing(bundle / CTR, inputs, len(names)):
            _extend_click_model(bundle / CTR, rows, known_blocks, new_blocks)
    if (bundle / HYBRID).is_dir():
        n_known = pq.read_metadata(bundle / ITEMS).num_rows
        with _changing(bundle / HYBRID, inputs, len(names)):
            _extend_hybrid(bundle / HYBRID, n_known, len(names), known_blocks, new_blocks)
    table = pa.concat_tables([pq.read_table(bundle / ITEMS), new], promote_options="permissive")
    pq.write_table(table, bundle / ITEMS)
    parts = {
        name: folder_hash(bundle / name)
        for name in (MODEL, FEATURES, CTR, HYBRID)
        if (bundle / name).is_dir()
    }
    for folder in sorted((bundle / ADAPTERS).glob("*")):
        info = replace(read_adapter(folder), base_hash=base_hash(bundle / MODEL))
        (folder / INFO).write_text(json.dumps(asdict(info), indent=2) + "\n", encoding="utf-8")
        parts |= adapter_inputs(info.name, folder)
    return parts


@contextmanager
def _changing(folder: Path, inputs: Mapping[str, str], new_items: int) -> Iterator[None]:
    """Change the folder of a stage, and then its manifest, which says what was added."""
    manifest = read_manifest(folder)
    before = folder_hash(folder)
    yield
    manifest.inputs |= {"items_added_to": before, "items": inputs["items"]}
    manifest.counts["new_items"] = manifest.counts.get("new_items", 0) + new_items
    manifest.command = COMMAND
    write_manifest(folder, manifest)


def _extend_features(folder: Path, rows: Rows) -> tuple[Blocks, Blocks]:
    """Feature blocks of the known and the new items."""
    from safetensors.numpy import save_file

    from llmrec.content.features.item_encoder import ItemEncoder, own_text_encoder

    encoder = ItemEncoder(folder, text_encoder=own_text_encoder(folder.parent))
    known, new = load_features(folder), encoder.encode(rows)
    new["present"] = np.asarray(new["text"].any(axis=1), np.uint8)
    joined = {name: np.concatenate([known[name], block]) for name, block in new.items()}
    save_file(joined, folder / EMBEDDINGS)
    return known, new


def _extend_hybrid(folder: Path, n_known: int, n_new: int, known: Blocks, new: Blocks) -> None:
    from llmrec.ranking.hybrid.prior import GraphPrior

    vectors = np.concatenate([known["text"], new["text"]]) if known else None
    prior, n_items = GraphPrior.load(folder, n_known), n_known + n_new
    prior.grown(prior.content_with(vectors, n_items), n_items).save(folder)


def _extend_click_model(folder: Path, rows: Rows, known: Blocks, new: Blocks) -> None:
    from llmrec.ranking.ctr.item_features import ItemFeatures

    items = ItemFeatures.load(folder)
    fused = np.zeros((len(rows), items.fused.shape[1]), np.float32)
    has = items.fused.any(axis=1)
    if known and has.any():
        of_known = joined_blocks(known, items.n_items)
        of_new = joined_blocks(new, len(rows))
        fused = unit_rows(values_by_content(of_known[has], items.fused[has], of_new))
    items.with_items(rows, fused).save(folder)
