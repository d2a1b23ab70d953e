"""A saved model on a real vLLM: it says what transformers says, about pictures and videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llmrec.captions.inputs import prepare_input, processor_media, vllm_media
from llmrec.captions.prompting import ModelInput, render_prompt
from llmrec.captions.training.llava import load_multimodal, new_multimodal, save_multimodal
from llmrec.content.clip.model import new_clip, save_clip
from llmrec.content.media.video import Clip
from llmrec.content.schema import Field, Schema

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, of all kinds

SCHEMA = Schema({"colour": Field(["red", "blue"])})
TOKENS = 12


@dataclass
class Served:
    """A model's folder and vLLM on it."""

    folder: Path
    llm: Any


def taken_over(folder: Path) -> Path:
    """A CLIP of ours, whose tower a model of pictures takes over with its class token."""
    torch.manual_seed(0)
    save_clip(new_clip("vit-nano")[0], "vit-nano", folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["pictures", "videos"])
def served(
    vllm_here: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    from vllm import LLM

    texts = ["Known: a red dress", "Give this product's colour as JSON."] * 9
    clip = None if request.param else taken_over(tmp_path_factory.mktemp("clip"))
    model, processor = new_multimodal("llava-nano", clip=clip, texts=texts, video=request.param)
    with torch.no_grad():  # so that a random model's answers depend on what it is shown
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "vision" not in name:
                weight.mul_(4)
    folder = save_multimodal(model, processor, tmp_path_factory.mktemp("served") / "model")
    llm = LLM(
        model=str(folder),
        dtype="float32",
        enforce_eager=not torch.cuda.is_available(),
        max_model_len=512,
        generation_config="vllm",
        kv_cache_memory_bytes=2**27,
    )
    yield Served(folder, llm)
    llm.llm_engine.engine_core.shutdown()


def seen_items() -> list[ModelInput]:
    """Pictures, a video, both, and neither."""
    rng = np.random.default_rng(0)

    def pixels(*shape: int) -> np.ndarray:
        return rng.integers(0, 255, (*shape, 3), dtype=np.uint8)

    clips = [Clip(pixels(n, 40, 31), np.arange(n, dtype=np.float32)) for n in (2, 3)]
    return [
        ModelInput(image=Image.fromarray(pixels(57, 33)), text="a dress"),
        ModelInput(image=Image.fromarray(pixels(20, 90)), text="a dress"),
        ModelInput(image=Image.fromarray(pixels(16, 16)), video=clips[0]),
        ModelInput(video=clips[1]),
        ModelInput(text="words alone", transcript="and what is said"),
    ]


def by_transformers(model: Any, processor: Any, given: ModelInput, prompt: str) -> tuple[Any, Any]:
    """Prompt and answer as token ids, and the log-probability of each token of the answer."""
    inputs = processor(
        text=prompt, return_tensors="pt", add_special_tokens=False, **processor_media(given)
    )
    with torch.inference_mode():
        out = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=TOKENS,
            return_dict_in_generate=True,
            output_logits=True,
        )
    whole = out.sequences[0].tolist()
    said = whole[inputs["input_ids"].shape[1] :]
    logs = [logits[0].log_softmax(-1) for logits in out.logits]
    return whole, [float(log[token]) for log, token in zip(logs, said, strict=True)]


def test_vllm_says_what_transformers_says(served: Served) -> None:
    from vllm import SamplingParams

    model, processor = load_multimodal(served.folder)
    given = [prepare_input(processor, one) for one in seen_items()]
    prompts = [render_prompt(processor, "attributes", one, SCHEMA) for one in given]
    asked = [
        {"prompt": prompt, "multi_modal_data": vllm_media(one)}
        for one, prompt in zip(given, prompts, strict=True)
    ]
    params = SamplingParams(temperature=0, max_tokens=TOKENS, logprobs=0)
    answers = served.llm.generate(asked, params, use_tqdm=False)
    first = set()
    for one, prompt, answer in zip(given, prompts, answers, strict=True):
        whole, logs = by_transformers(model, processor, one, prompt)
        said = answer.outputs[0]
        assert [*answer.prompt_token_ids, *said.token_ids] == whole
        found = [at[token].logprob for at, token in zip(said.logprobs, said.token_ids, strict=True)]
        np.testing.assert_allclose(found, logs, rtol=0, atol=1e-4)
        first.add(round(logs[0], 2))
    assert len(first) == len(given)  # each depends on what was shown
