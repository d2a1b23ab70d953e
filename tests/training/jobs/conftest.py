"""A base and a dataset for jobs that train."""

from pathlib import Path

import pytest
from tiny_expanded import write_catalogue, write_expanded

from llmrec.item_ids.item_ids import ItemIds


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``base`` and ``dataset``."""
    place = tmp_path_factory.mktemp("jobs")
    write_catalogue(place / "dataset", 40)
    write_expanded(place / "base", ItemIds.atomic(40, spare=4))
    return place
