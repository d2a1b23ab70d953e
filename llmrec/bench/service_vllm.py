"""Our service against vLLM's own server and beam search on the same bundle."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmrec.bench import service_load
from llmrec.bench.http_load import keep_asking
from llmrec.bench.service_process import STOP_SECONDS, service_process
from llmrec.errors import LlmrecError, require
from llmrec.generation.vllm_command import server_command
from llmrec.generation.vllm_server import ServerTokens, served_name
from llmrec.generation.vllm_start import VllmSettings, model_and_adapters
from llmrec.llm.layout import read_layout
from llmrec.types import Histories

PROMPTS = 500


def ratio(bundle: Path, folder: Path, seconds: float) -> dict[str, float]:
    """Lists a second of both, one after the other, and their ratio.

    Ours are items alone, of a search with 50 beams; vLLM's beam search has as many beams as items
    are wanted, and is not kept to the catalogue.

    Raises:
        LlmrecError: if vLLM cannot be started.
    """
    require("vllm", "vllm")
    more = {"calibrated": False}
    with service_process(bundle, folder, name="beside-vllm") as service:
        items = asyncio.run(service_load.item_ids(service.url))
        asked = service_load.bodies(items, 11, **more)
        asking = keep_asking(service.url, asked, service_load.MANY, seconds, warm_up=1.5)
        ours = asyncio.run(asking).per_second
    model, _ = model_and_adapters(bundle, [])
    ids, encoder = read_layout(model)
    rng = random.Random(0)
    histories = [rng.sample(range(ids.n_items), service_load.EVENTS) for _ in range(PROMPTS)]
    prompts = [one.tolist() for one in encoder.encode_all(Histories.from_lists(histories))]
    with _server(bundle, folder / "vllm.log") as url:
        theirs = asyncio.run(
            service_load.vllm_per_second(url, served_name(model), prompts, ids.levels, seconds)
        )
    return {
        "vllm_server_ratio": ours / theirs,
        "vllm_per_second@64": theirs,
        "beside_vllm_per_second@64": ours,
    }


@contextmanager
def _server(bundle: Path, log: Path) -> Iterator[str]:
    """A vLLM server that is ready, while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    model, adapters = model_and_adapters(bundle, [])
    command = server_command(model, adapters, VllmSettings(), "127.0.0.1", port)
    own = {"VLLM_USE_V2_MODEL_RUNNER": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with (
        open(log, "w") as file,
        subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | own
        ) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            ServerTokens(url, served_name(model)).close()
            yield url
        except LlmrecError as error:
            raise LlmrecError(f"{error}; {log.read_text()[-500:]}") from error
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
