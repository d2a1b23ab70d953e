"""Closed fields chosen in few passes: what reading token by token, one prompt at a time, gives."""

import json
import math
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the train extra")

import torch
from tiny_chat import save_chat_model
from tokenizers import Tokenizer, models, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from llmrec.captions.intent import reader as readers
from llmrec.captions.intent.closed_fields import FieldLayout, choose_fields, field_layouts
from llmrec.captions.intent.reader import IntentReader
from llmrec.captions.intent.texts import CustomerText
from llmrec.content.schema import Field, Schema

SCHEMA = Schema(
    {
        "need": Field(["Living", "Living room", "Lamp", "Bed"]),  # one goes on where another ends
        "only": Field(["this"]),
        "for_whom": Field(["men", "women", "not said"]),
    }
)
OBJECT = {"need": "Living room", "only": "this", "for_whom": "not said"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [json.dumps(OBJECT | {"need": need}) for need in SCHEMA.values("need")] * 9
    return save_chat_model(tmp_path_factory.mktemp("fields") / "model", texts)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def layouts_of(tokenizer: Any) -> list[FieldLayout]:
    layouts = field_layouts(tokenizer, SCHEMA)
    assert layouts is not None
    return layouts


def test_the_parts_are_the_tokens_of_the_whole_object(tokenizer: Any) -> None:
    layouts = layouts_of(tokenizer)
    picked = [SCHEMA.values(name).index(OBJECT[name]) for name in SCHEMA.names]
    parts = [
        [*layout.before, *layout.values[at]] for layout, at in zip(layouts, picked, strict=True)
    ]
    whole = tokenizer(json.dumps(OBJECT), add_special_tokens=False)["input_ids"]
    assert [*chain(*parts), layouts[-1].after] == whole
    for layout, following in pairwise(layouts):
        assert layout.after == following.before[0]


def test_a_token_that_holds_a_value_and_what_is_around_it_has_no_layout() -> None:
    """Byte pairs over whole lines merge a value with its quotes."""
    merged = Tokenizer(models.BPE())
    lines = [json.dumps(OBJECT | {"for_whom": whom}) for whom in SCHEMA.values("for_whom")] * 9
    merged.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    assert field_layouts(PreTrainedTokenizerFast(tokenizer_object=merged), SCHEMA) is None


def one_by_one(model: Any, layouts: list[FieldLayout], prompt: list[int]) -> list[Any]:
    """Value and probability of each field; all before a token is read anew for it."""
    written, found = list(prompt), []
    for layout in layouts:
        written += layout.before
        ends = [[*value, layout.after] for value in layout.values]
        value: list[int] = []
        p = 1.0
        while value not in ends:
            follow = {end[len(value)] for end in ends if end[: len(value)] == value}
            with torch.no_grad():
                scores = model(torch.tensor([written + value])).logits[0, -1].double()
            weights = {token: math.exp(float(scores[token])) for token in follow}
            best = max(weights, key=weights.__getitem__)
            p *= weights[best] / sum(weights.values())
            value.append(best)
        found.append((ends.index(value), pytest.approx(p, rel=1e-4)))
        written += value[:-1]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_choices_are_those_made_token_by_token(folder: Path, tokenizer: Any, seed: int) -> None:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for weight in model.parameters():
        if weight.dim() > 1:  # so that values are as likely as not
            torch.nn.init.normal_(weight, std=0.2)
    layouts = layouts_of(tokenizer)
    texts = ["a lamp", "something for the living room, please", "x", "for my dad, not for me"]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    together = choose_fields(model, layouts, prompts)
    for prompt, found in zip(prompts, together, strict=True):
        expected = one_by_one(model, layouts, prompt)
        assert [(one.value, math.exp(one.logprob)) for one in found] == expected


def test_the_examples_reach_every_kind_of_value(folder: Path, tokenizer: Any) -> None:
    """Also the value that ends where another goes on: what follows it must win there."""
    layouts = layouts_of(tokenizer)[:1]
    after, room = layouts[0].after, layouts[0].values[1][len(layouts[0].values[0])]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    start = layouts[0].values[0][0]

    def liking(*tokens: int) -> int:
        def forward(**given: Any) -> Any:
            found = real(**given)
            found.logits[..., list(tokens)] += 100
            return found

        real, model.forward = type(model).forward.__get__(model), forward
        return choose_fields(model, layouts, [[5, 6]])[0][0].value

    assert liking(start, room) == 1
    assert liking(start, after) == 0


def test_texts_that_say_the_same_are_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xgrammar", reason="needs the media extra")
    reader = IntentReader(str(folder), SCHEMA, device="cpu", batch_size=2)
    sizes: list[int] = []

    def choose(model: Any, layouts: Any, prompts: Any) -> Any:
        sizes.append(len(prompts))
        return choose_fields(model, layouts, prompts)

    monkeypatch.setattr(readers, "choose_fields", choose)
    said = ["a lamp", "a bed", "a lamp", "a longer text", "a lamp"]
    texts = [CustomerText(str(row), "query", text) for row, text in enumerate(said)]
    done: list[tuple[int, int]] = []
    found = reader.read(texts, lambda *counts: done.append(counts))
    assert sizes == [2, 1] and done == [(2, 3), (3, 3)]
    assert found[0] == found[2] == found[4]
    alone = [reader.read([text])[0] for text in texts]
    assert [one.fields for one in found] == [one.fields for one in alone]


def test_without_a_layout_the_grammar_is_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xgrammar", reason="needs the media extra")
    monkeypatch.setattr(readers, "field_layouts", lambda tokenizer, schema: None)
    reader = IntentReader(str(folder), SCHEMA, device="cpu")
    (found,) = reader.read([CustomerText("a", "query", "a lamp")])
    assert list(found.fields) == list(found.probabilities) == SCHEMA.names
    assert all(value in SCHEMA.values(name) for name, value in found.fields.items())
