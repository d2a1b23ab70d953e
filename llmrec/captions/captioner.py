"""The items of a catalogue captioned in shards, so that a killed run goes on with the next one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.captions.engine import CaptionEngine, CaptionQuery, Generation
from llmrec.captions.inputs import ItemLoader, LoadedItem
from llmrec.captions.prompting import TASKS
from llmrec.captions.table import CAPTIONS, SCHEMA, SKIPPED, STAGE, columns, empty_row, row_of
from llmrec.content.schema import save_resolved
from llmrec.content.shards import Shards
from llmrec.data.dataset import Dataset
from llmrec.jsonl import read_json, read_jsonl, write_jsonl
from llmrec.loop.bars import ProgressBar
from llmrec.stage import StageRun

SHARD_ITEMS = 64
_COUNTS = "counts.json"


@dataclass
class Captioner:
    """A run of the stage.

    Attributes:
        dataset: the catalogue.
        rows: item indices to caption, increasing.
        loader: of the items, with the model that captions them.
        start: starts the engine; called at the first shard that is not done yet.
    """

    dataset: Dataset
    rows: Sequence[int]
    loader: ItemLoader
    start: Callable[[], CaptionEngine]

    @cached_property
    def engine(self) -> CaptionEngine:
        """Started once."""
        return self.start()

    def run(self, run: StageRun) -> None:
        """Caption the items that are not captioned yet, and join the shards."""
        shards = Shards(run.folder)
        try:
            with ProgressBar(total=len(self.rows), unit="item", desc=STAGE) as progress:
                for number, rows in enumerate(_batched(self.rows, SHARD_ITEMS)):
                    if shards.has(number):
                        progress.initial += len(rows)  # the rate is of what this run did
                    else:
                        self._caption(shards, number, rows)
                    progress.update(len(rows))
        finally:
            if "engine" in self.__dict__:
                self.engine.close()
        self._join(run, shards)
        shards.remove()

    def _caption(self, shards: Shards, number: int, rows: Sequence[int]) -> None:
        """Caption some items, as many at once as the engine takes at once."""
        schema, model = self.loader.formats.schema, self.loader.model
        counts: Counter[str] = Counter()
        table: list[dict[str, Any]] = []
        skipped: list[dict[str, str]] = []
        items = list(self.loader.load(self.dataset.item(row) for row in rows))
        generated = iter(self._generate([item for item in items if not item.given.empty]))
        for item in items:
            skipped += _skipped_rows(item)
            counts.update(f"{field}_skipped" for field, _ in item.skipped)
            if item.given.empty:
                table.append(empty_row(item.item_id, schema))
                counts["without_input"] += 1
                continue
            responses = dict(zip(TASKS, next(generated), strict=True))
            prompts = [model.prompt(task, item.given, schema) for task in TASKS]
            table.append(row_of(item.item_id, responses, prompts, model, schema))
            counts["captioned"] += 1
            counts.update(f"{task}_cut" for task in TASKS if not responses[task].ended)
        with shards.writing(number) as folder:
            pq.write_table(pa.Table.from_pylist(table, columns(schema)), folder / CAPTIONS)
            write_jsonl(folder / SKIPPED, skipped)
            (folder / _COUNTS).write_text(json.dumps(counts), encoding="utf-8")

    def _generate(self, items: Sequence[LoadedItem]) -> list[tuple[Generation, ...]]:
        """The responses to all tasks, one tuple an item."""
        if not items:
            return []
        queries = [CaptionQuery(task, item.given) for item in items for task in TASKS]
        return _batched(self.engine.generate(queries), len(TASKS))

    def _join(self, run: StageRun, shards: Shards) -> None:
        schema = self.loader.formats.schema
        counts: Counter[str] = Counter()
        with pq.ParquetWriter(run.folder / CAPTIONS, columns(schema)) as whole:
            for folder in shards.folders():
                whole.write_table(pq.read_table(folder / CAPTIONS))
                counts.update(read_json(folder / _COUNTS))
        shards.join_lines(SKIPPED, run.folder / SKIPPED)
        save_resolved(schema, run.folder / SCHEMA)
        run.counts.update({"items": len(self.rows), "captioned": 0, "without_input": 0} | counts)
        reasons = Counter(row["reason"] for row in read_jsonl(run.folder / SKIPPED))
        run.counts["reasons"] = dict(reasons.most_common(5))


def _batched(values: Sequence[Any], size: int) -> list[tuple[Any, ...]]:
    return [tuple(values[start : start + size]) for start in range(0, len(values), size)]


def _skipped_rows(item: LoadedItem) -> list[dict[str, str]]:
    rows = [
        {"item": item.item_id, "field": field, "reason": reason} for field, reason in item.skipped
    ]
    if item.given.empty:
        rows.append({"item": item.item_id, "field": "item", "reason": "has no usable input"})
    return rows
