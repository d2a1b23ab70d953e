"""Renders prompts and completions as token ids.

Text goes through the tokenizer with special tokens taken as plain text, so that a title which
happens to spell an item token stands for that title and not for the item. Items and histories are
inserted as the ids that the :class:`~llmrec.llm.vocabulary.HistoryEncoder` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.errors import ConfigError
from llmrec.llm.vocabulary import HistoryEncoder
from llmrec.prompts import load_template

Value = str | np.ndarray  # text, or token ids


@dataclass(frozen=True)
class TaskExample:
    """A prompt and its completion.

    Attributes:
        task: the task it is an example of.
        prompt_ids: int64 ``[tokens]``, without a loss.
        completion_ids: int64 ``[tokens]``, with a loss.
    """

    task: str
    prompt_ids: np.ndarray
    completion_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)

    def fitted(self, max_length: int) -> TaskExample:
        """The example in at most so many tokens.

        The completion keeps its beginning, at most half of the tokens; the prompt loses its
        middle, since its two ends hold the instruction.
        """
        if len(self) <= max_length:
            return self
        answer = self.completion_ids[: max_length // 2]
        room = max_length - len(answer)
        if len(self.prompt_ids) <= room:
            return TaskExample(self.task, self.prompt_ids, answer)
        tail = room // 2
        ends = [self.prompt_ids[: room - tail], self.prompt_ids[len(self.prompt_ids) - tail :]]
        return TaskExample(self.task, np.concatenate(ends), answer)


class PromptWriter:
    """Renders prompts and completions as token ids.

    Args:
        tokenizer: of the expanded model.
        encoder: of items and histories; None for a model that knows no items.

    Raises:
        ConfigError: if the tokenizer has no token to begin with or none to end with.
    """

    def __init__(self, tokenizer: Any, encoder: HistoryEncoder | None) -> None:
        start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        if end is None:
            raise ConfigError("base: its tokenizer has no end token, so no answer would end")
        self.tokenizer, self._encoder = tokenizer, encoder
        self.start, self.end = int(end if start is None else start), int(end)

    @property
    def knows_items(self) -> bool:
        """Whether items have tokens."""
        return self._encoder is not None

    @property
    def encoder(self) -> HistoryEncoder:
        """Of items and histories."""
        assert self._encoder is not None, "a model that knows no items reads text alone"
        return self._encoder

    def words(self, text: str) -> np.ndarray:
        """Plain text, int64 ``[tokens]``, without start and end token."""
        ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return np.asarray(ids, dtype=np.int64)

    def prompt(self, template: str, **values: Value) -> np.ndarray:
        """The start token and a template by name, its variables filled in: int64 ``[tokens]``.

        Raises:
            ConfigError: if a variable is missing or unknown.
        """
        parts = load_template(template).parts(**values)
        ids = [np.array([self.start]), *(self._ids(run) for run in _runs(parts))]
        return np.concatenate(ids).astype(np.int64)

    def phrase(self, template: str, **values: str) -> str:
        """A template of text only, as text."""
        return load_template(template).render(**values)

    def items(self, items: Sequence[int] | np.ndarray) -> np.ndarray:
        """Items by index, one after another: int64 ``[tokens]``."""
        tokens: np.ndarray = self.encoder.item_tokens[np.asarray(items, dtype=np.int64)]
        return tokens.ravel()

    def history(self, items: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        """The newest events of a history, int64 ``[tokens]``, without what follows in a prompt."""
        return self.encoder.events(items, times).ravel()

    def answer(self, value: Value) -> np.ndarray:
        """A completion that ends: int64 ``[tokens]`` and the end token."""
        return np.append(self._ids(value), self.end)

    def _ids(self, value: Value) -> np.ndarray:
        return self.words(value) if isinstance(value, str) else value


def _runs(parts: list[str | Value]) -> list[Value]:
    """Neighbouring texts joined, so that they are tokenised as one text."""
    runs: list[Value] = []
    for part in parts:
        if isinstance(part, str) and runs and isinstance(runs[-1], str):
            runs[-1] = runs[-1] + part
        elif not isinstance(part, str) or part:
            runs.append(part)
    return runs
