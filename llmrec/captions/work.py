"""The items of a catalogue, asked about in shards: what ``llmrec caption`` does inside.

A shard is written whole or not at all, so that a killed run goes on with the next one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from llmrec.captions.asking import TASKS
from llmrec.captions.engine import Answer, Asked, Engine, Questions
from llmrec.captions.model import MultimodalModel
from llmrec.captions.showing import Shown, Viewer
from llmrec.captions.table import CAPTIONS, SCHEMA, SKIPPED, STAGE, columns, empty_row, row_of
from llmrec.data.dataset import Dataset
from llmrec.stage import StageRun

SHARD_ITEMS = 64
_COUNTS = "counts.json"


@dataclass
class Captioner:
    """A run of the stage.

    Attributes:
        dataset: the catalogue.
        rows: item indices to caption, increasing.
        model: what is asked.
        questions: what answers are held to.
        viewer: opens items.
        start: starts the engine; called when the first shard is asked about.
    """

    dataset: Dataset
    rows: Sequence[int]
    model: MultimodalModel
    questions: Questions
    viewer: Viewer
    start: Callable[[], Engine]

    @cached_property
    def engine(self) -> Engine:
        """Started once."""
        return self.start()

    def run(self, run: StageRun) -> None:
        """Caption what is not captioned yet, and put the shards together."""
        folder = run.folder / "shards"
        folder.mkdir(exist_ok=True)
        try:
            with tqdm(total=len(self.rows), unit="item", desc=STAGE) as progress:
                for number, rows in enumerate(_batched(self.rows, SHARD_ITEMS)):
                    path = folder / f"{number:06d}"
                    if path.is_dir():
                        progress.update(len(rows))
                        progress.initial += len(rows)  # the rate is of what this run did
                        continue
                    self._shard(path, rows)
                    progress.update(len(rows))
        finally:
            if "engine" in self.__dict__:
                self.engine.close()
        self._join(run, folder)
        shutil.rmtree(folder)

    def _shard(self, path: Path, rows: Sequence[int]) -> None:
        """Ask about some items, as many at once as the engine answers at once."""
        counts: Counter[str] = Counter()
        made: list[dict[str, Any]] = []
        skipped: list[dict[str, str]] = []
        shown = self.viewer.show(self.dataset.item(row) for row in rows)
        items = list(shown)
        for item in items:
            skipped += _reasons(item)
            counts.update(f"{field}_skipped" for field, _ in item.skipped)
        asked = [item for item in items if not item.seen.empty]
        answered = iter(self._answers(asked))
        for item in items:
            if item.seen.empty:
                made.append(empty_row(item.item_id, self.questions.schema))
                counts["nothing"] += 1
                continue
            answers = dict(zip(TASKS, next(answered), strict=True))
            prompts = [self.model.prompt(t, item.seen, self.questions.schema) for t in TASKS]
            row = row_of(item.item_id, answers, prompts, self.model, self.questions.schema)
            counts["captioned"] += 1
            counts.update(f"{task}_cut" for task in TASKS if not answers[task].ended)
            made.append(row)
        self._write(path, made, skipped, counts)

    def _answers(self, items: Sequence[Shown]) -> list[tuple[Answer, ...]]:
        """The answers to all tasks, one tuple an item."""
        if not items:
            return []
        asked = [Asked(task, item.seen) for item in items for task in TASKS]
        return _batched(self.engine.answer(asked), len(TASKS))

    def _write(
        self,
        path: Path,
        made: list[dict[str, Any]],
        skipped: list[dict[str, str]],
        counts: Counter[str],
    ) -> None:
        unfinished = path.with_name(f".{path.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        table = pa.Table.from_pylist(made, columns(self.questions.schema))
        pq.write_table(table, unfinished / CAPTIONS)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in skipped)
        (unfinished / SKIPPED).write_text(lines, encoding="utf-8")
        (unfinished / _COUNTS).write_text(json.dumps(counts), encoding="utf-8")
        os.replace(unfinished, path)

    def _join(self, run: StageRun, folder: Path) -> None:
        parts = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        schema = self.questions.schema
        counts: Counter[str] = Counter()
        with pq.ParquetWriter(run.folder / CAPTIONS, columns(schema)) as whole:
            for part in parts:
                whole.write_table(pq.read_table(part / CAPTIONS))
                counts.update(json.loads((part / _COUNTS).read_text(encoding="utf-8")))
        with open(run.folder / SKIPPED, "wb") as lines:
            for part in parts:
                lines.write((part / SKIPPED).read_bytes())
        text = json.dumps(schema.as_dict(), indent=2, ensure_ascii=False)
        (run.folder / SCHEMA).write_text(text + "\n", encoding="utf-8")
        run.counts.update({"items": len(self.rows), "captioned": 0, "nothing": 0} | counts)
        run.counts["reasons"] = _common_reasons(run.folder / SKIPPED)


def _batched(values: Sequence[Any], size: int) -> list[tuple[Any, ...]]:
    return [tuple(values[start : start + size]) for start in range(0, len(values), size)]


def _reasons(item: Shown) -> list[dict[str, str]]:
    lines = [
        {"item": item.item_id, "field": field, "reason": reason} for field, reason in item.skipped
    ]
    if item.seen.empty:
        nothing = "nothing of it can be shown"
        lines.append({"item": item.item_id, "field": "item", "reason": nothing})
    return lines


def _common_reasons(path: Path) -> dict[str, int]:
    with open(path, encoding="utf-8") as file:
        reasons = Counter(json.loads(line)["reason"] for line in file)
    return dict(reasons.most_common(5))
