"""Tasks about the catalogue: text and items in both directions, search queries, tool calls."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

import numpy as np

from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.writer import TaskExample

DESCRIPTION_WORDS = 24
COUNTS = (3, 5, 10)  # how many items a customer may want
_WORD = re.compile(r"\S+")


def titled(corpus: TaskCorpus, task: str) -> np.ndarray:
    """A row of ``text_to_item``, ``item_to_text`` and ``tool_call``: an item with a title."""
    return corpus.with_fields(task, "title")


def findable(corpus: TaskCorpus, task: str) -> np.ndarray:
    """A row of ``search``: an item with a title or a category."""
    return corpus.with_fields(task, "title", "categories")


def text_to_item(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    """A title, or words of a description -> the item."""
    words = _WORD.findall(corpus.text("description", row))
    if words and rng.random() < 0.5:
        start = int(rng.integers(max(1, len(words) - DESCRIPTION_WORDS + 1)))
        text = " ".join(words[start : start + DESCRIPTION_WORDS])
    else:
        text = corpus.text("title", row)
    writer = corpus.writer
    answer = writer.answer(writer.items([row]))
    return TaskExample("text_to_item", writer.prompt("text_to_item", words=text), answer)


def item_to_text(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    """An item -> its title."""
    prompt = corpus.writer.prompt("item_to_text", item=corpus.writer.items([row]))
    return TaskExample("item_to_text", prompt, corpus.writer.answer(corpus.text("title", row)))


def search(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    """A query -> the most popular items that match it."""
    query, items = corpus.queries.sample(row, rng)
    prompt = corpus.writer.prompt("search", query=query)
    return TaskExample("search", prompt, corpus.writer.answer(corpus.writer.items(items)))


def tool_call(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    """A customer's message -> a call of ``recommend`` with the arguments of the service."""
    turns: list[Callable[[TaskCorpus, int, np.random.Generator], tuple[str, dict]]]
    turns = [_query_turn, _count_turn]
    if corpus.value("categories", row):
        turns.append(_category_turn)
    if corpus.value("price", row) is not None:
        turns.append(_price_turn)
    turn, arguments = turns[int(rng.integers(len(turns)))](corpus, row, rng)
    call = json.dumps({"name": "recommend", "arguments": arguments}, ensure_ascii=False)
    prompt = corpus.writer.prompt("tool_call", turn=turn)
    return TaskExample("tool_call", prompt, corpus.writer.answer(call))


def _query_turn(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> tuple[str, dict]:
    query = corpus.queries.words(row, rng)
    return corpus.writer.phrase("turn_query", query=query), {"query": query}


def _count_turn(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> tuple[str, dict]:
    query, count = corpus.queries.words(row, rng), int(rng.choice(COUNTS))
    turn = corpus.writer.phrase("turn_count", query=query, count=str(count))
    return turn, {"query": query, "n": count}


def _category_turn(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> tuple[str, dict]:
    category = str(rng.choice(corpus.value("categories", row)))
    turn = corpus.writer.phrase("turn_category", category=category)
    return turn, {"where": {"categories": [category]}}


def _price_turn(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> tuple[str, dict]:
    query = corpus.queries.words(row, rng)
    limit = math.ceil(corpus.value("price", row))
    turn = corpus.writer.phrase("turn_price", query=query, price=str(limit))
    return turn, {"query": query, "where": {"price_max": limit}}
