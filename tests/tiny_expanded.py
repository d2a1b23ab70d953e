"""An expanded base and a described catalogue that fine-tuning reads in a blink."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tiny_models import make_histories, tiny_llama, write_dataset

from llmrec.data.dataset import Dataset
from llmrec.item_ids.item_ids import ItemIds
from llmrec.models.tokenizer import add_tokens, train_tokenizer
from llmrec.models.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import load_template
from llmrec.tasks.corpus import Corpus
from llmrec.tasks.writer import Writer
from llmrec.train.llm_run import save_layout

COLOURS = ("red", "blue", "green", "black")
THINGS = ("shoe", "bag", "hat", "shirt", "scarf")
BRANDS = ("Acme", "Globex", "")


def write_catalogue(folder: Path, n_items: int, *, times: bool = False, users: int = 60) -> Path:
    """A dataset whose items have a title, description, categories, brand and price."""
    histories = make_histories(users, n_items)
    stamps = [[1.5e9 + 86400.0 * n for n in range(len(row))] for row in histories]
    write_dataset(folder, histories, n_items, stamps if times else None)
    numbers = range(n_items)
    items = {
        "item_id": [f"i{n}" for n in numbers],
        "title": [f"{COLOURS[n % 4]} {THINGS[n % 5]} number {n}" for n in numbers],
        "description": [f"A {THINGS[n % 5]} that is {COLOURS[n % 4]}" * (n % 2) for n in numbers],
        "categories": [["Clothing", THINGS[n % 5]] for n in numbers],
        "brand": [BRANDS[n % 3] for n in numbers],
        "price": [None if n % 4 == 0 else n + 0.5 for n in numbers],
    }
    pq.write_table(pa.table(items), folder / "items.parquet")
    return folder


def write_expanded(
    folder: Path,
    ids: ItemIds,
    *,
    tied: bool = True,
    time_fields: Sequence[str] = (),
    prompt: str = "recommend",
    context: int = 256,
) -> Path:
    """A random LLaMA of width 32 that has the tokens of these items."""
    texts = [f"{c} {t} number of the shop" for c in COLOURS for t in THINGS]
    tokenizer = train_tokenizer(texts * 2, 300)
    base_size = len(tokenizer)
    vocabulary = Vocabulary.of(base_size, time_fields, ids)
    add_tokens(tokenizer, vocabulary.time_token_strings() + ids.token_strings(), base_size)
    tiny_llama(vocabulary.size, tied=tied, context=context).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids.save(folder / "item_ids")
    template = load_template(prompt)
    words = tokenizer.encode(template.prefix("history"), add_special_tokens=False)
    save_layout(folder, vocabulary, template, [tokenizer.bos_token_id, *words], 8)
    return folder


def corpus_of(dataset: Path, base: Path) -> Corpus:
    """What the tasks see of a dataset, said in the tokens of a base."""
    from llmrec.tune.base import open_base

    opened = open_base(base)
    return Corpus(Dataset(dataset), Writer(opened.tokenizer, opened.encoder))


def said(corpus: Corpus, ids: np.ndarray) -> str:
    """Token ids as text."""
    text: str = corpus.writer.tokenizer.decode(ids)
    return text


def encoder_of(corpus: Corpus) -> HistoryEncoder:
    """How the base says histories."""
    return corpus.writer.encoder


def same(one: Any, other: Any) -> bool:
    """Whether two examples are the same."""
    return (
        one.task == other.task
        and np.array_equal(one.prompt_ids, other.prompt_ids)
        and np.array_equal(one.completion_ids, other.completion_ids)
    )
