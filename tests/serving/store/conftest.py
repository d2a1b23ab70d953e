"""An empty store in each database that is served."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrec.serving.store.database import Store


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL of the tests' own, or of ``$LLMREC_POSTGRES``."""
    if "LLMREC_POSTGRES" in os.environ:
        yield os.environ["LLMREC_POSTGRES"]
        return
    pg_ctl = shutil.which("pg_ctl")
    if pg_ctl is None or os.geteuid() == 0:
        pytest.skip("no PostgreSQL that this user may start; set LLMREC_POSTGRES to a URL")
    home = tmp_path_factory.mktemp("postgres")
    options = f"-k {home} -c listen_addresses="
    for command in (
        [pg_ctl, "init", "-s", "-D", f"{home}/data", "-o", "--auth=trust --username=llmrec"],
        [pg_ctl, "start", "-s", "-w", "-D", f"{home}/data", "-o", options, "-l", f"{home}/log"],
    ):
        subprocess.run(command, check=True, timeout=60)
    try:
        yield f"postgresql://llmrec@/postgres?host={home}"
    finally:
        subprocess.run([pg_ctl, "stop", "-s", "-m", "fast", "-D", f"{home}/data"], check=True)


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
