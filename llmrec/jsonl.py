"""Files of JSON, and of JSON lines: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmrec.parsing import parse_json


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        OSError, ValueError: if it cannot be read or is no JSON.
    """
    return parse_json(path.read_text(encoding="utf-8"))


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
        return [parse_json(line) for line in file]
