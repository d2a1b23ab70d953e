"""A dataset and item IDs that a training run reads in a blink."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from llmrec.item_ids.item_ids import ItemIds
from tiny_models import random_semantic_ids, write_dataset, write_item_ids

N_ITEMS = 40


@dataclass(frozen=True)
class Folders:
    """Inputs of ``llmrec train``."""

    dataset: Path
    atomic: Path
    semantic: Path


def make_histories(users: int, seed: int = 0) -> list[list[int]]:
    """Walks along the catalogue, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in rng.integers(4, 10, users):
        steps = rng.choice([1, 2, 7], length, p=[0.7, 0.2, 0.1])
        rows.append(((rng.integers(N_ITEMS) + np.cumsum(steps)) % N_ITEMS).tolist())
    return rows


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """200 people, 40 items, no timestamps."""
    home = tmp_path_factory.mktemp("train_inputs")
    return Folders(
        write_dataset(home / "dataset", make_histories(200), N_ITEMS),
        write_item_ids(home / "atomic", ItemIds.atomic(N_ITEMS, spare=4)),
        write_item_ids(home / "semantic", random_semantic_ids(N_ITEMS, (7, 8))),
    )
