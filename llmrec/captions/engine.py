"""What every engine that answers questions about items has in common.

An engine takes questions and gives tokens; what they say is read in one place
(:mod:`llmrec.captions.answers`), so two engines that choose the same tokens write the same table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmrec.captions.asking import Seen, Task, answer_schema
from llmrec.content.schema import Schema

_QUOTES_AND_COLON = 6  # `"", : ` around a key, `""` around a value


@dataclass(frozen=True)
class Asked:
    """One question about one item."""

    task: Task
    seen: Seen


@dataclass(frozen=True)
class Answer:
    """What a model said to one question, greedily.

    Attributes:
        tokens: without the end token.
        logprobs: of each of these, among the tokens that the constraint left.
        ended: whether the model ended the answer; otherwise it ran into its limit.
    """

    tokens: list[int]
    logprobs: list[float]
    ended: bool


@dataclass(frozen=True)
class Questions:
    """What the questions are held to.

    Attributes:
        schema: the closed fields, resolved.
        caption_tokens: a caption is cut there.
        enhance_tokens: an answer to ``enhance`` is cut there.
    """

    schema: Schema
    caption_tokens: int
    enhance_tokens: int

    def json_schema(self, task: Task) -> str | None:
        """What the answer is held to, as JSON text; None for free text."""
        held = answer_schema(task, self.schema)
        return None if held is None else json.dumps(held, ensure_ascii=False)

    def max_tokens(self, task: Task) -> int:
        """Enough for the longest values in tokens of one byte: closed fields are never cut."""
        if task == "caption":
            return self.caption_tokens
        if task == "enhance":
            return self.enhance_tokens
        longest = (
            len(json.dumps(name)) + max(len(json.dumps(v)) for v in self.schema.values(name))
            for name in self.schema.names
        )
        return sum(longest) + _QUOTES_AND_COLON * len(self.schema.names) + 2


class Engine(Protocol):
    """Answers questions, greedily."""

    name: str

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer a question, in order."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...
