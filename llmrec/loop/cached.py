"""A JSON-able result that is computed once, however often its run is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmrec.files import write_whole
from llmrec.jsonl import read_json


def cached_json(path: Path, compute: Callable[[], Any]) -> Any:
    """Compute a result and keep it in a file; a resumed run reads the file."""
    if path.is_file():
        return read_json(path)
    result = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(result))
    return result
