"""A real server on a free port, and the official client for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import openai
import pytest
from cascade_shop import copied, recommender, shop
from fastapi import FastAPI
from server import served

from llmrec.serving.app import create_app
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender

__all__ = ["copied", "recommender", "shop"]

Serve = Callable[[FastAPI], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Runs a server, see :func:`server.served`."""
    return served


@pytest.fixture(scope="session")
def url(serve: Serve, atomic: Bundle) -> Iterator[str]:
    """Address of a server of the atomic bundle."""
    with serve(create_app(Recommender(atomic))) as address:
        yield address


@pytest.fixture(scope="session")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened
