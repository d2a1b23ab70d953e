"""Closed fields of a JSON object, chosen by a language model for many prompts at once.

The object's layout is known, so nothing is generated that could not be otherwise: what stands
between two values is read in one pass with whatever comes before it, and a pass asks for scores
only where values of a field part. An answer of fifty tokens takes some seven passes.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from llmrec.content.schema import Schema


@dataclass(frozen=True)
class FieldLayout:
    """Tokens of one field.

    Attributes:
        before: what stands before the value, from the end of the field before it.
        values: of each value.
        after: the first token that follows the value.
    """

    before: list[int]
    values: list[list[int]]
    after: int


@dataclass(frozen=True)
class Choice:
    """The value of a field: its place among the schema's, and its probability."""

    value: int
    logprob: float


def field_layouts(tokenizer: Any, schema: Schema) -> list[FieldLayout] | None:
    """How a tokenizer cuts the object; None where a token is partly of a value, partly not.

    The object is that of ``json.dumps`` with its defaults, as ``llmrec intent examples`` writes it.
    """
    first = {name: schema.values(name)[0] for name in schema.names}
    layouts = []
    for number, name in enumerate(schema.names):
        cuts = [_cut(tokenizer, first | {name: value}) for value in schema.values(name)]
        around = {(*map(tuple, cut[2 * number :: 2][:2]),) for cut in cuts if cut}
        if None in cuts or len(around) > 1:
            return None
        before, after = next(iter(around))
        values = [cut[2 * number + 1] for cut in cuts if cut]
        layouts.append(FieldLayout(list(before), values, after[0]))
    return layouts


def _cut(tokenizer: Any, fields: dict[str, str]) -> list[list[int]] | None:
    """Tokens of the parts of an object, what is between values and values by turns."""
    parts: list[str] = []
    for name, value in fields.items():
        opening = '", ' if parts else "{"
        quoted = [json.dumps(text, ensure_ascii=False) for text in (name, value)]
        parts += [f'{opening}{quoted[0]}: "', quoted[1][1:-1]]
    parts.append('"}')
    cut = tokenizer("".join(parts), add_special_tokens=False, return_offsets_mapping=True)
    ends = list(accumulate(map(len, parts)))
    tokens: list[list[int]] = [[] for _ in parts]
    for token, (start, end) in zip(cut["input_ids"], cut["offset_mapping"], strict=True):
        part = bisect_right(ends, start)
        if end > ends[part]:
            return None
        tokens[part].append(token)
    return tokens if all(tokens) else None


def choose_fields(
    model: Any, layouts: Sequence[FieldLayout], prompts: Sequence[Sequence[int]]
) -> list[list[Choice]]:
    """The value of each field for each prompt, greedily, each given those before it.

    A value's probability is that of its tokens among those that lead to any value of its field.

    Args:
        model: a causal language model of transformers.
        prompts: tokens of each, at least one.
    """
    reading = _Reading(model, len(prompts))
    unread = [list(prompt) for prompt in prompts]
    chosen: list[list[Choice]] = [[] for _ in prompts]
    for layout in layouts:
        rows = [_Row(layout, tokens) for tokens in unread]
        while any(row.options for row in rows):
            scores = reading.read(unread)
            for row, of_row in zip(rows, scores, strict=True):
                row.unread.clear()
                if row.options:
                    row.choose(of_row)
        for row, found in zip(rows, chosen, strict=True):
            found.append(Choice(row.left[0], row.logprob))
    return chosen


class _Row:
    """The value of one field for one prompt, while it is written.

    Args:
        unread: tokens that the model has not read yet; those that are written join them.

    Attributes:
        left: values that are still possible.
        options: next token -> values that it leaves; empty when the value is known.
    """

    def __init__(self, layout: FieldLayout, unread: list[int]) -> None:
        self.layout, self.unread = layout, unread
        self.left, self.length, self.logprob = list(range(len(layout.values))), 0, 0.0
        self.options: dict[int, list[int]] = {}
        unread += layout.before
        self._advance()

    def choose(self, scores: torch.Tensor) -> None:
        """Write the likeliest option, and what can only follow it.

        Args:
            scores: float ``[vocabulary]``, of the next token.
        """
        tokens = list(self.options)
        logprobs = scores[tokens].float().log_softmax(-1)
        best = int(logprobs.argmax())
        self.logprob += float(logprobs[best])
        self._write(tokens[best])
        self._advance()

    def _advance(self) -> None:
        while len(self.left) > 1:
            self.options = {}
            for value in self.left:
                self.options.setdefault(self._token(value), []).append(value)
            if len(self.options) > 1:
                return
            self._write(next(iter(self.options)))
        self.options = {}
        self.unread += self.layout.values[self.left[0]][self.length :]

    def _write(self, token: int) -> None:
        self.left = self.options[token]
        values = [self.layout.values[value] for value in self.left]
        if self.length < max(map(len, values)):  # else it is what follows a value
            self.unread.append(token)
            self.length += 1

    def _token(self, value: int) -> int:
        tokens = self.layout.values[value]
        return tokens[self.length] if self.length < len(tokens) else self.layout.after


class _Reading:
    """What the model has read of each prompt."""

    def __init__(self, model: Any, rows: int) -> None:
        self.model, self.cache = model, None
        self.read_mask = torch.zeros((rows, 0), dtype=torch.long, device=model.device)

    def read(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Scores of the next token, float ``[rows, vocabulary]``; of no meaning for a row that is
        given no token."""
        width = max(map(len, tokens))
        ids = torch.zeros((len(tokens), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, new in enumerate(tokens):
            ids[row, width - len(new) :] = torch.tensor(new, dtype=torch.long)
            mask[row, width - len(new) :] = 1
        device = self.read_mask.device
        self.read_mask = torch.cat([self.read_mask, mask.to(device)], dim=1)
        positions = (self.read_mask.cumsum(1) - 1).clamp(min=0)[:, -width:]
        with torch.inference_mode():
            found = self.model(
                input_ids=ids.to(device),
                attention_mask=self.read_mask,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self.cache = found.past_key_values
        scores: torch.Tensor = found.logits[:, -1].float().cpu()
        return scores
