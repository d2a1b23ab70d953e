"""Reads prompts with several answers each, every prompt once.

A row is a prompt and behind it the tokens of all its answers. An answer's tokens attend to the
prompt and to their own answer, and stand where they would stand alone, so each reads as if it were
the only one. Of an atomic item no token is read, and the row is the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Answers:
    """Some prompts, each with the answers that belong to it.

    Attributes:
        tokens: int64 ``[prompts, tokens]``: a prompt padded on the left, then its answers' tokens
            without the last of each, whose successor nobody asks for.
        present: bool ``[prompts, prompt tokens]``.
        said: tokens of an answer that are read.
        row, place: int64 ``[answers]``, the prompt of each answer and its place behind it.
    """

    tokens: torch.Tensor
    present: torch.Tensor
    said: int
    row: torch.Tensor
    place: torch.Tensor

    @classmethod
    def of(cls, input_ids: torch.Tensor, mask: torch.Tensor, levels: int) -> Answers:
        """Put answers to the same prompt together.

        Args:
            input_ids, mask: int64 ``[answers, tokens]``: prompts padded on the left, then
                ``levels`` tokens each.
        """
        said = levels - 1
        both = torch.stack([input_ids[:, :-levels], mask[:, :-levels]], dim=1)
        distinct, row = torch.unique(both, dim=0, return_inverse=True)
        counts = torch.bincount(row)
        order = row.argsort(stable=True)
        place = torch.empty_like(row)
        first = counts.cumsum(0) - counts
        place[order] = torch.arange(len(row), device=row.device) - first[row[order]]
        behind = input_ids.new_zeros(len(distinct), int(counts.max()), said)
        behind[row, place] = input_ids[:, input_ids.shape[1] - levels : -1]
        tokens = torch.cat([distinct[:, 0], behind.flatten(1)], dim=1)
        return cls(tokens, distinct[:, 1].bool(), said, row, place)

    @property
    def positions(self) -> torch.Tensor:
        """int64 ``[prompts, tokens]``, where each token stands."""
        own = (self.present.cumsum(1) - 1).clamp(min=0)
        steps = torch.arange(self.said, device=own.device).repeat(self._most)
        return torch.cat([own, self.present.sum(1, keepdim=True) + steps], dim=1)

    @property
    def kept(self) -> int:
        """Last tokens of a row whose successors are asked for: the prompt's last, and answers'."""
        return 1 + self._most * self.said

    def seen(self, dtype: torch.dtype) -> torch.Tensor:
        """What attends to what, ``[prompts, 1, tokens, tokens]``: 0, or the least there is."""
        prompts, length = self.present.shape
        total, device = self.tokens.shape[1], self.tokens.device
        place = torch.arange(total, device=device)
        causal = torch.ones(total, total, dtype=torch.bool, device=device).tril()
        answer = (place - length).div(max(self.said, 1), rounding_mode="floor")
        in_prompt = place < length
        apart = ~in_prompt[None] & (answer[:, None] != answer[None])
        sees = (causal & ~apart).expand(prompts, -1, -1).clone()
        sees[:, :, :length] &= self.present[:, None]
        nothing = torch.finfo(dtype).min  # and not -inf, of which padding would see nothing else
        return torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill(~sees, nothing)[
            :, None
        ]

    def split(self, size: int) -> Iterator[Answers]:
        """The same prompts, so many at a time, without saying whose answers they are."""
        for tokens, present in zip(self.tokens.split(size), self.present.split(size), strict=True):
            yield Answers(tokens, present, self.said, self.row[:0], self.place[:0])

    def of_answers(self, values: torch.Tensor) -> torch.Tensor:
        """Values ``[prompts, kept, ...]`` of the last tokens as ``[answers, levels, ...]``."""
        first = torch.zeros_like(self.place)[:, None]
        steps = torch.arange(1, self.said + 1, device=first.device)
        places = torch.cat([first, self.place[:, None] * self.said + steps], dim=1)
        return values[self.row[:, None], places]

    @property
    def _most(self) -> int:
        """Answers that a row has room for; 0 where nothing of them is read."""
        return (self.tokens.shape[1] - self.present.shape[1]) // max(self.said, 1)
