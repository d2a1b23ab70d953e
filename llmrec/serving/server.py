"""``llmrec serve BUNDLE``: opens a bundle and listens.

    llmrec serve runs/demo/models/atomic/bundle --port 8000
    llmrec serve BUNDLE --workers 2          # processes over one store; SIGHUP reloads the bundle

A supervisor of workers (uvicorn's) starts a new worker for each old one on SIGHUP, and lets the old
one go when the new one has opened the bundle and passed :func:`self_check`; where it does not, the
old ones stay.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError, LlmrecError
from llmrec.serving.bundle import Bundle, EngineName
from llmrec.serving.experiments.settings import read_experiments
from llmrec.serving.experiments.variants import Variants, open_others
from llmrec.serving.history import dataset_attributes, dataset_histories
from llmrec.serving.json_logs import JSON_LOGS
from llmrec.serving.live import LiveHistories
from llmrec.serving.processes import end_with_parent, limit_arenas, settle_garbage
from llmrec.serving.recommender import Recommender
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.store.database import Store, default_url
from llmrec.stage import read_manifest

if TYPE_CHECKING:
    from fastapi import FastAPI

LOG = logging.getLogger("uvicorn.error")  # which tells of the service's life
# that Python code of the model may run before the event loop gets its turn
SWITCH_SECONDS = 0.001
START_SECONDS = 600  # that a worker may take to open a bundle
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
CHECKED = 3  # items whose followers a self-check asks for
USUAL = ServiceConfig()
Flattened = tyro.conf.arg(name="")  # the flags of a settings class, without its own name


@dataclass(frozen=True)
class Opening:
    """All that a process needs to open a service; the fields are flags of :func:`serve`."""

    bundle: Path
    dataset: Path | None
    beams: int
    cache_mib: int
    calibrated: bool
    verify: bool
    engine: EngineName
    vllm_url: str | None
    store: str
    search_index: Path | None
    media_root: Path | None
    experiments: Path | None
    assistant: str | None
    assistant_url: str | None
    assistant_model: str
    service: ServiceConfig


def serve(
    bundle: Path,
    /,
    dataset: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 0,
    beams: int = 50,
    cache_mib: int = 256,
    calibrated: bool = True,
    verify: bool = True,
    engine: EngineName = "torch",
    vllm_url: str | None = None,
    store: str | None = None,
    search_index: Path | None = None,
    media_root: Path | None = None,
    experiments: Path | None = None,
    assistant: str | None = None,
    assistant_url: str | None = None,
    assistant_model: str = "",
    service: Annotated[ServiceConfig, Flattened] = USUAL,
) -> None:
    """Serve a bundle over an OpenAI-compatible API.

    Args:
        bundle: folder of llmrec bundle.
        dataset: folder of llmrec ingest whose users a request may name.
        host: address to listen on.
        port: to listen on.
        workers: processes that serve, each with the bundle in memory, under a supervisor that
            replaces those that die, and all of them on SIGHUP; 0 for this process alone.
        beams: beam width for semantic IDs.
        cache_mib: memory for the histories of users who come back, in MiB; 0 for none.
        calibrated: let the bundle's click model rank, where it has one.
        verify: check the sha256 of every file of the bundle first.
        engine: what runs the language model: our own, or a vLLM that is started with the service.
        vllm_url: address of a vLLM that llmrec vllm started on the same bundle, to use instead.
        store: URL of the database of events and people, such as postgresql://user@host/shop; an
            SQLite file beside the bundle where none is named.
        search_index: folder of llmrec search index, of the same items, for queries by picture.
        media_root: folder of the catalogue's pictures, for the page at /ui.
        experiments: file of variants and their shares of the people, see
            llmrec.serving.experiments.settings.
        assistant: folder of an adapter of the embedded language model, of training/assistant.yaml,
            for the model `assistant`; `own` is the one that comes with llmrec, and there is no
            assistant where none is named.
        assistant_url: of an OpenAI-compatible endpoint that talks in its place, and while it can;
            its key is in the variable LLMREC_ASSISTANT_KEY.
        assistant_model: of that endpoint; the first that it lists where none is named.
        service: how the service takes requests.
    """
    if workers < 0:
        raise ConfigError(f"--workers: {workers} is no number of processes")
    if workers > 1 and engine == "vllm" and vllm_url is None:
        raise ConfigError("--workers: share one vLLM; start it with llmrec vllm, give --vllm-url")
    url = store or default_url(bundle)
    if not service.allowed_hosts:
        service = replace(service, allowed_hosts=own_names(host))
    opening = Opening(
        bundle, dataset, beams, cache_mib, calibrated, verify, engine, vllm_url, url,
        search_index, media_root, experiments, assistant, assistant_url, assistant_model, service,
    )  # fmt: skip
    with listening(host, port) as taken:
        if experiments is not None:
            read_experiments(experiments)
        read_manifest(bundle, "bundle")  # what is plainly wrong is said before anything is loaded
        if workers:
            run_workers(opening, taken, host, workers)
        else:
            run_here(opening, taken, host)


def own_names(host: str) -> tuple[str, ...]:
    """What a host is called by requests from this machine; nothing for one that others reach.

    >>> own_names("127.0.0.1")
    ('localhost', '127.0.0.1', '[::1]')
    """
    return LOCAL_NAMES if host in LOCAL_NAMES or f"[{host}]" in LOCAL_NAMES else ()


def listening(host: str, port: int) -> socket.socket:
    """A socket that nobody else listens on.

    Raises:
        ConfigError: if somebody does, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except (OSError, OverflowError) as error:
        taken.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            problem = f"--port: something listens on {host}:{port} already; give another one"
        else:
            problem = f"--host: cannot listen on {host}:{port} ({error})"
        raise ConfigError(problem) from None
    taken.set_inheritable(True)
    return taken


def run_here(opening: Opening, taken: socket.socket, host: str) -> None:
    """Serve in this process until a signal ends it."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            _say_running(host, taken)

    Server(_config(opening, taken, host, open_app(opening))).run(sockets=[taken])


def run_workers(opening: Opening, taken: socket.socket, host: str, workers: int) -> None:
    """Serve in some processes until a signal ends them."""
    from uvicorn.supervisors import Multiprocess

    class Supervisor(Multiprocess):
        def init_processes(self) -> None:
            super().init_processes()
            first = self.processes[0]
            while not self.should_exit.is_set() and first.process.is_alive():
                if first.is_ready(timeout=1):
                    return _say_running(host, taken)
                self.handle_signals()

    Store(opening.store).close()  # one that cannot be opened is said once
    app = partial(_open_in_worker, opening)
    config = _config(opening, taken, host, app, workers=workers, factory=True)
    Supervisor(config, sockets=[taken]).run()


def _say_running(host: str, taken: socket.socket) -> None:
    address = f"[{host}]" if ":" in host else host
    LOG.info("llmrec is running on http://%s:%d", address, taken.getsockname()[1])


def open_app(opening: Opening) -> FastAPI:
    """Open everything and check that it answers.

    Raises:
        ArtifactError, ConfigError, StoreError: for what cannot be opened.
    """
    from llmrec.serving.app import create_app
    from llmrec.serving.assistant.open import open_models
    from llmrec.serving.page_api import Pictures

    limit_arenas()
    bundle = Bundle(
        opening.bundle,
        beams=opening.beams,
        cache_mib=opening.cache_mib,
        verify=opening.verify,
        engine=opening.engine,
        vllm_url=opening.vllm_url,
    )
    config = None if opening.experiments is None else read_experiments(opening.experiments)
    # by our own engine, whatever the service's bundle has
    open_other = partial(
        Bundle, beams=opening.beams, cache_mib=opening.cache_mib, verify=opening.verify
    )
    others = {} if config is None else open_others(config, bundle, open_other)
    known = None if opening.dataset is None else Dataset(opening.dataset)
    live = LiveHistories(
        Store(opening.store),
        bundle,
        None if known is None else dataset_histories(known),
        None if known is None else dataset_attributes(known),
        list(others.values()),
    )
    load = partial(
        Recommender.load,
        histories=live.history,
        attributes=live.attributes,
        statistics=live.statistics,
        search=opening.search_index,
        calibrated=opening.calibrated,
    )
    recommender, loaded = load(bundle), {name: load(one) for name, one in others.items()}
    variants = None if config is None else Variants(config, recommender, loaded)
    for one in (recommender, *loaded.values()):
        one.bundle.open_text_encoder()
        self_check(one)
    pictures = Pictures(bundle, opening.media_root)
    people = [] if known is None else known.user_ids
    minds = open_models(opening.assistant, opening.assistant_url, opening.assistant_model)
    app = create_app(recommender, live, opening.service, pictures, people, variants, minds)
    _close_with(app, bundle)
    sys.setswitchinterval(SWITCH_SECONDS)
    settle_garbage()
    return app


def self_check(recommender: Recommender) -> None:
    """Ask for a few lists, as people will.

    Raises:
        ArtifactError: if one is empty.
    """
    bundle = recommender.bundle
    for history in ([], *([item] for item in bundle.item_ids[:CHECKED])):
        found = recommender.recommend(history, 5).recommendations
        if not found and len(bundle.item_ids) > 1:
            problem = f"recommends nothing after {history}; make it again with llmrec bundle"
            raise ArtifactError(f"{bundle.folder}: {problem}")
    for cache in bundle.history_caches():
        cache.reset()  # these were nobody's


def _close_with(app: FastAPI, bundle: Bundle) -> None:
    """End what a bundle has started when the app ends."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: Any) -> AsyncIterator[Any]:
        async with inner(served) as state:
            yield state
        bundle.close()

    app.router.lifespan_context = lifespan


def _config(opening: Opening, taken: socket.socket, host: str, app: Any, **more: Any) -> Any:
    import uvicorn

    if opening.service.log_format == "json":
        more["log_config"] = JSON_LOGS
    return uvicorn.Config(
        app,
        host=host,
        port=taken.getsockname()[1],
        # an access log would name people, and keep them when they are to be forgotten
        access_log=False,
        timeout_graceful_shutdown=round(opening.service.shutdown_seconds),
        timeout_worker_healthcheck=START_SECONDS,
        ws="none",
        **more,
    )


def _open_in_worker(opening: Opening) -> FastAPI:
    from uvicorn.config import STARTUP_FAILURE

    end_with_parent()
    try:
        return open_app(opening)
    except LlmrecError as error:
        print(f"llmrec: error: {error}", file=sys.stderr, flush=True)
        sys.exit(STARTUP_FAILURE)
