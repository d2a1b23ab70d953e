"""JSON lines: files of one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one object a line, UTF-8, over what is there."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a file.

    Raises:
        OSError, ValueError: if it cannot be read or a line is no JSON.
    """
    with open(path, encoding="utf-8") as file:  # str.splitlines would break at U+2028 too
        return [json.loads(line) for line in file]
