"""Fixtures of the tests of media."""

from collections.abc import Iterator

import pytest
from media_server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running, serving(running):
        yield running
