"""A JSON-able result that is computed once, however often its run is started again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def once(path: Path, compute: Callable[[], Any]) -> Any:
    """A JSON-able result, computed once: a run that goes on reads what it had."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    result = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(path)
    return result
