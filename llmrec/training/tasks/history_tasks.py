"""Tasks about histories: the next item, the choice among candidates, a user's taste in words.

``next_item`` reads a history again for each of its events. ``history`` reads it once and learns at
every event, which costs a fraction of that where prompts are all that is read.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from llmrec.errors import ConfigError
from llmrec.training.tasks.corpus import RECENT, TaskCorpus
from llmrec.training.tasks.writer import TaskExample

# Share of histories without their times, in `llmrec train` as well: a model with time tokens must
# also serve requests without times, and never trained, the tokens of an unknown time make it worse
# than popularity.
TIMELESS = 0.15
CANDIDATES = 10  # items to rank, the target included
NAMED = 3  # categories, and brands, in a description of taste


def events(corpus: TaskCorpus, task: str) -> np.ndarray:
    """A row of ``next_item`` and ``rank``: a training event with a history.

    Raises:
        ConfigError: if nobody has two training events.
    """
    if len(corpus.events_with_history) == 0:
        later = f", the later one of {corpus.domain}" if corpus.domain else ""
        raise ConfigError(
            f"tasks.{task}: nobody in {corpus.dataset.folder} has two training events{later}; "
            "ingest longer histories, or leave the task out"
        )
    return corpus.events_with_history


def next_item(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    """History -> the item that came next; the prompt is token for token as serving renders it."""
    items, times, target, now = corpus.event(row)
    if corpus.writer.encoder.vocabulary.time_fields and rng.random() < TIMELESS:
        times, now = None, None
    unknown = now is None or np.isnan(now)
    prompt = corpus.writer.encoder.encode(items, times, None if unknown else now)
    return TaskExample("next_item", prompt, corpus.writer.items([target]))


def owners(corpus: TaskCorpus, task: str) -> np.ndarray:
    """A row of ``history``: a user with two training events.

    Raises:
        ConfigError: if nobody has two.
    """
    events(corpus, task)
    return np.flatnonzero(corpus.histories.lengths() > 1)


def history(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    """The newest events of a user, each after those before it, as serving renders them.

    With time tokens, those of an event are learned as well.
    """
    encoder, times = corpus.writer.encoder, corpus.histories.times(row)
    if encoder.vocabulary.time_fields and rng.random() < TIMELESS:
        times = None
    return TaskExample(
        "history", encoder.prefix, encoder.events(corpus.histories[row], times).ravel()
    )


def rank(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    """History and candidates -> the target; the others are sampled from the whole catalogue."""
    items, times, target, _ = corpus.event(row)
    others = negatives(corpus.n_items, np.append(items, target), CANDIDATES - 1, rng)
    candidates = rng.permutation(np.append(others, target))
    writer = corpus.writer
    prompt = writer.prompt(
        "rank", history=_recent(corpus, items, times), candidates=writer.items(candidates)
    )
    return TaskExample("rank", prompt, writer.answer(writer.items([target])))


def negatives(n_items: int, known: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Different items outside ``known``: int64 ``[at most count]``, fewer in a tiny catalogue."""
    sampled = np.unique(rng.integers(n_items, size=4 * count))
    found = np.setdiff1d(sampled, known)
    if len(found) < count:
        found = np.setdiff1d(np.arange(n_items), known)
    return rng.permutation(found)[:count]


def tastes(corpus: TaskCorpus, task: str) -> np.ndarray:
    """A row of ``taste``: a user with a category or brand in the recent history.

    Raises:
        ConfigError: if no item of a training history has a category or a brand.
    """
    described = np.zeros(corpus.n_items, dtype=bool)
    described[corpus.with_fields(task, "categories", "brand")] = True
    histories = corpus.histories
    owners = np.repeat(np.arange(len(histories)), histories.lengths())
    known = described[histories.items]
    # only what is in the prompt may be described
    place = np.arange(len(owners)) - np.repeat(histories.offsets[1:], histories.lengths())
    users = np.unique(owners[known & (place >= -recent_events(corpus))])
    if len(users) == 0:
        raise ConfigError(
            f"tasks.{task}: no item in a training history of {corpus.dataset.folder} has "
            "categories or brand; ingest a catalogue with them, or leave the task out"
        )
    return users


def taste(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    """History -> the categories and brands that occur in it most, in words."""
    items, times = corpus.histories[row], corpus.histories.times(row)
    prompt = corpus.writer.prompt("taste", history=_recent(corpus, items, times))
    recent = items[-recent_events(corpus) :]
    return TaskExample("taste", prompt, corpus.writer.answer(taste_words(corpus, recent)))


def taste_words(corpus: TaskCorpus, items: np.ndarray) -> str:
    """Most frequent categories and brands, in the order of their counts, ties by name."""
    categories: Counter[str] = Counter()
    brands: Counter[str] = Counter()
    for item in items.tolist():
        categories.update(set(corpus.value("categories", item) or ()))
        brands.update({corpus.text("brand", item)} - {""})
    sentences = []
    if categories:
        named = _most(categories)
        sentences.append(corpus.writer.phrase("taste_categories", categories=named))
    if brands:
        sentences.append(corpus.writer.phrase("taste_brands", brands=_most(brands)))
    return " ".join(sentences)


def recent_events(corpus: TaskCorpus) -> int:
    """Events of a history in the prompts of all tasks but ``next_item``."""
    return min(RECENT, corpus.writer.encoder.max_items)


def _recent(corpus: TaskCorpus, items: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    tokens = corpus.writer.history(items, times)
    return tokens[-recent_events(corpus) * corpus.writer.encoder.event_width :]


def _most(counts: Counter[str]) -> str:
    names = sorted(counts, key=lambda name: (-counts[name], name))[:NAMED]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
