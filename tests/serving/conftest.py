"""A real server on a free port, and the official client for it."""

import threading
import time
from collections.abc import Iterator

import openai
import pytest
import uvicorn

from llmrec.bundle import Bundle
from llmrec.serving.app import create_app


@pytest.fixture(scope="session")
def url(atomic: Bundle) -> Iterator[str]:
    """Address of a server of the atomic bundle."""
    config = uvicorn.Config(
        create_app(atomic), host="127.0.0.1", port=0, log_level="warning", ws="none"
    )
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
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened
