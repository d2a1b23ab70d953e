"""The adapter that comes with llmrec: what it calls, and that vLLM calls the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from demo_turns import DEMO, Asked

from llmrec.serving.assistant.calls import ToolCall
from llmrec.serving.assistant.mind import BASE, SHIPPED, EmbeddedModel

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, of all kinds


@pytest.fixture(scope="module")
def vllm(vllm_here: None) -> Iterator[EmbeddedModel]:
    from llmrec.serving.assistant.vllm_decoder import VllmCallDecoder

    decoder = VllmCallDecoder(BASE, SHIPPED)
    yield EmbeddedModel(decoder)
    decoder.close()


@pytest.fixture(scope="module")
def torch_model() -> EmbeddedModel:
    return EmbeddedModel.load(dtype="float32")


@pytest.mark.parametrize("asked", DEMO, ids=lambda asked: asked.message[:20])
def test_the_shipped_adapter_calls_right_on_both_engines(
    torch_model: EmbeddedModel, vllm: EmbeddedModel, asked: Asked
) -> None:
    found: list[Any] = list(torch_model.next_step(asked))
    assert found == [asked.call.name, asked.call]
    assert isinstance(found[-1], ToolCall)
    assert list(vllm.next_step(asked)) == found
