"""A described catalogue of 40 items, 60 people, and expanded bases of width 32."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forks
from tiny_expanded import write_catalogue, write_expanded
from tiny_models import random_semantic_ids

from llmrec.item_ids.item_ids import ItemIds

N_ITEMS = 40


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``dataset`` and ``timed``, and the bases ``atomic`` and ``untied``.

    ``untied`` has semantic IDs, time tokens and an instruction.
    """
    home = tmp_path_factory.mktemp("tune")
    write_catalogue(home / "dataset", N_ITEMS)
    write_catalogue(home / "timed", N_ITEMS, times=True)
    write_expanded(home / "atomic", ItemIds.atomic(N_ITEMS, spare=4))
    write_expanded(
        home / "untied",
        random_semantic_ids(N_ITEMS, (7, 8)),
        tied=False,
        time_fields=("gap", "month"),
        prompt="recommend_instruct",
    )
    return home


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Runs of ``llmrec tune`` in processes of their own."""
    forks = Forks.start()
    yield forks
    forks.close()
