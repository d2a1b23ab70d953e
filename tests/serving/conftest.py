"""A real server on a free port, and the official client for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import openai
import pytest
from cascade_shop import copied, recommender, shop
from fastapi import FastAPI
from live_service import PATIENT
from searchable_shop import WHISPER, installed_whisper, search_index
from server import served
from tiny_shop import TinyRun

from llmrec.serving.app import create_app
from llmrec.serving.bundle import Bundle
from llmrec.serving.item_search import ItemSearch
from llmrec.serving.recommender import Recommender
from llmrec.serving.settings import ServiceConfig
from llmrec.weights.known import WEIGHTS

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
def semantic_url(serve: Serve, semantic: Bundle) -> Iterator[str]:
    """Address of a server of the bundle with a few codes an item."""
    with serve(create_app(Recommender(semantic))) as address:
        yield address


@pytest.fixture(scope="session")
def searchable(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an index of the tiny shop's items, each with a picture."""
    return search_index(tiny_run.folder / "dataset", tmp_path_factory.mktemp("searchable"))


@pytest.fixture(scope="session")
def media_url(serve: Serve, atomic: Bundle, searchable: Path) -> Iterator[str]:
    """Address of a server of the atomic bundle that reads pictures and, where there is a Whisper,
    speech."""
    recommender = Recommender(atomic, search=ItemSearch.load(searchable, atomic.items))
    config = ServiceConfig(speech_model=installed_whisper(), **PATIENT)
    with serve(create_app(recommender, config=config)) as address:
        yield address


@pytest.fixture(scope="session")
def media_client(media_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{media_url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="session")
def spoken(shared_data: Path) -> Path:
    """A recording: "mend the coat before you go out"."""
    path = shared_data / "speech" / "spk2_snt4.wav"
    if not path.is_file():
        pytest.skip(f"no recording at {path}")
    if installed_whisper() is None:
        pytest.skip(f"the weights are not installed: {WEIGHTS[WHISPER].install_command}")
    return path


@pytest.fixture(scope="session")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened
