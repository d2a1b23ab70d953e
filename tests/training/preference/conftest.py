"""A catalogue with prices and stock, 60 people, expanded bases of width 32 and adapters on them."""

from pathlib import Path

import pytest
from prefer_runs import make_adapter
from tiny_expanded import write_catalogue, write_expanded
from tiny_models import random_semantic_ids

from llmrec.item_ids.item_ids import ItemIds

N_ITEMS = 40


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``dataset`` and ``timed``, the bases ``atomic`` and ``untied``, an adapter on each.

    Every third item is out of stock. ``untied`` has semantic IDs, time tokens and an instruction.
    """
    home = tmp_path_factory.mktemp("prefer")
    for name, times in (("dataset", False), ("timed", True)):
        in_stock = [n % 3 != 0 for n in range(N_ITEMS)]
        write_catalogue(home / name, N_ITEMS, times=times, in_stock=in_stock)
    write_expanded(home / "atomic", ItemIds.atomic(N_ITEMS, spare=4))
    write_expanded(
        home / "untied",
        random_semantic_ids(N_ITEMS, (7, 8)),
        tied=False,
        time_fields=("gap", "month"),
        prompt="recommend_instruct",
    )
    for base in ("atomic", "untied"):
        make_adapter(home / base, home / f"{base}-adapter")
    return home
