"""What a multimodal model learns from: an item, a question about it and what is shown for it.

In an epoch each item is asked about once. Which question it is, and which of its picture, video,
speech and words are shown, is drawn from the seed, the epoch and the item, so that a run that goes
on after a kill draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrec.captions.asking import TASKS, TEXT_SOURCES, Seen, Task, known_text, question, target
from llmrec.captions.training.settings import Drop, MultimodalConfig
from llmrec.content.schema import Schema
from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError
from llmrec.types import Item


@dataclass(frozen=True)
class Example:
    """One question about one item.

    Attributes:
        row: the item's index in the catalogue.
        task: what is asked.
        sources: what is shown, among ``asking.SOURCES``.
        number: of the random stream that varies its picture; None to show it as it is.
    """

    row: int
    task: Task
    sources: tuple[str, ...]
    number: tuple[int, ...] | None = None


@dataclass
class Corpus:
    """The items that can be learned from.

    Attributes:
        items: by their index in the catalogue.
        targets: for each of them the answers, by task.
        said: transcripts, by item id.
        train, validation: indices of the items learned from and held back.
        counts: how many were left out, and why.
    """

    items: dict[int, Item]
    targets: dict[int, dict[Task, str]]
    said: dict[str, str]
    schema: Schema
    config: MultimodalConfig
    seed: int
    counts: dict[str, int]
    train: np.ndarray = field(init=False)
    validation: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rows = np.array(sorted(self.items), dtype=int)
        share = self.config.validation_share
        count = max(1, int(len(rows) * share)) if share and len(rows) > 1 else 0
        drawn = np.random.default_rng(self.seed).permutation(rows)
        self.validation, self.train = np.sort(drawn[:count]), np.sort(drawn[count:])
        self.counts |= {"trained_on": len(self.train), "validated_on": count}

    def transcript(self, row: int) -> str:
        """What is said in an item's recording."""
        return self.said.get(self.items[row].item_id, "")

    def text(self, row: int, sources: Sequence[str]) -> str:
        """The item's words among what is shown."""
        return known_text(self.items[row], sources)

    def has(self, row: int) -> list[str]:
        """What of an item can be shown."""
        return has_sources(self.items[row], self.said, self.config.sources)

    def epoch(self, epoch: int) -> list[Example]:
        """One example an item, in a new order each epoch."""
        rows = np.random.default_rng([self.seed, epoch]).permutation(self.train)
        return [self._drawn(int(row), epoch) for row in rows]

    def validation_examples(self) -> list[Example]:
        """The same each time: what can be told by a picture alone where there is one."""
        found = []
        for row in self.validation.tolist():
            known = self.targets[row]
            task = next(name for name in ("attributes", "caption", "enhance") if name in known)
            has = self.has(row)
            found.append(Example(row, task, ("image",) if "image" in has else tuple(has)))
        return found

    def texts(self) -> Iterator[str]:
        """Questions and answers about the items learned from, for a tokenizer."""
        for row in self.train.tolist():
            seen = Seen(transcript=self.transcript(row), text=self.text(row, TEXT_SOURCES))
            for task, answer in self.targets[row].items():
                yield question(task, seen, self.schema)
                yield answer

    def _drawn(self, row: int, epoch: int) -> Example:
        rng = np.random.default_rng([self.seed, epoch, row])
        known = self.targets[row]
        shares = np.array([self.config.tasks.get(name, 0.0) for name in known])
        task = list(known)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        sources = drawn_sources(self.has(row), self.config.drop, rng)
        return Example(row, task, sources, (self.seed, epoch, row, 1))


def make_corpus(
    shop: Dataset,
    schema: Schema,
    config: MultimodalConfig,
    left_out: np.ndarray,
    said: dict[str, str],
    seed: int,
) -> Corpus:
    """Find the items that can be learned from.

    Args:
        left_out: bool ``[items]``, what is not looked at.
        said: transcripts, by item id.

    Raises:
        CatalogError: if there are none.
    """
    items: dict[int, Item] = {}
    targets: dict[int, dict[Task, str]] = {}
    counts = {"left_out": int(left_out.sum()), "without_target": 0, "nothing_to_show": 0}
    for row in np.flatnonzero(~left_out).tolist():
        item = shop.item(row)
        if not has_sources(item, said, config.sources):
            counts["nothing_to_show"] += 1
        elif not (answers := _targets(item, schema, config)):
            counts["without_target"] += 1
        else:
            items[row], targets[row] = item, answers
    if not items:
        raise CatalogError(
            f"{shop.folder}: no item can be learned from: {counts['nothing_to_show']} have none of "
            f"{', '.join(config.sources)}, and of {counts['without_target']} the catalogue tells "
            "no answer; say at ingest which columns hold them"
        )
    return Corpus(items, targets, said, schema, config, seed, counts)


def has_sources(item: Item, said: dict[str, Any], sources: Sequence[str]) -> list[str]:
    """What of an item can be shown, of what may be."""
    has = {
        "image": bool(item.image),
        "video": bool(item.video),
        "speech": bool(said.get(item.item_id)),
    }
    has |= {name: bool(known_text(item, (name,))) for name in TEXT_SOURCES}
    return [name for name in sources if has[name]]


def drawn_sources(has: Sequence[str], drop: Drop, rng: np.random.Generator) -> tuple[str, ...]:
    """What is shown of what there is; never nothing.

    >>> rng = np.random.default_rng(0)
    >>> drawn_sources(["image", "title"], Drop(alone=1.0), rng)
    ('image',)
    >>> drawn_sources(["title"], Drop(text=1.0), rng)
    ('title',)
    """
    alone, all_text = rng.random() < drop.alone, rng.random() < drop.text
    chances = rng.random(len(has))
    if "image" in has and alone:
        return ("image",)
    rates = {"image": drop.image, "video": drop.video, "speech": drop.speech}
    kept = [
        name
        for name, chance in zip(has, chances, strict=True)
        if not (name in TEXT_SOURCES and all_text) and chance >= rates.get(name, drop.text)
    ]
    return tuple(kept) if kept else (has[int(rng.integers(len(has)))],)


def _targets(item: Item, schema: Schema, config: MultimodalConfig) -> dict[Task, str]:
    """The answers about an item that the catalogue tells, of the tasks that are asked."""
    found: dict[Task, str] = {}
    for task in TASKS:
        if not config.tasks.get(task):
            continue
        if task == "enhance" and not (schema.known(item) or item.description or item.title):
            continue  # an answer of empty texts teaches to say nothing
        answer = target(task, item, schema)
        if answer is not None:
            found[task] = answer
    return found
