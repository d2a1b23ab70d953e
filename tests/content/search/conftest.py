"""A shop small enough to know each answer, seen by a tiny CLIP of the real class."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "features"))  # for its tiny models


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from search_shop import make_shop  # its imports need the media extra

    return make_shop(tmp_path_factory.mktemp("search_shop"))
