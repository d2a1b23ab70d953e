"""vLLM serves what was trained, as it is: the same items in the same order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tiny_shop import TinyRun

from llmrec.data.dataset import Dataset
from llmrec.generation.llm import AtomicLlm
from llmrec.generation.load import load_llm

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, of all kinds


@pytest.fixture(scope="module")
def vllm_engine(tiny_run: TinyRun) -> Iterator[Any]:
    """The one vLLM engine of the test session, on the atomic model's folder."""
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    from vllm import LLM

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        engine = LLM(
            model=str(tiny_run.model("atomic")),
            dtype="float32",
            enforce_eager=True,
            max_model_len=256,
            generation_config="vllm",
        )
        yield engine
        engine.llm_engine.engine_core.shutdown()


def test_vllm_ranks_the_items_as_our_engine_does(
    vllm_engine: Any, tiny_run: TinyRun, tiny_data: Dataset
) -> None:
    from vllm import SamplingParams

    ours = load_llm(tiny_run.model("atomic"))
    assert isinstance(ours, AtomicLlm)
    histories = tiny_data.cases("test").histories.select(range(20))
    first = ours.encoder.vocabulary.item_offset
    items = list(range(first, first + ours.n_items))
    sampling = SamplingParams(
        max_tokens=1, temperature=0, allowed_token_ids=items, logprob_token_ids=items
    )
    prompts = [{"prompt_token_ids": p.tolist()} for p in ours.prompts(histories)]
    answers = vllm_engine.generate(prompts, sampling, use_tqdm=False)

    expected = ours.score(histories)
    for answer, scores in zip(answers, expected, strict=True):
        said = answer.outputs[0]
        assert said.token_ids[0] - first == scores.argmax()
        found = np.array([said.logprobs[0][token].logprob for token in items])
        # vLLM normalises over the whole vocabulary, we over the items: the same up to a constant
        np.testing.assert_allclose(found - found.max(), scores - scores.max(), atol=1e-4)
