"""A new modality is one file and one line of a table: a toy one is embedded, fused and found."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fusion_world import write_dataset
from safetensors.numpy import save_file

from llmrec.cli import run_command
from llmrec.content.features.blocks import load_blocks, load_fused
from llmrec.content.features.modalities import MODALITIES, Modality
from llmrec.content.fusion.modalities import read_modalities
from llmrec.content.search.searcher import SearchIndex
from llmrec.stage import Manifest, read_manifest, writing
from llmrec.types import Histories

# The whole of a modality: how much of each of three oils a scent has, from a text file.
SCENT = '''
"""Scents to vectors: the shares of their oils."""

import numpy as np

from llmrec.content.features.modalities import BatchEncoder
from llmrec.content.features.models import unit_rows, weights_hash
from llmrec.content.media.errors import EmptyMediaError


class ScentModality(BatchEncoder):
    dim = 3

    @classmethod
    def input_hashes(cls, config):
        return {"scent_model": weights_hash(config.models["scent"])}

    @classmethod
    def is_in_clip_space(cls, config):
        return False

    def prepare(self, value):
        oils = self.source.read(value).read_text().split()
        if not oils:
            raise EmptyMediaError("no oil in it")
        return np.array([float(oil) for oil in oils], np.float32)

    def encode(self, prepared):
        return unit_rows(np.stack(prepared))
'''
N_ITEMS = 12


@pytest.fixture
def scents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of files, with the modality in place."""
    folder = tmp_path / "scents"
    folder.mkdir()
    for number in range(N_ITEMS):
        (folder / f"{number}.txt").write_text(f"{number} {N_ITEMS - number} 1")
    (folder / "empty.txt").write_text(" ")
    (tmp_path / "scent_encoder.py").write_text(SCENT)
    (tmp_path / "scent.model").write_text("weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "scent_encoder", raising=False)
    entry = Modality("attributes.scent_sample", "scent_encoder:ScentModality")
    monkeypatch.setitem(MODALITIES, "scent", entry)
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Items whose attributes name their scents; two users, who like items beside each other."""
    likes = Histories.from_lists([list(range(6)), list(range(4, 12))] * 4)
    made = write_dataset(tmp_path / "liked", likes, N_ITEMS)
    files = [*(f"{number}.txt" for number in range(N_ITEMS - 2)), "empty.txt", None]
    pairs = [["colour=red", f"scent_sample={file}"] if file else ["colour=red"] for file in files]
    ids = [f"i{number}" for number in range(N_ITEMS)]
    items = pa.table({"item_id": ids, "attributes": pa.array(pairs, pa.list_(pa.string()))})
    folder = tmp_path / "dataset"
    with writing(folder, Manifest("ingest", {"format": "by hand"})) as stage:
        pq.write_table(items, stage.folder / "items.parquet")
        for name in ("users.parquet", "events.parquet"):
            (stage.folder / name).write_bytes((made / name).read_bytes())
    return folder


def embedded(tmp_path: Path, dataset: Path, scents: Path) -> Path:
    out, model = tmp_path / "media_features", tmp_path / "scent.model"
    flags = ["--dataset", str(dataset), "--media-root", str(scents), "--out", str(out)]
    run_command(
        ["embed", "media", *flags, "--modalities", "scent", "--models", "scent", str(model)]
    )
    return out


def test_its_files_become_a_block_beside_the_others(
    tmp_path: Path, dataset: Path, scents: Path
) -> None:
    out = embedded(tmp_path, dataset, scents)
    blocks = load_blocks(out)
    assert blocks["scent_present"].tolist() == [1] * (N_ITEMS - 2) + [0, 0]
    expected = np.array([3, 9, 1]) / np.linalg.norm([3, 9, 1])
    np.testing.assert_allclose(blocks["scent"][3], expected, rtol=1e-6)
    skipped = json.loads((out / "skipped.jsonl").read_text())
    assert skipped == {"item": "i10", "field": "attributes.scent_sample", "reason": "no oil in it"}
    manifest = read_manifest(out)
    assert manifest.counts["scent"] == N_ITEMS - 2 and manifest.counts["scent_skipped"] == 1
    before = manifest.fingerprint
    (tmp_path / "scent.model").write_text("other weights")
    (scents / "11.txt").write_text("9 9 9")  # of no item
    embedded(tmp_path, dataset, scents)
    assert read_manifest(out).fingerprint != before


def test_it_is_fused_with_what_else_an_item_has(
    tmp_path: Path, dataset: Path, scents: Path
) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    media = embedded(tmp_path, dataset, scents)
    features = tmp_path / "features"
    with writing(features, Manifest("embed", {"by": "hand"})) as stage:
        text = np.eye(N_ITEMS, 16, dtype=np.float32)
        present = np.ones(N_ITEMS, np.uint8)
        save_file({"text": text, "present": present}, stage.folder / "embeddings.safetensors")
    modalities = read_modalities(features, media, N_ITEMS)
    assert modalities.dims == {"text": 16, "scent": 3}
    assert modalities.present[:, 1].tolist() == [True] * (N_ITEMS - 2) + [False, False]
    flags = [f"--dataset={dataset}", f"--features={features}", f"--media={media}"]
    small = ["--train.epochs=1", "--train.steps-per-epoch=2", "--encoder.dim=8"]
    out = tmp_path / "fusion"
    run_command(["train", "fusion", *flags, *small, f"--out={out}"])
    assert load_fused(out).shape == (N_ITEMS, 8)
    assert read_manifest(out).counts["with_scent"] == N_ITEMS - 2


def test_an_item_is_found_by_it_where_words_can_be_compared_with_it(
    tmp_path: Path, dataset: Path, scents: Path
) -> None:
    pytest.importorskip("open_clip", reason="needs the media extra")
    pytest.importorskip("faiss", reason="needs the media extra")
    from tiny_media import tiny_clip

    clip = tiny_clip(tmp_path / "clip")
    (tmp_path / "scent_encoder.py").write_text(
        SCENT.replace("return False", "return True").replace("dim = 3", "dim = 24").replace(
            "return unit_rows(np.stack(prepared))",
            "return unit_rows(np.pad(np.stack(prepared), ((0, 0), (0, 21))))",
        ).replace(
            'return {"scent_model"', 'return {"image_model": weights_hash(config.image_model), "s"'
        )
    )  # fmt: skip
    out, model = tmp_path / "media_features", tmp_path / "scent.model"
    flags = ["--dataset", str(dataset), "--media-root", str(scents), "--out", str(out)]
    models = ["--models", "scent", str(model), "--image-model", str(clip)]
    run_command(["embed", "media", *flags, "--modalities", "scent", *models])
    index = tmp_path / "search_index"
    run_command(["search", "index", "--dataset", str(dataset), "--media", str(out)])
    assert read_manifest(index).counts["from_scent"] == N_ITEMS - 2
    found = SearchIndex.load(index, device="cpu").search(load_blocks(out)["scent"][[4]], 1)
    assert found[0][0].item_id == "i4"
