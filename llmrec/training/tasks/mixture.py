"""A mixture of tasks as one stream of examples.

An epoch passes once over the rows of the task with the largest weight; every other task adds
examples in proportion to its own weight, from its rows in an order of its own. Sampling depends
on the seed and the epoch alone, and an example is rendered only when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.training.tasks import catalogue_tasks, history_tasks
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.lazy_rows import LazyRows
from llmrec.training.tasks.names import check_tasks
from llmrec.training.tasks.writer import TaskExample

IGNORED = -100  # the label of a token without a loss


@dataclass(frozen=True)
class Task:
    """A task to train on.

    Attributes:
        rows: what it makes examples of: int64 row numbers for ``example``.
        example: the example of a row, sampled with the generator.
    """

    rows: Callable[[TaskCorpus, str], np.ndarray]
    example: Callable[[TaskCorpus, int, np.random.Generator], TaskExample]


def _own_turns(corpus: TaskCorpus, task: str) -> np.ndarray:
    return np.arange(len(corpus.instructions.turns))


def _own_example(corpus: TaskCorpus, row: int, rng: np.random.Generator) -> TaskExample:
    return corpus.instructions.example(row)


TASKS: dict[str, Task] = {
    "next_item": Task(history_tasks.events, history_tasks.next_item),
    "history": Task(history_tasks.owners, history_tasks.history),
    "text_to_item": Task(catalogue_tasks.titled, catalogue_tasks.text_to_item),
    "item_to_text": Task(catalogue_tasks.titled, catalogue_tasks.item_to_text),
    "taste": Task(history_tasks.tastes, history_tasks.taste),
    "search": Task(catalogue_tasks.findable, catalogue_tasks.search),
    "rank": Task(history_tasks.events, history_tasks.rank),
    "tool_call": Task(catalogue_tasks.titled, catalogue_tasks.tool_call),
    "instructions": Task(_own_turns, _own_example),
}


class Mixture:
    """Examples of several tasks.

    Args:
        corpus: what the examples are made of.
        weights: share of each task; tasks of weight 0 are left out.
        seed: of all sampling.
        max_length: most tokens of an example.

    Raises:
        ConfigError: if a task is unknown, or the dataset lacks what it needs.
    """

    def __init__(
        self, corpus: TaskCorpus, weights: Mapping[str, float], seed: int, max_length: int
    ) -> None:
        self.corpus, self.seed, self.max_length = corpus, seed, max_length
        check_tasks(weights)
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.names = [name for name in TASKS if name in self.weights]
        self.rows = [TASKS[name].rows(corpus, name) for name in self.names]
        main = max(range(len(self.names)), key=lambda i: self.weights[self.names[i]])
        per_weight = len(self.rows[main]) / self.weights[self.names[main]]
        self.counts = [max(1, round(per_weight * self.weights[name])) for name in self.names]

    def __len__(self) -> int:
        """Examples of an epoch."""
        return sum(self.counts)

    def plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The examples of an epoch, in order: int64 task numbers and rows, ``[examples]``."""
        tasks = np.repeat(np.arange(len(self.names)), self.counts)
        rows = [self._rows_of_epoch(task, epoch) for task in range(len(self.names))]
        order = np.random.default_rng([self.seed, epoch]).permutation(len(tasks))
        return tasks[order], np.concatenate(rows)[order]

    def _rows_of_epoch(self, task: int, epoch: int) -> np.ndarray:
        """A task's rows of one epoch: passes over all of them, each in another order."""
        rows, count = self.rows[task], self.counts[task]
        first = epoch * count  # position in the task's own endless stream
        passes = range(first // len(rows), (first + count - 1) // len(rows) + 1)
        stream = [
            rows[np.random.default_rng([self.seed, task, number, 1]).permutation(len(rows))]
            for number in passes
        ]
        start = first % len(rows)
        return np.concatenate(stream)[start : start + count]

    def example(self, task: int, row: int, number: int) -> TaskExample:
        """The example with this number in the whole run."""
        rng = np.random.default_rng([self.seed, number, 2])
        made = TASKS[self.names[task]].example(self.corpus, row, rng)
        return made.fitted(self.max_length)

    def dataset(self, examples: int) -> Any:
        """The first so many examples, epoch after epoch, as a ``datasets.Dataset``.

        Its rows are read as ``input_ids`` and ``labels`` (:data:`IGNORED` on the prompt); it
        holds their numbers only and renders an example each time one is read.
        """
        from datasets import Dataset

        epochs = range(-(-examples // len(self)))
        plans = [self.plan(epoch) for epoch in epochs]
        columns = {
            "task": np.concatenate([tasks for tasks, _ in plans])[:examples],
            "row": np.concatenate([rows for _, rows in plans])[:examples],
            "number": np.arange(examples),
        }
        name = json.dumps([str(self.corpus.dataset.folder), self.weights, self.seed])
        return Dataset.from_dict(columns).with_transform(LazyRows(self._render, name))

    def _render(self, batch: Mapping[str, list[int]]) -> dict[str, list[list[int]]]:
        rows = zip(batch["task"], batch["row"], batch["number"], strict=True)
        examples = [self.example(*row) for row in rows]
        return {
            "input_ids": [[*e.prompt_ids.tolist(), *e.completion_ids.tolist()] for e in examples],
            "labels": [[IGNORED] * len(e.prompt_ids) + e.completion_ids.tolist() for e in examples],
        }
