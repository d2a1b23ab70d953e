"""Folders of stages, bundles and jobs: damaged manifests, files and settings.

What was damaged is refused in one line. Where the manifests were written anew around it, as by
somebody who means harm, a bundle may also open and answer.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from damage import BYTE_EDITS, TREE_EDITS, Edit, damaged_bytes, damaged_tree
from edit_manifest import edit_manifest
from fuzz_ingest import EVENTS, FORMATS, ITEMS
from hypothesis import strategies as st
from judge import accepted
from tiny_expanded import write_expanded

from llmrec.data import ingest
from llmrec.data.dataset import Dataset
from llmrec.data.settings import IngestConfig
from llmrec.item_ids.item_ids import ItemIds
from llmrec.serving import build
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender
from llmrec.stage import (
    MANIFEST,
    Manifest,
    _manifest_text,
    folder_hash,
    read_manifest,
    verify,
    writing,
)
from llmrec.training.jobs.commands import list_jobs, show


@functools.cache
def home() -> Path:
    """A dataset, a model and a bundle, made once."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder)
    for name, rows in (("items", ITEMS), ("events", EVENTS)):
        (folder / f"{name}.jsonl").write_bytes(FORMATS[".jsonl"](rows))
    raw = {name: folder / f"{name}.jsonl" for name in ("items", "events")}
    ingest.run(IngestConfig(**raw), folder / "dataset")
    inputs = {"dataset": folder_hash(folder / "dataset")}
    with writing(folder / "model", Manifest("expand", {}, inputs)) as stage:
        write_expanded(stage.folder, ItemIds.atomic(len(ITEMS), spare=2))
    build.run(folder / "dataset", folder / "model", folder / "bundle")
    return folder


# --------------------------------------------------------------------------- manifests

MANIFESTS = st.tuples(st.booleans(), TREE_EDITS)


def check_manifest(value: tuple[bool, Sequence[Edit]], folder: Path) -> None:
    """A manifest says odd things, and its checksum is right or not."""
    signed, edits = value
    copied = Path(shutil.copytree(home() / "dataset", folder / "dataset"))
    before = (copied / MANIFEST).read_text()
    tree, _ = damaged_tree(json.loads(before), edits)
    text = json.dumps(tree, indent=2) + "\n"
    if signed:
        tree.pop("checksum", None)
        text = _manifest_text(tree)
    elif text == before:
        return
    (copied / MANIFEST).write_text(text)
    read = accepted(lambda: read_manifest(copied, "ingest"))
    assert signed or read is None, "a manifest without its checksum is taken for whole"
    accepted(lambda: verify(copied))
    accepted(lambda: folder_hash(copied))
    accepted(lambda: Dataset(copied).user_ids)


FILES = st.tuples(st.integers(0, 3), BYTE_EDITS)


def check_dataset(value: tuple[int, Sequence[Edit]], folder: Path) -> None:
    """A file of a dataset is damaged, and the manifest is its own or a new one."""
    number, edits = value
    copied = Path(shutil.copytree(home() / "dataset", folder / "dataset"))
    path = sorted(copied.iterdir())[number]
    before = path.read_bytes()
    path.write_bytes(damaged_bytes(before, edits))
    if path.read_bytes() == before:
        return
    assert accepted(lambda: verify(copied) or True) is None, f"{path.name} is taken for whole"
    if path.name != MANIFEST:
        edit_manifest(copied)
        accepted(lambda: _read_all(Dataset(copied)))


def _read_all(dataset: Dataset) -> None:
    dataset.events.to_pylist()
    for index in range(dataset.n_items):
        dataset.item(index)
    for user in range(len(dataset.user_ids)):
        dataset.history(user), dataset.times(user)
    dataset.train_histories()


# --------------------------------------------------------------------------- bundles

BUNDLES = st.tuples(st.integers(0, 99), BYTE_EDITS)


def check_bundle(value: tuple[int, Sequence[Edit]], folder: Path) -> None:
    """A file of a bundle is damaged: it is noticed when the bundle is opened."""
    number, edits = value
    copied = Path(shutil.copytree(home() / "bundle", folder / "bundle"))
    files = sorted(path for path in copied.rglob("*") if path.is_file())
    path = files[number % len(files)]
    before = path.read_bytes()
    path.write_bytes(damaged_bytes(before, edits))
    if path.read_bytes() != before:
        opened = accepted(lambda: Bundle(copied))
        assert opened is None, f"{path.relative_to(copied)} is taken for whole"


FORGERIES = st.one_of(
    st.tuples(st.integers(0, 99), st.just("bytes"), BYTE_EDITS),
    st.tuples(st.integers(0, 99), st.just("tree"), TREE_EDITS),
)


def check_forgery(value: tuple[int, str, Sequence[Edit]], folder: Path) -> None:
    """A file of a bundle is another, and all manifests were written to fit it."""
    number, kind, edits = value
    copied = Path(shutil.copytree(home() / "bundle", folder / "bundle"))
    files = sorted(path for path in copied.rglob("*") if path.is_file() and path.name != MANIFEST)
    if kind == "tree":
        files = [path for path in files if path.suffix == ".json"]
    path = files[number % len(files)]
    if kind == "tree":
        tree, _ = damaged_tree(json.loads(path.read_text()), edits)
        path.write_text(json.dumps(tree))
    else:
        path.write_bytes(damaged_bytes(path.read_bytes(), edits))
    edit_manifest(copied / "model")
    inputs = read_manifest(copied / "model").inputs  # of the model; those of the bundle follow
    assert isinstance(inputs, dict)
    bundle = json.loads((copied / MANIFEST).read_text())
    edit_manifest(copied, inputs=bundle["inputs"] | {"model": folder_hash(copied / "model")})
    accepted(lambda: Recommender(Bundle(copied)).recommend(["item1", "item2"], 5))


# --------------------------------------------------------------------------- jobs

_JOB = {
    "job.json": {"kind": "tune", "arguments": ["--seed", "0"], "processes": 1, "created": 1.7e9,
                 "threads": "2"},
    "status.json": {"state": "running", "pid": 7, "process_started": 1.7e9, "began": 1.7e9,
                    "stage": "sft", "step": 3, "total": 9, "elapsed": 2.5, "eta": 5.0,
                    "loss": 1.5, "examples_per_second": 3.5, "updated": 1.7e9, "error": None},
    "metrics.jsonl": {"step": 1, "loss": 2.5, "learning_rate": 1e-4},
}  # fmt: skip
JOBS = st.tuples(
    st.sampled_from(list(_JOB)),
    st.one_of(st.tuples(st.just("bytes"), BYTE_EDITS), st.tuples(st.just("tree"), TREE_EDITS)),
)


def check_job(value: tuple[str, tuple[str, Sequence[Edit]]], folder: Path) -> None:
    """A file of a job is damaged: the others are still listed."""
    name, (kind, edits) = value
    for job in ("good", "bad"):
        (folder / job).mkdir()
        for file, content in _JOB.items():
            (folder / job / file).write_text(json.dumps(content) + "\n")
    path = folder / "bad" / name
    if kind == "tree":
        tree, _ = damaged_tree(_JOB[name], edits)
        path.write_text(json.dumps(tree) + "\n")
    else:
        path.write_bytes(damaged_bytes(path.read_bytes(), edits))
    assert accepted(lambda: list_jobs(folder) or True), "one damaged job hides the others"
    accepted(lambda: show("bad", jobs=folder))
    assert accepted(lambda: show("good", jobs=folder) or True)
