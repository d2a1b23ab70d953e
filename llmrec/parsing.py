"""JSON to plain values, within bounds: a thousand brackets inside each other end Python's stack.

Needs no package: ``llmrec doctor --fix`` runs where none is installed.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64  # lists and mappings inside each other
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # neither a path nor UTF-8 can hold them


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: if it is no JSON, or nested deeper than :data:`MAX_DEPTH`.

    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    text = text.decode() if isinstance(text, bytes) else text
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    # it may be deep
    if len(text) > 2 * MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    may_have_half = "\\u" in text and _HALF_PAIR.search(text)
    if may_have_half and NO_TEXT.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("has a character that no text has")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inside: list[Any] = []
        for one in level:
            if isinstance(one, dict | list):
                inside += one.values() if isinstance(one, dict) else one
        level = inside
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
