"""One shop and one model for all tests of captions."""

from pathlib import Path

import pytest
from caption_world import write_model, write_schema, write_shop


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("caption_model") / "nano")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``dataset``, ``media`` and ``fields.yaml``."""
    folder = write_shop(tmp_path_factory.mktemp("caption_shop"))
    write_schema(folder / "fields.yaml")
    return folder
