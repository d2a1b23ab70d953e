"""A world in which two modalities each tell half of what decides who likes what.

An item has a letter, which only its text tells, and a digit, which only its picture tells. A person
likes the items of one letter and one digit. Most of each vector is noise, so that a raw cosine, or
the mean of the two, says little; what tells the letter has to be learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from llmrec.fusion.modalities import Modalities
from llmrec.stage import Manifest, writing
from llmrec.types import Histories

CODES = 6
DIM = 24


@dataclass(frozen=True)
class World:
    """Items, people and where they are written.

    Attributes:
        modalities: ``text`` and ``image``.
        histories: of people, oldest first.
    """

    modalities: Modalities
    histories: Histories


def make_world(per_code: int = 6, people: int = 240, seed: int = 0) -> World:
    """Draw the world; every combination of codes has ``per_code`` items."""
    rng = np.random.default_rng(seed)
    letters, digits = (np.repeat(codes.ravel(), per_code) for codes in np.mgrid[:CODES, :CODES])
    blocks = {"text": _vectors(letters, rng), "image": _vectors(digits, rng)}
    groups = letters * CODES + digits
    likes = []
    for person in range(people):
        mine = np.flatnonzero(groups == person % CODES**2)
        likes.append(rng.permutation(mine)[: max(2, per_code - 1)].tolist())
    present = np.ones((len(letters), 2), dtype=bool)
    return World(Modalities(blocks, present), Histories.from_lists(likes))


def _vectors(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit rows: a third of the squared length tells the code, the rest is noise elsewhere."""
    basis = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    telling = basis[codes]
    noise = rng.normal(size=(len(codes), DIM - CODES)) @ basis[CODES:]
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    vectors = telling * np.sqrt(1 / 3) + noise * np.sqrt(2 / 3)
    return vectors.astype(np.float32)


def write_dataset(folder: Path, histories: Histories, n_items: int) -> Path:
    """A dataset as ``llmrec ingest`` would write it; liked events have rating 5, others 1."""
    users = np.repeat(np.arange(len(histories)), histories.lengths())
    events = {
        "user": users.astype(np.int32),
        "item": histories.items,
        "type": ["rating"] * len(users),
        "timestamp": np.arange(len(users), dtype=np.float64),
        "rating": np.full(len(users), 5.0),
        "split": np.zeros(len(users), dtype=np.int8),
    }
    ids = {"item_id": [f"i{n}" for n in range(n_items)]}
    people = {"user_id": [f"u{n}" for n in range(len(histories))]}
    manifest = Manifest("ingest", {"format": "by hand"}, counts={"items": n_items})
    with writing(folder, manifest) as run:
        pq.write_table(pa.table(ids), run.folder / "items.parquet")
        pq.write_table(pa.table(people), run.folder / "users.parquet")
        pq.write_table(pa.table(events), run.folder / "events.parquet")
    return folder


def write_features(folder: Path, vectors: np.ndarray) -> Path:
    """Text vectors as ``llmrec embed`` would write them."""
    with writing(folder, Manifest("embed", {"by": "hand", "rows": len(vectors)})) as run:
        present = np.ones(len(vectors), np.uint8)
        save_file({"text": vectors, "present": present}, run.folder / "embeddings.safetensors")
    return folder


def write_media(folder: Path, blocks: dict[str, np.ndarray], present: np.ndarray) -> Path:
    """Vectors as ``llmrec embed media`` would write them; all blocks have the same mask."""
    stored = {**blocks, **{f"{name}_present": present.astype(np.uint8) for name in blocks}}
    with writing(folder, Manifest("embed-media", {"by": "hand"})) as run:
        save_file(stored, run.folder / "media.safetensors")
    return folder
