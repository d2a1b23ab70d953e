"""The engine computes what the model's own forward pass does, for every family it takes."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import every_id, make_world

from llmrec.errors import ConfigError
from llmrec.generation.beam_search import decode_slots
from llmrec.generation.candidates import score_candidates
from llmrec.generation.engine import TorchEngine, right_pad
from llmrec.generation.frontier import Scoring
from llmrec.generation.kv_cache import DecodeState, PrefillState
from llmrec.llm.vocabulary import Vocabulary

VOCABULARY = Vocabulary(12, ("gap",), (5, 6, 7), (5, 6, 7))
TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama with a head each": ("Llama", {"num_key_value_heads": 4}),
    "llama with one key head": ("Llama", {"num_key_value_heads": 1}),
    "llama with one layer": ("Llama", {"num_hidden_layers": 1}),
    "llama with wide heads": ("Llama", {"head_dim": 16}),
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, tied": ("Llama", {"tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": 48}),
    "qwen2": ("Qwen2", {}),
    "qwen2, tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {}),
    "qwen3, tied": ("Qwen3", {"tie_word_embeddings": True}),
    "gemma": ("Gemma", {}),
    "granite without multipliers": ("Granite", {}),
    "starcoder2": ("Starcoder2", {}),
}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "granite, embeddings": ("Granite", {"embedding_multiplier": 12.0}),
    "granite, residuals": ("Granite", {"residual_multiplier": 0.22}),
    "granite, logits": ("Granite", {"logits_scaling": 8.0}),
    "gemma2": ("Gemma2", {}),
    "cohere": ("Cohere", {}),
    "olmo2": ("Olmo2", {}),
    "stablelm": ("StableLm", {}),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 4}),
    "phi3": ("Phi3", {}),
}


def make_model(family: str, **changes: Any) -> Any:
    """A tiny model of a family, none of whose parameters is zero or one."""
    shape = {
        "vocab_size": VOCABULARY.size + 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**shape | changes)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def make_prompts(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY.size, length) for length in lengths]


@torch.inference_mode()
def own_logits(model: Any, tokens: list[int], level: int) -> torch.Tensor:
    """float32 [codes], what the model itself predicts after some tokens."""
    start, end = VOCABULARY.level_range(level)
    logits = model(torch.tensor([tokens])).logits[0, -1].float()
    return logits[VOCABULARY.item_offset + start : VOCABULARY.item_offset + end]


def token(level: int, code: int) -> int:
    return VOCABULARY.item_offset + VOCABULARY.level_range(level)[0] + code


@torch.inference_mode()
def check_prefill(engine: TorchEngine, prompts: list[np.ndarray], prefix: PrefillState) -> None:
    assert prefix.lengths.tolist() == [len(prompt) for prompt in prompts]
    found = engine.logits(prefix.hidden, 0)
    expected = [own_logits(engine.model, prompt.tolist(), 0) for prompt in prompts]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def check_decoding(engine: TorchEngine, prompts: list[np.ndarray], prefix: PrefillState) -> None:
    """Beams that fork, end and change places, over two levels."""
    users = len(prompts)
    first = torch.tensor([[0, 3, 1]]).repeat(users, 1)
    parents = torch.tensor([[2, 0, 0, 2]]).repeat(users, 1)
    second = torch.tensor([[4, 0, 5, 1]]).repeat(users, 1)
    first[0], parents[0] = torch.tensor([4, 2, 0]), torch.tensor([1, 1, 2, 0])
    once = engine.extend(first, 0, torch.zeros_like(first), DecodeState.start(prefix))
    after_one = engine.logits(once.hidden, 1)
    after_two = engine.logits(engine.extend(second, 1, parents, once).hidden, 2)
    for user, prompt in enumerate(prompts):
        sequences = [[*prompt.tolist(), token(0, int(code))] for code in first[user]]
        for beam, tokens in enumerate(sequences):
            expected = own_logits(engine.model, tokens, 1)
            torch.testing.assert_close(after_one[user, beam], expected, atol=1e-4, rtol=1e-4)
        for beam, (parent, code) in enumerate(zip(parents[user], second[user], strict=True)):
            tokens = [*sequences[int(parent)], token(1, int(code))]
            expected = own_logits(engine.model, tokens, 2)
            torch.testing.assert_close(after_two[user, beam], expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module", params=TAKEN)
def engine(request: pytest.FixtureRequest) -> TorchEngine:
    family, changes = TAKEN[request.param]
    return TorchEngine(make_model(family, **changes), VOCABULARY)


@pytest.mark.parametrize("padding", ["right", "left", "both"])
def test_it_reads_and_says_what_the_model_does(engine: TorchEngine, padding: str) -> None:
    prompts = make_prompts(4, 9, 1, 9, 6)
    tokens, mask = right_pad(prompts)
    if padding != "right":
        shift = mask.shape[1] - mask.sum(1)
        if padding == "both":
            shift = shift // 2
        place = (torch.arange(mask.shape[1]) - shift[:, None]) % mask.shape[1]
        tokens, mask = tokens.gather(1, place), mask.gather(1, place)
    tokens = tokens.masked_fill(~mask, 7)  # what stands in padding must not matter
    prefix = engine.prefill(tokens, mask, slots=7)
    check_prefill(engine, prompts, prefix)
    check_decoding(engine, prompts, prefix)


def test_it_goes_on_from_a_past(engine: TorchEngine) -> None:
    prompts = make_prompts(4, 9, 3, 9, 6)
    known = [2, 5, 0, 8, 5]
    tokens, mask = right_pad([p[: max(k, 1)] for p, k in zip(prompts, known, strict=True)])
    past = engine.prefill(tokens, mask)
    nothing = torch.tensor(known) == 0  # what is in the places that are not present must not matter
    past = replace(
        past,
        present=past.present & ~nothing[:, None],
        lengths=past.lengths.masked_fill(nothing, 0),
    )
    rest = right_pad([p[k:] for p, k in zip(prompts, known, strict=True)])
    prefix = engine.prefill(*rest, slots=7, past=past)
    check_prefill(engine, prompts, prefix)
    check_decoding(engine, prompts, prefix)


@given(lengths=st.lists(st.integers(2, 12), min_size=1, max_size=4), data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_reading_in_parts_is_reading_at_once(lengths: list[int], data: st.DataObject) -> None:
    engine = make_world(every_id((5, 6, 7)), (5, 6, 7)).engine
    rng = np.random.default_rng(len(lengths))
    prompts = [rng.integers(0, engine.vocabulary.size, length) for length in lengths]
    whole = engine.prefill(*right_pad(prompts))
    cuts = [sorted(data.draw(st.sets(st.integers(1, len(p) - 1), max_size=3))) for p in prompts]
    steps = min(map(len, cuts))
    prefix, done = None, [0] * len(prompts)
    for step in range(steps + 1):
        until = [
            len(p) if step == steps else cut[step] for p, cut in zip(prompts, cuts, strict=True)
        ]
        part = [p[a:b] for p, a, b in zip(prompts, done, until, strict=True)]
        prefix, done = engine.prefill(*right_pad(part), past=prefix), until
    assert prefix is not None
    assert torch.equal(prefix.lengths, whole.lengths)
    torch.testing.assert_close(prefix.hidden, whole.hidden, atol=1e-4, rtol=1e-4)


def test_a_prefix_of_some_users_is_theirs() -> None:
    engine = TorchEngine(make_model("Qwen3"), VOCABULARY)
    prompts = make_prompts(4, 9, 1, 6)
    prefix = engine.prefill(*right_pad(prompts))
    some = prefix.select(torch.tensor([3, 0]), slots=7)
    assert len(some) == 2
    check_prefill(engine, [prompts[3], prompts[0]], some)
    check_decoding(engine, [prompts[3], prompts[0]], some)
    check_decoding(engine, [prompts[3]], prefix.select(torch.tensor([3]), slots=7))


def test_more_padding_changes_nothing() -> None:
    engine = TorchEngine(make_model("Qwen3"), VOCABULARY)
    prompts = make_prompts(4, 9, 1)
    tokens, mask = right_pad(prompts, 16)
    assert tokens.shape == mask.shape == (3, 16)
    prefix = engine.prefill(tokens, mask, slots=7)
    check_prefill(engine, prompts, prefix)
    check_decoding(engine, prompts, prefix)


def test_without_keys_the_last_state_is_the_same() -> None:
    engine = TorchEngine(make_model("Qwen2"), VOCABULARY)
    tokens, mask = right_pad(make_prompts(4, 9))
    slim = engine.prefill(tokens, mask, keep=False)
    assert slim.keys == slim.values == []
    torch.testing.assert_close(slim.hidden, engine.prefill(tokens, mask).hidden)


def test_a_bias_of_the_head_counts() -> None:
    model = make_model("Llama")
    model.lm_head = torch.nn.Linear(32, VOCABULARY.size + 3, bias=True)
    engine = TorchEngine(model, VOCABULARY)
    prompts = make_prompts(4, 9)
    prefix = engine.prefill(*right_pad(prompts), slots=7)
    check_prefill(engine, prompts, prefix)
    check_decoding(engine, prompts, prefix)


def test_half_precision_keeps_the_order_of_items_that_are_apart() -> None:
    world = make_world(every_id((5, 6, 7)), (5, 6, 7), (4, 9, 6, 12))
    items = torch.arange(world.n_items).repeat(4, 1)

    def scores(engine: TorchEngine) -> torch.Tensor:
        free = decode_slots(world.trie, world.n_items)
        prefix = engine.prefill(*right_pad(world.prompts), slots=free)
        return score_candidates(engine, world.trie, prefix, items, Scoring())

    full = scores(world.engine)
    model = copy.deepcopy(world.engine.model).bfloat16()
    half = scores(TorchEngine(model, world.engine.vocabulary))
    assert half.dtype == torch.float32
    assert float((half - full).abs().mean()) < 0.1
    distinct = full[:, :, None] - full[:, None] > 1.0
    assert distinct.float().mean() > 0.3, "the example shows nothing"
    assert (half[:, :, None] > half[:, None])[distinct].all()


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_is_joined_differently_is_refused(family: str) -> None:
    name, changes = REFUSED[family]
    with pytest.raises(ConfigError, match=f"base: {name}ForCausalLM .*LLaMA") as error:
        TorchEngine(make_model(name, **changes), VOCABULARY)
    assert "\n" not in str(error.value)


def test_the_same_is_noticed_in_half_precision() -> None:
    model = make_model("Granite", logits_scaling=2.0).bfloat16()
    with pytest.raises(ConfigError, match="joins its parts in another way"):
        TorchEngine(model, VOCABULARY)
    TorchEngine(make_model("Granite").bfloat16(), VOCABULARY)


def test_a_model_that_was_not_expanded_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"rows for 40 tokens, its item IDs need 47"):
        TorchEngine(make_model("Llama", vocab_size=40), VOCABULARY)


@pytest.mark.parametrize(
    ("family", "changes", "tokens"),
    [
        ("Llama", {}, 64),
        ("Mistral", {"sliding_window": 48}, 48),
        ("Mistral", {"sliding_window": None}, 64),
        ("Qwen2", {"use_sliding_window": False, "sliding_window": 8}, 64),
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, 8),
    ],
)
def test_the_context_ends_with_the_positions_or_the_window(
    family: str, changes: dict[str, Any], tokens: int
) -> None:
    assert TorchEngine(make_model(family, **changes), VOCABULARY).max_tokens == tokens
