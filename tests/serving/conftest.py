"""A real server on a free port, and the official client for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import openai
import pytest
import uvicorn
from cascade_shop import copied, recommender, shop
from fastapi import FastAPI

from llmrec.serving.app import create_app
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender

__all__ = ["copied", "recommender", "shop"]

Serve = Callable[[FastAPI], AbstractContextManager[str]]


@contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    """Address of a server that runs while the block does."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Runs a server, see :func:`_served`."""
    return _served


@pytest.fixture(scope="session")
def url(serve: Serve, atomic: Bundle) -> Iterator[str]:
    """Address of a server of the atomic bundle."""
    with serve(create_app(Recommender(atomic))) as address:
        yield address


@pytest.fixture(scope="session")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened
