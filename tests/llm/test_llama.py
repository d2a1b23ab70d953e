"""Fresh models of a named size, folders as a base, and dropout that leaves no trace."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_llama

from llmrec.errors import ArtifactError, ConfigError
from llmrec.llm.llama import SIZES, add_dropout, from_folder, from_size
from llmrec.llm.tokenizer import add_tokens, load_tokenizer

TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


@pytest.mark.parametrize("name", ["nano", "micro", "mini"])
def test_a_size_is_a_llama_of_that_shape(name: str) -> None:
    size, model = SIZES[name], from_size(name, 300, 100, TOKENS)
    assert len(model.model.layers) == size.layers
    assert model.get_input_embeddings().weight.shape == (300, size.width)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.model.layers[0].mlp.up_proj.weight.shape == (size.feed_forward, size.width)
    assert model.config.bos_token_id == 1


def test_sizes_grow_and_divide_by_their_heads() -> None:
    assert all(size.width % size.heads == 0 for size in SIZES.values())
    assert [s.width for s in SIZES.values()] == sorted(s.width for s in SIZES.values())


def test_positions_reach_as_far_as_the_longest_prompt() -> None:
    assert from_size("nano", 300, 1000, TOKENS).config.max_position_embeddings == 1000


def test_an_unknown_size_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="base: unknown size 'giant'; known sizes: nano, micro"):
        from_size("giant", 300, 100, TOKENS)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"base: '{tmp_path}' is neither a size") as caught:
        from_folder(str(tmp_path), 300, torch.float32)
    assert "\n" not in str(caught.value)


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    tiny_llama(40).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=f"base: '{tmp_path}'"):
        from_folder(str(tmp_path), 50, torch.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"num_hidden_layers is 100,000, and the weights .* have only 20 tensors"),
        ("[" * 100_000, "nested deeper than 64 levels"),
    ],
)
def test_a_configuration_that_does_not_fit_the_weights_is_refused_at_once(
    tmp_path: Path, content: str | None, message: str
) -> None:
    tiny_llama(40).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | {"num_hidden_layers": 100_000}
    path.write_text(content or json.dumps(config))
    started = time.process_time()
    with pytest.raises(ArtifactError, match=rf"^{path}: .*{message}"):
        from_folder(str(tmp_path), 50, torch.float32)
    assert time.process_time() - started < 2.0


def test_a_model_of_another_family_is_named(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="GPT2LMHeadModel is not of the LLaMA family"):
        from_folder(str(tmp_path), 50, torch.float32)


@pytest.mark.parametrize("tied", [True, False])
def test_a_larger_vocabulary_changes_no_old_logit(tmp_path: Path, tied: bool) -> None:
    before = tiny_llama(40, tied=tied)
    before.save_pretrained(tmp_path)
    after = from_folder(str(tmp_path), 55, torch.float32).eval()
    assert after.get_output_embeddings().weight.shape == (55, 32)
    tied_after = after.get_output_embeddings().weight is after.get_input_embeddings().weight
    assert tied_after == tied
    tokens = torch.arange(40)[None]
    with torch.inference_mode():
        old, new = before(tokens).logits, after(tokens).logits
    # sums of 32 products about 1, which a head of another width may add up in another order
    torch.testing.assert_close(new[..., :40], old, rtol=0, atol=1e-5)


def test_a_real_pretrained_llama_still_tells_its_story(shared_data: Path) -> None:
    """Loaded from a folder with item tokens added, it writes what it wrote before."""
    folder = str(shared_data / "stories260k-llama")
    tokenizer = load_tokenizer(folder)
    base_size = len(tokenizer)
    add_tokens(tokenizer, [f"<item_{n}>" for n in range(30)], base_size)
    model = from_folder(folder, base_size + 30, torch.float32).eval()
    words = tokenizer.encode("Once upon a time", add_special_tokens=False)
    start = [tokenizer.bos_token_id, *words]
    text = tokenizer.decode(greedy(model, start, 30, base_size), skip_special_tokens=True)
    assert text.startswith("Once upon a time, there was a little girl named Lily. She loved")


@torch.inference_mode()
def greedy(model: Any, tokens: list[int], more: int, base_size: int) -> list[int]:
    for _ in range(more):
        logits = model(torch.tensor([tokens])).logits[0, -1, :base_size]
        tokens = [*tokens, int(logits.argmax())]
    return tokens


def test_dropout_acts_in_training_only() -> None:
    plain, dropped = tiny_llama(40), tiny_llama(40)
    add_dropout(dropped, 0.5)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        expected = plain(tokens).logits
        torch.testing.assert_close(dropped(tokens).logits, expected, rtol=0, atol=0)
        dropped.train()
        first, second = dropped(tokens).logits, dropped(tokens).logits
        assert not torch.allclose(first, second)
        dropped.eval()
        torch.testing.assert_close(dropped(tokens).logits, expected, rtol=0, atol=0)
    assert dropped.state_dict().keys() == plain.state_dict().keys()


def test_no_dropout_leaves_the_model_alone() -> None:
    model = tiny_llama(40)
    add_dropout(model, 0.0)
    model.train()
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, model(tokens).logits, rtol=0, atol=0)
