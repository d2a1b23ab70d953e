"""SmolLM2 from its package: as transformers reads the file, put right where that is wrong."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf", reason="needs the train extra")

import gguf
import numpy as np
import torch

from llmrec.content.features.models import weights_hash
from llmrec.errors import ArtifactError
from llmrec.llm.llama import from_folder
from llmrec.llm.tokenizer import load_tokenizer
from llmrec.weights.gguf import convert, read_header
from llmrec.weights.known import WEIGHTS

NAME = "smollm2-135m"


@pytest.fixture(scope="module")
def source() -> Path:
    weights = WEIGHTS[NAME]
    path = weights.files[0].find()
    if path is None:
        pytest.skip(f"the weights are not installed: {weights.install_command}")
    return path


@pytest.fixture(scope="module")
def tokenizer(source: Path) -> Any:
    return load_tokenizer(NAME)


@pytest.fixture(scope="module")
def model(source: Path) -> Any:
    return from_folder(NAME, 49152, torch.float32).eval()


def test_it_writes_what_transformers_writes_of_the_file_itself(
    source: Path, tokenizer: Any, model: Any
) -> None:
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    ).eval()
    ids = torch.tensor([tokenizer.encode("The capital of France is")])
    options = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    written, expected = (m.generate(ids, **options) for m in (model, reference))
    assert written.tolist() == expected.tolist()
    assert "Paris" in tokenizer.decode(written[0])
    state, other = model.state_dict(), reference.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in other)


def test_it_answers_and_ends(tokenizer: Any, model: Any) -> None:
    messages = [{"role": "user", "content": "Say only the word: hello"}]
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        written = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    said = written[0, prompt["input_ids"].shape[1] :].tolist()
    assert tokenizer.eos_token == "<|im_end|>" and said[-1] == tokenizer.eos_token_id
    assert "hello" in tokenizer.decode(said).lower()


def test_the_special_tokens_are_those_of_the_file(tokenizer: Any) -> None:
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    assert [getattr(tokenizer, name) for name in names] == [1, 2, 2, 0]
    assert tokenizer.model_max_length == 8192 and len(tokenizer) == 49152


def test_text_is_cut_as_the_model_learned_it(tokenizer: Any) -> None:
    # digits stand alone, so the spaces before one stay together
    assert tokenizer.tokenize("a  2018") == ["a", "ĠĠ", "2", "0", "1", "8"]
    text = "It's 25% off:\n\n  naïve 商品 x=1234.50 .  "
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_short_name_has_the_same_hash_everywhere() -> None:
    assert weights_hash(NAME) == WEIGHTS[NAME].identity != NAME


def write_gguf(path: Path, architecture: str) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_uint32("block_count", 1)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_another_architecture_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", "gpt2")
    with pytest.raises(ArtifactError, match=r"model\.gguf: a GGUF of the architecture 'gpt2'"):
        convert([path], tmp_path)
    read_header(write_gguf(tmp_path / "llama.gguf", "llama"))


@pytest.mark.parametrize("size", [0, 3, 100, 5_000])
def test_a_file_that_is_cut_short_is_named(source: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.gguf"
    with open(source, "rb") as whole:
        path.write_bytes(whole.read(size))
    with pytest.raises(ArtifactError, match=r"cut\.gguf: not a whole GGUF file"):
        convert([path], tmp_path)
