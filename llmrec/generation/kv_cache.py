"""The KV cache of a batch of prompts (prefill), and of what beams generate after them (decode).

The keys and values of a prompt are held once per user. What the beams generate since is kept as
a tree beside them: a beam's token attends to the prompt and to its own ancestors, which a small
mask names, so nothing is copied when beams fork or end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PrefillState:
    """The KV cache of a batch of prompts, after prefill.

    Attributes:
        keys, values: per layer ``[users, kv heads, width + slots, head width]``; the first
            ``width`` places are the prompts', the others are free for tokens that beams generate.
        lengths: int64 ``[users]``, tokens of each prompt.
        hidden: ``[users, model width]``, the final hidden state after the last token.
        present: bool ``[users, width]``, which places hold a token.
        width: places the prompts take.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    lengths: torch.Tensor
    hidden: torch.Tensor
    present: torch.Tensor
    width: int

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, users: torch.Tensor, slots: int) -> PrefillState:
        """Some of the users (int64 indices), with ``slots`` free places behind their prompts."""

        def moved(old: torch.Tensor) -> torch.Tensor:
            new = old.new_empty(len(users), old.shape[1], self.width + slots, old.shape[3])
            new[:, :, : self.width] = old[users, :, : self.width]
            return new

        return PrefillState(
            [moved(keys) for keys in self.keys],
            [moved(values) for values in self.values],
            self.lengths[users],
            self.hidden[users],
            self.present[users],
            self.width,
        )


@dataclass(frozen=True)
class DecodeState:
    """Beams after some decode steps, as a tree whose keys fill the prefix's free places.

    Attributes:
        prefix: the prompts.
        hidden: ``[users, beams, model width]``, after each beam's last token.
        ancestors: bool ``[users, beams, tokens generated]``, whose keys each beam attends to, its
            own last one included.
        steps: tokens that each beam has generated.
    """

    prefix: PrefillState
    hidden: torch.Tensor
    ancestors: torch.Tensor
    steps: int

    @classmethod
    def start(cls, prefix: PrefillState) -> DecodeState:
        """One beam a user, before its first token."""
        none = torch.zeros(len(prefix), 1, 0, dtype=torch.bool, device=prefix.lengths.device)
        return cls(prefix, prefix.hidden[:, None], none, 0)
