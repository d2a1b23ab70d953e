"""Constrained decoding of calls: always one that the turn allows, in few passes."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
import torch
from tiny_chat import save_chat_model

from llmrec.errors import ArtifactError, ConfigError
from llmrec.serving.assistant.calls import (
    ShownItem,
    ToolCall,
    TurnView,
    messages,
    turn_schema,
    turn_tools,
)
from llmrec.serving.assistant.decoder import CallDecoder
from llmrec.serving.assistant.grammar import call_grammar
from llmrec.serving.assistant.mind import EmbeddedModel, load_adapted
from llmrec.serving.assistant.vocabulary import ShopVocabulary

SHOP = ShopVocabulary.of_items(
    pa.table(
        {
            "categories": [["Accessories", "Scarf"], ["Accessories", "Beanie"]],
            "attributes": [["colour=red"], ["colour=navy"]],
        }
    )
)
SHOWN = TurnView((ShownItem({"colour": ("red",)}, 8.0), ShownItem({"colour": ("navy",)}, 9.5)))
SAID = [
    ("a warm red scarf under 40", TurnView()),
    ("compare them", SHOWN),
    ("the second one, three of them", SHOWN),
    ("not navy, nor red; café crème “please”", SHOWN),
    ("", TurnView()),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    calls = [
        ToolCall(tool, {"category": "scarf", "colour": "red", "item": n, "quantity": 3}).to_json()
        for tool in turn_tools(SHOP, SHOWN)
        for n in range(9)
    ]
    asked = [messages(SHOP, said, view)[1]["content"] for said, view in SAID]
    return save_chat_model(tmp_path_factory.mktemp("chat") / "model", [*calls, *asked])


@pytest.fixture(scope="module")
def decoder(folder: Path) -> CallDecoder:
    model, tokenizer = load_adapted(str(folder), None, "float32")
    return CallDecoder(model, tokenizer, messages(SHOP, "", TurnView())[:1])


def grammar_of(said: str, view: TurnView) -> Callable[[Sequence[str]], str]:
    return lambda tools: call_grammar(SHOP, said, view, tools)


def written(decoder: CallDecoder, said: str, view: TurnView) -> Iterator[str]:
    prompt = messages(SHOP, said, view)
    return decoder.decode(prompt, turn_tools(SHOP, view), grammar_of(said, view))


@pytest.mark.parametrize(("said", "view"), SAID)
def test_a_call_is_always_one_of_the_turn(decoder: CallDecoder, said: str, view: TurnView) -> None:
    name, text = written(decoder, said, view)
    call = ToolCall.of_json(text)
    assert call.name == name
    jsonschema.validate(json.loads(text), turn_schema(SHOP, said, view))
    assert list(written(decoder, said, view)) == [name, text], "what is kept is not changed"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_pass_gives_what_the_model_gives_of_the_whole(decoder: CallDecoder, count: int) -> None:
    model, cache = decoder.model, decoder._cache.grown(20)
    tokens = [5 + n for n in range(count)]
    with torch.inference_mode():
        first = decoder.forward(tokens, cache)
        second = decoder.forward([9], cache)
        whole = model(torch.tensor([[*decoder._prefix, *tokens, 9]])).logits[0]
    torch.testing.assert_close(first, whole[-2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(second, whole[-1], rtol=1e-4, atol=1e-4)
    assert cache.length == len(decoder._prefix) + count + 1


@pytest.mark.parametrize("ways", [("®x", "©x"), ("a®", "a©", "b"), ("😀", "😁")])
def test_texts_may_differ_within_a_character(decoder: CallDecoder, ways: Sequence[str]) -> None:
    """Bytes that all of them share are no text as long as the rest of the character is missing."""
    calls = [f'{{"name": "get_cart", "arguments": {{"topic": "{way}"}}}}' for way in ways]
    grammar = "root ::= " + " | ".join(json.dumps(c, ensure_ascii=False) for c in calls)
    asked = messages(SHOP, "hello", TurnView())
    _, text = decoder.decode(asked, ["get_cart"], lambda _: grammar)
    assert text in calls


def test_what_has_to_come_costs_no_pass(
    decoder: CallDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0
    forward = decoder.forward

    def counted(*args: Any) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return forward(*args)

    monkeypatch.setattr(decoder, "forward", counted)
    text = '{"name": "get_cart", "arguments": {"topic": "returns"}}'
    one = f"root ::= {json.dumps(text)}"
    asked = messages(SHOP, "hello", TurnView())
    assert list(decoder.decode(asked, ["get_cart"], lambda _: one)) == ["get_cart", text]
    assert passes == 0


def test_the_model_decides_by_its_scores(
    decoder: CallDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = turn_tools(SHOP, SHOWN)
    wanted = decoder.tokenizer.encode("compare")[0]

    def only(tokens: list[int], cache: Any) -> torch.Tensor:
        cache.length += len(tokens)
        scores = torch.zeros(decoder.model.config.vocab_size)
        scores[wanted] = 1.0
        return scores

    monkeypatch.setattr(decoder, "forward", only)
    name, _ = decoder.decode(messages(SHOP, "x", SHOWN), tools, grammar_of("x", SHOWN))
    assert name in tools and name.startswith(decoder.tokenizer.decode([wanted]))


def test_the_tool_is_known_before_the_rest(folder: Path) -> None:
    model = EmbeddedModel.load(None, base=str(folder), dtype="float32")

    class Asked:
        message, view, vocabulary = "a red scarf", SHOWN, SHOP

    name, call = model.next_step(Asked())
    assert isinstance(call, ToolCall) and call.name == name
    assert not model.writes


def test_what_cannot_be_opened_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"llmrec_adapter\.json: not found"):
        EmbeddedModel.load(tmp_path, base=str(folder))
    silent = save_chat_model(tmp_path / "silent", ["a"])
    for path in silent.glob("chat_template*"):
        path.unlink()
    with pytest.raises(ConfigError, match="has no chat template; give an instruction-tuned model"):
        EmbeddedModel.load(None, base=str(silent))
