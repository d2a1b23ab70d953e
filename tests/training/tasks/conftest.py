"""A described catalogue of 40 items, 60 people, and a base that says the items."""

import json
from pathlib import Path

import pytest
from tiny_expanded import corpus_of, write_catalogue, write_expanded
from tiny_models import random_semantic_ids

from llmrec.item_ids.item_ids import ItemIds
from llmrec.training.tasks.corpus import TaskCorpus

N_ITEMS = 40


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``dataset`` and ``timed``, and the bases ``atomic`` and ``semantic``."""
    home = tmp_path_factory.mktemp("tasks")
    write_catalogue(home / "dataset", N_ITEMS)
    write_catalogue(home / "timed", N_ITEMS, times=True)
    write_expanded(home / "atomic", ItemIds.atomic(N_ITEMS, spare=4))
    write_expanded(
        home / "semantic",
        random_semantic_ids(N_ITEMS, (7, 8)),
        time_fields=("gap", "month"),
        prompt="recommend_instruct",
    )
    rows = [{"prompt": f"Is {n} even?", "completion": str(n % 2 == 0)} for n in range(40)]
    (home / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


@pytest.fixture(scope="session")
def corpus(home: Path) -> TaskCorpus:
    """Atomic IDs, no times."""
    return corpus_of(home / "dataset", home / "atomic", home / "own.jsonl")


@pytest.fixture(scope="session")
def timed(home: Path) -> TaskCorpus:
    """Semantic IDs, time tokens and an instruction."""
    return corpus_of(home / "timed", home / "semantic", home / "own.jsonl")
