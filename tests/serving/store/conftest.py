"""An empty store in each database that is served."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrec.bench.scratch_postgres import scratch_postgres, why_no_postgres
from llmrec.serving.store.database import Store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL of the tests' own, or of ``$LLMREC_POSTGRES``."""
    if "LLMREC_POSTGRES" in os.environ:
        yield os.environ["LLMREC_POSTGRES"]
        return
    if why := why_no_postgres():
        pytest.skip(f"{why}; set LLMREC_POSTGRES to a URL")
    with tempfile.TemporaryDirectory(prefix="pg-") as home, scratch_postgres(Path(home)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An opened store without anything in it."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
    with Store(url) as opened:
        yield opened
        if request.param == "postgresql":
            from llmrec.serving.store.tables import METADATA

            METADATA.drop_all(opened._engine)
