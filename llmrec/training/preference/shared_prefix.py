"""Batches of prompts with several completions each, in which every prompt is read once.

A row is a prompt followed by the tokens of all its completions. A completion's tokens attend to
the prompt and to their own completion, and have the positions they would have alone, so each is
scored as if it were the only one. Of an atomic item no token is read, and the row is the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SharedPrefixBatch:
    """Some prompts, each with its completions.

    Attributes:
        tokens: int64 ``[prompts, tokens]``: a prompt padded on the left, then its completions'
            tokens without the last of each, whose successor is not needed.
        present: bool ``[prompts, prompt tokens]``, False where padded.
        read: tokens of a completion that are read.
        row: int64 ``[completions]``, the prompt of each completion.
        slot: int64 ``[completions]``, its place among those of its prompt.
    """

    tokens: torch.Tensor
    present: torch.Tensor
    read: int
    row: torch.Tensor
    slot: torch.Tensor

    @classmethod
    def of(cls, input_ids: torch.Tensor, mask: torch.Tensor, levels: int) -> SharedPrefixBatch:
        """Group completions by prompt.

        Args:
            input_ids, mask: int64 ``[completions, tokens]``: prompts padded on the left, then
                ``levels`` tokens each.
        """
        read = levels - 1
        both = torch.stack([input_ids[:, :-levels], mask[:, :-levels]], dim=1)
        distinct, row = torch.unique(both, dim=0, return_inverse=True)
        counts = torch.bincount(row)
        order = row.argsort(stable=True)
        slot = torch.empty_like(row)
        first = counts.cumsum(0) - counts
        slot[order] = torch.arange(len(row), device=row.device) - first[row[order]]
        completions = input_ids.new_zeros(len(distinct), int(counts.max()), read)
        completions[row, slot] = input_ids[:, input_ids.shape[1] - levels : -1]
        tokens = torch.cat([distinct[:, 0], completions.flatten(1)], dim=1)
        return cls(tokens, distinct[:, 1].bool(), read, row, slot)

    @property
    def position_ids(self) -> torch.Tensor:
        """int64 ``[prompts, tokens]``."""
        own = (self.present.cumsum(1) - 1).clamp(min=0)
        steps = torch.arange(self.read, device=own.device).repeat(self._slots)
        return torch.cat([own, self.present.sum(1, keepdim=True) + steps], dim=1)

    @property
    def kept(self) -> int:
        """Last tokens of a row whose next-token logits are needed: prompt's last, completions'."""
        return 1 + self._slots * self.read

    def attention_mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Additive mask ``[prompts, 1, tokens, tokens]``: 0, or the least number of the type."""
        prompts, length = self.present.shape
        total, device = self.tokens.shape[1], self.tokens.device
        index = torch.arange(total, device=device)
        causal = torch.ones(total, total, dtype=torch.bool, device=device).tril()
        completion = (index - length).div(max(self.read, 1), rounding_mode="floor")
        in_prompt = index < length
        apart = ~in_prompt[None] & (completion[:, None] != completion[None])
        attends = (causal & ~apart).expand(prompts, -1, -1).clone()
        attends[:, :, :length] &= self.present[:, None]
        least = torch.finfo(dtype).min  # not -inf, which would make rows of padding NaN
        mask = torch.zeros(attends.shape, dtype=dtype, device=device)
        return mask.masked_fill(~attends, least)[:, None]

    def split(self, size: int) -> Iterator[SharedPrefixBatch]:
        """The same prompts, so many at a time, without the index of completions."""
        for tokens, present in zip(self.tokens.split(size), self.present.split(size), strict=True):
            yield SharedPrefixBatch(tokens, present, self.read, self.row[:0], self.slot[:0])

    def by_completion(self, values: torch.Tensor) -> torch.Tensor:
        """Values ``[prompts, kept, ...]`` of the last tokens as ``[completions, levels, ...]``."""
        first = torch.zeros_like(self.slot)[:, None]
        steps = torch.arange(1, self.read + 1, device=first.device)
        index = torch.cat([first, self.slot[:, None] * self.read + steps], dim=1)
        return values[self.row[:, None], index]

    @property
    def _slots(self) -> int:
        """Completions that a row has room for; 0 where nothing of them is read."""
        return (self.tokens.shape[1] - self.present.shape[1]) // max(self.read, 1)
