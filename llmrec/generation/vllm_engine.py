"""vLLM as the engine of a search: the next codes and their log-probabilities, one request a beam.

There is no hidden state to pass on, as :class:`~llmrec.generation.engine.TorchEngine` has: in its
place stand the log-probabilities themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from llmrec.errors import LlmrecError
from llmrec.generation.kv_cache import DecodeState, PrefillState
from llmrec.generation.trie import ItemTrie
from llmrec.generation.vllm_tokens import NextTokens
from llmrec.llm.vocabulary import Vocabulary


@dataclass(frozen=True)
class _VllmPrefillState(PrefillState):
    """Prompts that vLLM has cached; ``hidden`` holds log-probabilities of the first codes.

    Attributes:
        rows: int64 ``[users]``, which of the prompts each one is.
    """

    rows: torch.Tensor

    def select(self, users: torch.Tensor, slots: int) -> _VllmPrefillState:
        chosen = super().select(users, slots)
        return _VllmPrefillState(**vars(chosen), rows=self.rows[users])


@dataclass(frozen=True)
class _VllmState(DecodeState):
    """Beams after some steps; ``hidden`` holds log-probabilities of the codes that follow.

    Attributes:
        codes: int64 ``[users, beams, steps]``.
    """

    codes: torch.Tensor


@dataclass(frozen=True, eq=False)
class VllmDecodingEngine:
    """Decode steps on vLLM, for one batch of users.

    Args:
        tokens: vLLM with the item constraint, in this process or behind an address.
        vocabulary: where the item tokens are.
        trie: the catalogue.
        prompts: token ids, one row a user.
        adapters: name of each user's adapter, None for the base.
        keep: how many codes after each prefix need their own log-probability, the likeliest; None
            for all. The others are given the mean of what is left, so that all still add up to one.
    """

    tokens: NextTokens
    vocabulary: Vocabulary
    trie: ItemTrie
    prompts: Sequence[np.ndarray]
    adapters: Sequence[str | None]
    keep: int | None

    def prefill(self) -> PrefillState:
        """Read all prompts."""
        users = len(self.prompts)
        rows = torch.arange(users)
        hidden = self._next_codes(rows, torch.zeros(users, 0, dtype=torch.int64))
        nothing, lengths = torch.zeros(users, 0, dtype=torch.bool), torch.zeros_like(rows)
        return _VllmPrefillState([], [], lengths, hidden, nothing, 0, rows)

    def extend(
        self, codes: torch.Tensor, level: int, parents: torch.Tensor, state: DecodeState
    ) -> DecodeState:
        """One decode step; see :meth:`~llmrec.generation.engine.TorchEngine.extend`."""
        prefix = state.prefix
        assert isinstance(prefix, _VllmPrefillState)
        own = codes[..., None]
        if isinstance(state, _VllmState):
            before = state.codes.gather(1, parents[..., None].expand(-1, -1, state.steps))
            own = torch.cat([before, own], 2)
        children = self.trie.children(level + 1, self.trie.find(own))
        open_ = children.exists.sum(-1) > 1  # the others have no choice, or are no beams
        hidden = torch.zeros(*codes.shape, self.vocabulary.used_sizes[level + 1])
        rows = prefix.rows[:, None].expand_as(codes)
        hidden[open_] = self._next_codes(rows[open_], own[open_])
        return _VllmState(prefix, hidden, state.ancestors, state.steps + 1, own)

    def logits(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """float32 ``[..., codes]``: already log-probabilities over what may follow."""
        return hidden

    def _next_codes(self, rows: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of what may follow a prompt and some codes, one request each.

        Args:
            rows: int64 ``[requests]``, which prompt.
            codes: int64 ``[requests, depth]``.

        Returns:
            float32 ``[requests, codes of the next level]``.
        """
        depth = codes.shape[1]
        *firsts, first = [self.vocabulary.level_tokens(level).start for level in range(depth + 1)]
        width = self.vocabulary.used_sizes[depth]
        if len(rows) == 0:
            return torch.zeros(0, width)
        counts = self.trie.children(depth, self.trie.find(codes)).exists.sum(1)
        most = int(counts.max()) if self.keep is None else min(self.keep, int(counts.max()))
        tails = (codes + torch.tensor(firsts, dtype=torch.int64)).tolist()
        answers = self.tokens.likeliest(
            [
                [*self.prompts[row].tolist(), *tail]
                for row, tail in zip(rows.tolist(), tails, strict=True)
            ],
            depth,
            most,
            [self.adapters[row] for row in rows.tolist()],
        )
        table = np.empty((len(answers), width), dtype=np.float32)
        for place, ((tokens, logprobs), count) in enumerate(
            zip(answers, counts.tolist(), strict=True)
        ):
            table[place] = fill_logprobs(tokens - first, logprobs, count, width)
        return torch.from_numpy(table)


def fill_logprobs(codes: np.ndarray, values: np.ndarray, count: int, width: int) -> np.ndarray:
    """Log-probabilities of all codes of a level, of which only the likeliest are known.

    Args:
        codes, values: which they are, and their log-probabilities; -inf for what may not follow.
        count: codes that may follow.
        width: codes of the level.

    Returns:
        float32 ``[width]``; the codes that are not known share what is left evenly, at most as
        likely each as the least likely one that is.

    >>> shares = np.exp(fill_logprobs(np.array([2, 0]), np.log([0.5, 0.3]), 4, 5))
    >>> (100 * shares).round().astype(int).tolist()
    [30, 10, 50, 10, 10]

    Raises:
        LlmrecError: if a value is not a number.
    """
    if np.isnan(values).any():
        raise LlmrecError("the model's scores are not finite; its weights are damaged")
    there = values > -np.inf
    codes, places = np.unique(codes[there], return_index=True)
    values = values[there][places]
    rest = -np.inf
    if count > len(codes):
        left = max(1.0 - float(np.exp(values.astype(np.float64)).sum()), 1e-30)
        rest = min(float(np.log(left / (count - len(codes)))), float(values.min()))
    row = np.full(width, rest, dtype=np.float32)
    row[codes] = values
    return row
