"""A dataset and item IDs that a training run reads in a blink."""

import pytest
from tiny_models import Folders, make_histories, random_semantic_ids, write_dataset, write_item_ids

from llmrec.item_ids.item_ids import ItemIds

N_ITEMS = 40


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """200 people, 40 items, no timestamps."""
    home = tmp_path_factory.mktemp("train_inputs")
    return Folders(
        write_dataset(home / "dataset", make_histories(200, N_ITEMS), N_ITEMS),
        write_item_ids(home / "atomic", ItemIds.atomic(N_ITEMS, spare=4)),
        write_item_ids(home / "semantic", random_semantic_ids(N_ITEMS, (7, 8))),
    )
