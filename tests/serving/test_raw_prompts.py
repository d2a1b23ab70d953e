"""Prompts of item tokens, as the language model was trained on."""

from typing import Any

import numpy as np
import openai
import pytest
from ask_bundle import recommend

from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.serving.bundle import Bundle
from llmrec.serving.raw_prompts import item_text, read_items
from llmrec.types import Histories


def prompt(bundle: Bundle, items: list[int]) -> str:
    return "".join(item_text(codes, bundle.llm.ids) for codes in bundle.llm.ids.encode(items))


def test_there_and_back(bundle: Bundle) -> None:
    items = [3, 0, 119, 3]
    assert read_items(prompt(bundle, items), bundle.llm.ids) == items
    names = bundle.llm.ids.token_strings()
    tokens = bundle.llm.ids.tokens(np.array(items)).ravel()
    assert prompt(bundle, items) == "".join(names[token] for token in tokens if token >= 0)


@pytest.mark.parametrize("words", ["", "a gift", "<item_3> for a friend", "<3>", "item_3"])
def test_words_are_words(words: str) -> None:
    assert read_items(words, ItemIds.atomic(5)) is None


@pytest.mark.parametrize(
    ("text", "wrong"), [("<item_5>", "<item_5>"), ("<item_1><a_1>", "<a_1>"), ("<b_1>", "<b_1>")]
)
def test_tokens_of_no_item(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"^prompt: '{wrong}' is not the tokens of an item"):
        read_items(text, ItemIds.atomic(5))


def test_half_an_item(semantic: Bundle) -> None:
    whole = prompt(semantic, [3])
    first, second = whole.split(">")[:2]
    for text in (f"{first}>", f"{second}>", f"{whole}{second}>", "<item_3>", "<ab_3>"):
        with pytest.raises(ConfigError, match=r"^prompt: "):
            read_items(text, semantic.llm.ids)


def test_a_choice_for_each_item(client: openai.OpenAI, atomic: Bundle) -> None:
    history = [60, 61, 62]
    ask: Any = client.completions.create
    found = ask(model="llmrec", prompt=prompt(atomic, history), n=4, logprobs=0)
    expected = recommend(atomic, [atomic.item_ids[item] for item in history], 4)
    items = [atomic.index[one.item_id] for one in expected]
    texts = [prompt(atomic, [item]) for item in items]
    assert [choice.text for choice in found.choices] == texts
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    logp = [choice.logprobs.token_logprobs[0] for choice in found.choices]
    alone = atomic.llm.score_items(Histories.from_lists([history]), np.array([items]))[0]
    assert logp == pytest.approx(alone.tolist(), abs=1e-4)
    chunks = list(ask(model="llmrec", prompt=prompt(atomic, history), n=4, stream=True))
    assert [chunk.choices[0].text for chunk in chunks] == [prompt(atomic, [i]) for i in items] + [
        ""
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "a gift", "logprobs": 0}, "logprobs"),
        ({"prompt": "<item_3>", "logprobs": 5}, "logprobs"),
        ({"prompt": "<item_3>", "extra_body": {"history": []}}, "history"),
        ({"prompt": "<item_999>"}, "prompt"),
    ],
)
def test_wrong_prompts(client: openai.OpenAI, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="llmrec", **body)
    assert caught.value.param == param
