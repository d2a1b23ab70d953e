"""What examples are made of: training histories and the fields of the catalogue."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmrec.data.dataset import Dataset
from llmrec.data.domains import Domains
from llmrec.errors import ConfigError
from llmrec.training.tasks.instructions import Instructions
from llmrec.training.tasks.queries import Queries
from llmrec.training.tasks.writer import PromptWriter
from llmrec.types import Histories

RECENT = 20  # events of a history in the prompts of rank and taste


class TaskCorpus:
    """A dataset as tasks read it: only its training split.

    Args:
        dataset: of llmrec ingest.
        writer: renders items, histories and text as tokens.
        own: file of the user's own chat examples, or None.
        user_share: of the users, drawn at random, whose histories are read.
        domain: of the events that may be what comes next; empty for any. Histories hold all.
    """

    def __init__(
        self,
        dataset: Dataset,
        writer: PromptWriter,
        own: Path | None = None,
        *,
        user_share: float = 1.0,
        domain: str = "",
    ) -> None:
        self.dataset, self.writer, self.own = dataset, writer, own
        self.user_share, self.domain = user_share, domain

    @cached_property
    def instructions(self) -> Instructions:
        """The user's own chat examples.

        Raises:
            ConfigError: if no file is given.
            DataError: for a row that is none.
        """
        if self.own is None:
            raise ConfigError("tasks.instructions: name the file of examples, instructions: FILE")
        index = self.dataset.item_index if self.writer.knows_items else {}
        return Instructions(self.own, self.writer, index)

    @cached_property
    def histories(self) -> Histories:
        """Training events of every user that is learned from."""
        return self.dataset.train_histories(user_share=self.user_share)

    @property
    def n_items(self) -> int:
        return self.dataset.n_items

    @cached_property
    def popularity(self) -> np.ndarray:
        """Training events of every item, int64 ``[items]``."""
        return np.bincount(self.histories.items, minlength=self.n_items)

    @cached_property
    def events_with_history(self) -> np.ndarray:
        """Training events of the domain with another one before them: int64 indices into
        ``histories.items``.

        Raises:
            ConfigError: for a domain that no item is of.
        """
        learned = np.ones(len(self.histories.items), dtype=bool)
        starts = self.histories.offsets[:-1]
        learned[starts[self.histories.lengths() > 0]] = False
        if self.domain:
            domains = Domains.of(self.dataset)
            learned &= domains.of_item[self.histories.items] == domains.number(self.domain)
        return np.flatnonzero(learned)

    def event(self, index: int) -> tuple[np.ndarray, np.ndarray | None, int, float | None]:
        """A training event and the history before it.

        Returns:
            items and times of the history, then item and time of the event; times are None
            where the dataset has none.
        """
        histories = self.histories
        user = int(np.searchsorted(histories.offsets, index, side="right")) - 1
        before = slice(int(histories.offsets[user]), index)
        times = None if histories.timestamps is None else histories.timestamps[before]
        now = None if histories.timestamps is None else float(histories.timestamps[index])
        return histories.items[before], times, int(histories.items[index]), now

    @cached_property
    def queries(self) -> Queries:
        """Search queries and their answers."""
        columns = {
            name: column.to_pylist()
            for name in ("title", "categories")
            if (column := self._column(name)) is not None and self.has_value(name).any()
        }
        titles = columns.get("title", [None] * self.n_items)
        return Queries(titles, columns.get("categories"), self.popularity)

    def has_value(self, field: str) -> np.ndarray:
        """Which items have a value in a field, bool ``[items]``."""
        column = self._column(field)
        if column is None:
            return np.zeros(self.n_items, dtype=bool)
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            sizes = pc.list_value_length(column)
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            sizes = pc.utf8_length(pc.utf8_trim_whitespace(column))
        else:
            return np.asarray(pc.is_valid(column))
        return np.asarray(pc.fill_null(pc.greater(sizes, 0), False))

    def with_fields(self, task: str, *fields: str) -> np.ndarray:
        """Indices of the items that have any of the fields.

        Raises:
            ConfigError: naming the task and its fields, if no item has one.
        """
        found = np.flatnonzero(np.any([self.has_value(field) for field in fields], axis=0))
        if len(found) == 0:
            names = " or ".join(fields)
            raise ConfigError(
                f"tasks.{task}: no item of {self.dataset.folder} has {names}; ingest a catalogue "
                f"with it, or leave the task out"
            )
        return found

    def value(self, field: str, item: int) -> Any:
        """One field of one item; None where it is empty."""
        column = self._column(field)
        return None if column is None else column[item].as_py()

    def text(self, field: str, item: int) -> str:
        """A text field, in one line."""
        return " ".join((self.value(field, item) or "").split())

    def _column(self, field: str) -> pa.ChunkedArray | None:
        columns = self.dataset.items
        return columns[field] if field in columns.column_names else None
