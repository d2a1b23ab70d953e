"""The service over a real vLLM server: the items of our own engine, and clear words without it."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from fastapi.testclient import TestClient
from tiny_tuned import Tuned
from vllm_here import ENVIRONMENT

from llmrec.errors import ConfigError
from llmrec.generation import vllm_server
from llmrec.generation.vllm_command import serve_vllm, server_command
from llmrec.generation.vllm_server import ServerTokens
from llmrec.generation.vllm_start import VllmSettings, model_and_adapters
from llmrec.serving.app import create_app
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender

N = 8


def free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return int(it.getsockname()[1])


@pytest.fixture(scope="module")
def vllm_url(tuned_semantic: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vLLM server on the bundle, as ``llmrec vllm`` starts it."""
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    port, log = free_port(), tmp_path_factory.mktemp("vllm") / "log"
    model, adapters = model_and_adapters(tuned_semantic.bundle, [])
    command = server_command(model, adapters, VllmSettings(), "127.0.0.1", port)
    own = {"VLLM_USE_V2_MODEL_RUNNER": "0", "OMP_NUM_THREADS": "1"}
    with (
        open(log, "w") as file,
        subprocess.Popen(
            command, env=os.environ | ENVIRONMENT | own, stdout=file, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        except BaseException:
            print(log.read_text()[-5000:])
            raise
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def remote(vllm_url: str, tuned_semantic: Tuned) -> Iterator[Bundle]:
    bundle = Bundle(tuned_semantic.bundle, vllm_url=vllm_url)
    yield bundle
    bundle.close()


def bodies(bundle: Bundle) -> Iterator[dict[str, Any]]:
    items = bundle.item_ids
    for model in ("llmrec", "recommend", "gifts"):
        yield {"model": model, "history": items[3:9]}
    yield {"history": []}
    yield {"model": "gifts", "history": items[40:42], "exclude": items[:30]}
    yield {"history": items[:3], "allow": items[50:70]}
    yield {"history": items[5:9], "candidates": items[60:90]}
    yield {"query": "something warm", "history": items[7:9]}


def test_the_service_gives_the_items_of_our_own_engine(
    remote: Bundle, tuned_semantic: Tuned
) -> None:
    own = Bundle(tuned_semantic.bundle)
    with (
        TestClient(create_app(Recommender(own))) as ours,
        TestClient(create_app(Recommender(remote))) as theirs,
    ):
        for body in bodies(own):
            expected, found = (
                client.post("/v1/recommendations", json=body | {"n": N}).json()
                for client in (ours, theirs)
            )
            items = [one["item_id"] for one in found["recommendations"]]
            assert items == [one["item_id"] for one in expected["recommendations"]], body
            scores = [one["score"] for one in found["recommendations"]]
            assert scores == pytest.approx(
                [one["score"] for one in expected["recommendations"]], abs=1e-3
            )
        answer = theirs.post(
            "/v1/chat/completions",
            json={"model": "gifts", "messages": [{"role": "user", "content": ""}], "n": 3},
        )
        assert len(answer.json()["recommendations"]) == 3


def test_another_model_is_refused(remote: Bundle, vllm_url: str) -> None:
    with pytest.raises(ConfigError, match=r"serves llmrec-.*, not llmrec-other; start it"):
        ServerTokens(vllm_url, "llmrec-other", start_seconds=0)


def test_without_a_server_it_says_what_to_do(
    remote: Bundle, tuned_semantic: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(vllm_server, "START_SECONDS", 0.0)
    with pytest.raises(ConfigError, match=r"no vLLM answers at .*start it with  llmrec vllm"):
        ServerTokens(gone, "llmrec", start_seconds=0)
    with pytest.raises(ConfigError, match="'ftp://x' is no address such as"):
        ServerTokens("ftp://x", "llmrec")
    with TestClient(create_app(Recommender(remote)), raise_server_exceptions=False) as client:
        monkeypatch.setattr(remote.llm_of(None)._vllm.tokens, "url", gone)
        answer = client.post("/v1/recommendations", json={"history": remote.item_ids[:2]})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "no_engine"
        assert client.get("/healthz").status_code == 200


def test_the_command_can_be_shown(
    tuned_semantic: Tuned, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch.dict(os.environ):
        serve_vllm(tuned_semantic.bundle, port=8123, show=True)
    printed = capsys.readouterr().out
    for part in ("--port 8123", "--logprobs-mode processed_logprobs", "--max-loras 3", "gifts="):
        assert part in printed
    assert Path(printed.split("--model ")[1].split()[0]) == tuned_semantic.bundle / "model"
