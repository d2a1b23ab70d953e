"""A folder of sequences that are split by people: ``train*.txt``, ``valid*.txt``, ``test*.txt``.

A line is ``user``, a tab, and ``item,item,...`` in time order, as LLMCDSR (TOIS 2025) publishes its
cross-domain sets. The file's name says the split. Of a sequence of validation or test the last item
is the target, and what stands before it is history that nothing is learned from. The numbers of
users begin anew in every file: user 7 of ``test.txt`` is ``test/7``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from llmrec.data import raw_files
from llmrec.data.dataset import SPLIT_CODES
from llmrec.data.formats.sequences import read_items
from llmrec.data.raw_files import files_at
from llmrec.data.reading import Reading
from llmrec.data.settings import IngestConfig
from llmrec.data.source import Source
from llmrec.data.splitting import HISTORY, code_of_file
from llmrec.errors import ConfigError, DataError

_FIELDS = ("user_id", "item_id", "split")


def open_source(config: IngestConfig) -> Source:
    """The files of a folder, with or without an item file.

    Raises:
        ConfigError: if another split is asked for.
        DataError: if there are none.
    """
    if config.split != "given":
        raise ConfigError("split: files of format split-sequences say it; set split: given")
    files = sorted(config.events.glob("*.txt")) if config.events.is_dir() else [config.events]
    if not files:
        raise DataError(f"{config.events}: holds no .txt file")
    item_reading, event_reading = Reading(config.item_reading), Reading(config.event_reading)
    item_files = [] if config.items is None else files_at(config.items)
    items = partial(_all_items, item_files, item_reading)
    return Source(
        [*item_files, *files],
        items if item_files else None,
        lambda: (chunk for path in files for chunk in _events(path, event_reading)),
        item_reading=item_reading,
        event_reading=event_reading,
        order="file",
    )


def _all_items(files: list[Path], reading: Reading) -> Iterator[Any]:
    return (item for path in files for item in read_items(path, reading))


def _events(path: Path, reading: Reading) -> Iterator[raw_files.Chunk]:
    return raw_files.packed(path, _rows(path, reading), _FIELDS)


def _rows(path: Path, reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    split = next(name for name, code in SPLIT_CODES.items() if code == code_of_file(path))
    before = split if split == "train" else HISTORY
    for row, line in raw_files.text_lines(path, reading):
        user, _, sequence = line.strip().partition("\t")
        items = [item for item in sequence.split(",") if item.strip()]
        if not items:
            reading.skip(
                DataError(
                    f"{path}: row {row}: user {user[:80]!r} has no items; write the user, a tab "
                    "and item,item,... or remove the line"
                )
            )
        for place, item in enumerate(items, start=1):
            part = split if place == len(items) else before
            yield row, {"user_id": f"{path.stem}/{user}", "item_id": item, "split": part}
