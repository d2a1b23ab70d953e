"""Training examples of a multimodal model: an item, a task and the sources of its input.

An epoch has one example an item. Its task, and which of picture, video, speech and text are its
input, are drawn from the seed, the epoch and the item, so that a resumed run draws what it would
have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmrec.captions.prompting import (
    TASKS,
    TEXT_SOURCES,
    ModelInput,
    Task,
    catalogue_text,
    instruction,
    target_response,
)
from llmrec.captions.training.settings import MultimodalConfig, SourceDropout
from llmrec.content.schema import Schema
from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError
from llmrec.types import Item


@dataclass(frozen=True)
class Example:
    """One prompt about one item.

    Attributes:
        row: the item's index in the catalogue.
        task: of the prompt.
        sources: of the input, among ``prompting.SOURCES``.
        number: of the random stream that augments its picture; None for none.
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
        targets: for each of them the responses to learn, by task.
        transcripts: of recordings, by item id.
        train, validation: indices of the items learned from and held out.
        counts: how many were left out, and why.
    """

    items: dict[int, Item]
    targets: dict[int, dict[Task, str]]
    transcripts: dict[str, str]
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
        """The transcript of an item's recording."""
        return self.transcripts.get(self.items[row].item_id, "")

    def text(self, row: int, sources: Sequence[str]) -> str:
        """The item's text fields among some sources."""
        return catalogue_text(self.items[row], sources)

    def has(self, row: int) -> list[str]:
        """The sources that an item has."""
        return available_sources(self.items[row], self.transcripts, self.config.sources)

    def epoch(self, epoch: int) -> list[Example]:
        """One example an item, in a new order each epoch."""
        rows = np.random.default_rng([self.seed, epoch]).permutation(self.train)
        return [self._drawn(int(row), epoch) for row in rows]

    def validation_examples(self) -> list[Example]:
        """The same each time: by a picture alone where there is one."""
        found = []
        for row in self.validation.tolist():
            known = self.targets[row]
            task = next(name for name in ("attributes", "caption", "enhance") if name in known)
            has = self.has(row)
            found.append(Example(row, task, ("image",) if "image" in has else tuple(has)))
        return found

    def texts(self) -> Iterator[str]:
        """Prompts and responses about the items learned from, for a tokenizer."""
        for row in self.train.tolist():
            given = ModelInput(transcript=self.transcript(row), text=self.text(row, TEXT_SOURCES))
            for task, response in self.targets[row].items():
                yield instruction(task, given, self.schema)
                yield response

    def _drawn(self, row: int, epoch: int) -> Example:
        rng = np.random.default_rng([self.seed, epoch, row])
        known = self.targets[row]
        shares = np.array([self.config.tasks.get(name, 0.0) for name in known])
        task = list(known)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        sources = draw_sources(self.has(row), self.config.drop, rng)
        return Example(row, task, sources, (self.seed, epoch, row, 1))


def make_corpus(
    shop: Dataset,
    schema: Schema,
    config: MultimodalConfig,
    left_out: np.ndarray,
    transcripts: dict[str, str],
    seed: int,
) -> Corpus:
    """Find the items that can be learned from.

    Args:
        left_out: bool ``[items]``, those not to learn from.
        transcripts: of recordings, by item id.

    Raises:
        CatalogError: if there are none.
    """
    items: dict[int, Item] = {}
    targets: dict[int, dict[Task, str]] = {}
    counts = {"left_out": int(left_out.sum()), "without_target": 0, "without_input": 0}
    for row in np.flatnonzero(~left_out).tolist():
        item = shop.item(row)
        if not available_sources(item, transcripts, config.sources):
            counts["without_input"] += 1
        elif not (responses := _targets(item, schema, config)):
            counts["without_target"] += 1
        else:
            items[row], targets[row] = item, responses
    if not items:
        raise CatalogError(
            f"{shop.folder}: no item can be learned from: {counts['without_input']} have none of "
            f"{', '.join(config.sources)}, and of {counts['without_target']} the catalogue has "
            "no target; say at ingest which columns hold them"
        )
    return Corpus(items, targets, transcripts, schema, config, seed, counts)


def available_sources(item: Item, transcripts: dict[str, str], sources: Sequence[str]) -> list[str]:
    """The sources that an item has, among some."""
    has = {
        "image": bool(item.image),
        "video": bool(item.video),
        "speech": bool(transcripts.get(item.item_id)),
    }
    has |= {name: bool(catalogue_text(item, (name,))) for name in TEXT_SOURCES}
    return [name for name in sources if has[name]]


def draw_sources(
    has: Sequence[str], drop: SourceDropout, rng: np.random.Generator
) -> tuple[str, ...]:
    """The sources that are left of an item's after dropout; never none.

    >>> rng = np.random.default_rng(0)
    >>> draw_sources(["image", "title"], SourceDropout(alone=1.0), rng)
    ('image',)
    >>> draw_sources(["title"], SourceDropout(text=1.0), rng)
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
    """The responses about an item that the catalogue has, of the tasks that are trained."""
    found: dict[Task, str] = {}
    for task in TASKS:
        if not config.tasks.get(task):
            continue
        if task == "enhance" and not (schema.known(item) or item.description or item.title):
            continue  # a response of empty texts teaches to write nothing
        response = target_response(task, item, schema)
        if response is not None:
            found[task] = response
    return found
