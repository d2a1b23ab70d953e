"""Prompts in the language model's own words: item tokens, as it was trained on.

``<item_7><item_42>``, or ``<a_3><b_9><a_0><b_4>`` for IDs of several codes, is a history; the
answer has a choice for each item, which is its tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrec.config import shown
from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds

Json = dict[str, Any]
_PROMPT = re.compile(r"\s*(?:<[a-z]+_\d{1,9}>\s*)+", re.ASCII)
_TOKEN = re.compile(r"<([a-z]+)_(\d+)>", re.ASCII)


def read_items(prompt: str, ids: ItemIds) -> list[int] | None:
    """Item indices of a prompt, oldest first; None for one in words.

    Raises:
        ConfigError: if its tokens are not those of items.

    >>> read_items("<item_1> <item_0>", ItemIds.atomic(2))
    [1, 0]
    """
    if _PROMPT.fullmatch(prompt) is None:
        return None
    codes: list[list[int]] = []
    for name, code in _TOKEN.findall(prompt):
        level = 0 if name == "item" else ord(name[0]) - ord("a")
        begins = level == 0
        if (ids.kind == "atomic") != (name == "item") or not (begins or codes):
            raise _no_item(f"<{name}_{code}>")
        if begins:
            codes.append([])
        if level != len(codes[-1]) or level >= ids.levels or (len(name) > 1 and name != "item"):
            raise _no_item(f"<{name}_{code}>")
        codes[-1].append(int(code))
    padded = np.array([one + [-1] * (ids.levels - len(one)) for one in codes], dtype=np.int64)
    items = ids.decode(padded)
    for row in np.flatnonzero(items < 0).tolist():
        raise _no_item(item_text(codes[row], ids))
    return items.tolist()


def item_text(codes: Sequence[int], ids: ItemIds) -> str:
    """The tokens of an item.

    >>> item_text([7], ItemIds.atomic(8))
    '<item_7>'
    """
    if ids.kind == "atomic":
        return f"<item_{codes[0]}>"
    there = (code for code in codes if code >= 0)
    return "".join(f"<{chr(ord('a') + level)}_{code}>" for level, code in enumerate(there))


def choices(items: Sequence[int], ids: ItemIds, logp: Sequence[float] | None) -> list[Json]:
    """A choice for each item.

    Args:
        logp: log-probability of each item's tokens, added up; None where they are not wanted.
    """
    texts = [item_text(codes, ids) for codes in ids.encode(np.asarray(items, int)).tolist()]
    return [
        {
            "index": row,
            "text": text,
            "finish_reason": "stop",
            "logprobs": None if logp is None else _logprobs(text, logp[row]),
        }
        for row, text in enumerate(texts)
    ]


def _logprobs(text: str, logp: float) -> Json:
    """An item counts as one token, whatever its codes."""
    return {"tokens": [text], "token_logprobs": [logp], "top_logprobs": None, "text_offset": [0]}


def _no_item(text: str) -> ConfigError:
    return ConfigError(f"prompt: {shown(text)} is not the tokens of an item")
