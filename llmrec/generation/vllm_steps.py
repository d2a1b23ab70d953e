"""vLLM as the engine of a search: what may come next, and how likely, one request a beam.

:class:`VllmSteps` gives :func:`~llmrec.generation.beam_search.beam_search` what it asks of an
engine. There is no hidden state to pass on: in its place stand the log-probabilities themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llmrec.errors import LlmrecError
from llmrec.generation.engine import Prefix, Said
from llmrec.generation.trie import ItemTrie
from llmrec.llm.vocabulary import Vocabulary

SAID = "llmrec_said"  # how many of a prompt's last tokens begin an item ID


@dataclass(frozen=True)
class Asked:
    """What a batch of users asks.

    Attributes:
        prompts: token ids, one row a user.
        adapters: vLLM's ``LoRARequest`` of each user, None for the base.
    """

    prompts: Sequence[np.ndarray]
    adapters: Sequence[Any]


@dataclass(frozen=True)
class _Read(Prefix):
    """Prompts that vLLM has read; ``hidden`` holds log-probabilities of the first codes.

    Attributes:
        rows: int64 ``[users]``, which of the prompts each one is.
    """

    rows: torch.Tensor

    def select(self, users: torch.Tensor, room: int) -> _Read:
        chosen = super().select(users, room)
        return _Read(**vars(chosen), rows=self.rows[users])


@dataclass(frozen=True)
class _Spoken(Said):
    """What beams have said; ``hidden`` holds log-probabilities of the codes that follow.

    Attributes:
        codes: int64 ``[users, beams, steps]``.
    """

    codes: torch.Tensor


class VllmSteps:
    """Steps of a search on vLLM, for one batch of users.

    Args:
        llm: a ``vllm.LLM`` with the item constraint and processed log-probabilities.
        vocabulary: where the item tokens are.
        trie: the catalogue.
        asked: the users.
        keep: how many codes after each prefix have to be told apart, the likeliest; None for
            all. The others are given the mean of what is left, so that all still add up to one.
    """

    def __init__(
        self, llm: Any, vocabulary: Vocabulary, trie: ItemTrie, asked: Asked, keep: int | None
    ) -> None:
        self.llm, self.vocabulary, self.trie = llm, vocabulary, trie
        self.asked, self.keep = asked, keep

    def read(self) -> Prefix:
        """Read all prompts."""
        users = len(self.asked.prompts)
        rows = torch.arange(users)
        hidden = self._ask(rows, torch.zeros(users, 0, dtype=torch.int64))
        nothing = torch.zeros(users, 0, dtype=torch.bool)
        return _Read([], [], torch.zeros(users, dtype=torch.int64), hidden, nothing, 0, rows)

    def extend(self, codes: torch.Tensor, level: int, parents: torch.Tensor, said: Said) -> Said:
        """Say one more code a beam; see :meth:`~llmrec.generation.engine.TorchEngine.extend`."""
        prefix = said.prefix
        assert isinstance(prefix, _Read)
        own = codes[..., None]
        if isinstance(said, _Spoken):
            before = said.codes.gather(1, parents[..., None].expand(-1, -1, said.steps))
            own = torch.cat([before, own], 2)
        children = self.trie.children(level + 1, self.trie.find(own))
        open_ = children.exists.sum(-1) > 1  # the others have no choice, or are no beams
        start, end = self.vocabulary.level_range(level + 1)
        hidden = torch.zeros(*codes.shape, end - start)
        rows = prefix.rows[:, None].expand_as(codes)
        hidden[open_] = self._ask(rows[open_], own[open_])
        return _Spoken(prefix, hidden, said.ancestors, said.steps + 1, own)

    def logits(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """float32 ``[..., codes]``: already log-probabilities over what may follow."""
        return hidden

    def _ask(self, rows: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """One request each for what may come after a prompt and some codes.

        Args:
            rows: int64 ``[requests]``, which prompt.
            codes: int64 ``[requests, depth]``.

        Returns:
            float32 ``[requests, codes of the next level]``.
        """
        from vllm import SamplingParams

        depth = codes.shape[1]
        start, end = self.vocabulary.level_range(depth)
        if len(rows) == 0:
            return torch.zeros(0, end - start)
        counts = self.trie.children(depth, self.trie.find(codes)).exists.sum(1)
        most = int(counts.max()) if self.keep is None else min(self.keep, int(counts.max()))
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprobs=most,
            flat_logprobs=True,
            detokenize=False,
            ignore_eos=True,
            extra_args={SAID: depth},
        )
        offset = self.vocabulary.item_offset
        firsts = torch.tensor([self.vocabulary.level_range(level)[0] for level in range(depth)])
        tails = (codes + firsts.long() + offset).tolist()
        answers = self.llm.generate(
            [
                {"prompt_token_ids": [*self.asked.prompts[row].tolist(), *tail]}
                for row, tail in zip(rows.tolist(), tails, strict=True)
            ],
            params,
            lora_request=[self.asked.adapters[row] for row in rows.tolist()],
            use_tqdm=False,
        )
        table = np.empty((len(answers), end - start), dtype=np.float32)
        for place, (answer, count) in enumerate(zip(answers, counts.tolist(), strict=True)):
            found = answer.outputs[0].logprobs
            tokens = np.asarray(found.token_ids) - offset - start
            table[place] = told_apart(tokens, np.asarray(found.logprobs), count, end - start)
        return torch.from_numpy(table)


def told_apart(codes: np.ndarray, values: np.ndarray, count: int, width: int) -> np.ndarray:
    """Log-probabilities of a level's codes, of which only the likeliest are known.

    Args:
        codes, values: which they are, and their log-probabilities; -inf for what may not follow.
        count: codes that may follow.
        width: codes of the level.

    Returns:
        float32 ``[width]``; the codes that are not known share what is left evenly, at most as
        likely each as the least likely one that is.

    >>> shares = np.exp(told_apart(np.array([2, 0]), np.log([0.5, 0.3]), 4, 5))
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
