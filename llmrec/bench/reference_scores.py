"""A model's score of every item, by its own plain forward passes: the yardstick for every engine.

Nothing of our engine is used for it: the model's own ``forward`` reads the history, then the IDs of
all items behind it, a row an item.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.errors import require
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import Vocabulary

ITEMS_AT_ONCE = 256
Tokens = tuple[int, ...]


def open_trained(base: Path, adapter: Path | None) -> Any:
    """A base with an adapter as transformers and peft alone open it, in float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    if adapter is not None:
        model = require("peft", "tune").PeftModel.from_pretrained(model, str(adapter))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval()


class BruteForce:
    """Scores every item of a catalogue.

    Args:
        model: a causal LM of transformers, or a peft model of one; left in eval mode.
        vocabulary: where its item tokens are.
        ids: tokens of the items.
        normalise: see :class:`~llmrec.generation.frontier.Scoring`.
    """

    def __init__(
        self, model: Any, vocabulary: Vocabulary, ids: ItemIds, normalise: str = "children"
    ) -> None:
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.codes = torch.from_numpy(ids.codes.astype(np.int64)).to(self.device)
        self.tokens = [vocabulary.level_tokens(level) for level in range(ids.levels)]
        # per level: the number of each item's prefix, and which codes may follow each prefix
        self.prefixes: list[torch.Tensor] = []
        self.allowed: list[torch.Tensor] = []
        prefix = np.zeros(ids.n_items, dtype=np.int64)
        for tokens, column in zip(self.tokens, ids.codes.T.astype(np.int64), strict=True):
            size = tokens.stop - tokens.start
            allowed = np.full((prefix.max() + 1, size), normalise == "level")
            going = column >= 0
            allowed[prefix[going], column[going]] = True
            allowed[prefix[~going]] = True
            self.prefixes.append(torch.from_numpy(prefix).to(self.device))
            self.allowed.append(torch.from_numpy(allowed).to(self.device))
            prefix = np.unique(prefix * (size + 1) + column + 1, return_inverse=True)[1]

    def all_scores(self, prompts: list[np.ndarray]) -> np.ndarray:
        """:meth:`scores` of each prompt, float32 ``[users, items]``."""
        return np.stack([self.scores(prompt) for prompt in prompts])

    @torch.inference_mode()
    def scores(self, prompt: np.ndarray) -> np.ndarray:
        """Log-probability of every item after a prompt, float32 ``[items]``."""
        tokens = torch.from_numpy(prompt)[None].to(self.device)
        history = self.model(input_ids=tokens, use_cache=True, logits_to_keep=1)
        root = torch.zeros(1, dtype=torch.int64, device=self.device)
        total = self._gains(0, history.logits[:, 0], root, self.codes[:, 0])
        if len(self.tokens) > 1:
            for items in torch.arange(len(total), device=self.device).split(ITEMS_AT_ONCE):
                total[items] += self._later_gains(history.past_key_values, items)
        return total.cpu().numpy()

    def _later_gains(self, history: Any, items: torch.Tensor) -> torch.Tensor:
        """float32 ``[some]``: what all codes but the first add, after a history that was read."""
        codes = self.codes[items]
        starts = torch.tensor([tokens.start for tokens in self.tokens[:-1]], device=self.device)
        cache = copy.deepcopy(history)
        cache.batch_repeat_interleave(len(items))
        tokens = codes[:, :-1].clamp(min=0) + starts
        logits = self.model(input_ids=tokens, past_key_values=cache, use_cache=True).logits
        gains = [
            self._gains(level, logits[:, level - 1], self.prefixes[level][items], codes[:, level])
            for level in range(1, len(self.tokens))
        ]
        return torch.stack(gains).sum(0)

    def _gains(
        self, level: int, logits: torch.Tensor, prefixes: torch.Tensor, codes: torch.Tensor
    ) -> torch.Tensor:
        """Log-probability of each code, float32 ``[items]``.

        Args:
            logits: ``[items or 1, vocabulary]``.
            prefixes: int64 ``[items or 1]``, the number of the prefix that each comes after.
            codes: int64 ``[items]``; -1, where the ID has ended, adds nothing.
        """
        here = logits[:, self.tokens[level]].float()
        gains = here.masked_fill(~self.allowed[level][prefixes], -torch.inf).log_softmax(-1)
        chosen = gains.expand(len(codes), -1).gather(1, codes.clamp(min=0)[:, None])[:, 0]
        return torch.where(codes >= 0, chosen, 0.0)


def token_trie(ids: ItemIds, item_offset: int) -> tuple[dict[Tokens, int], dict[Tokens, list[int]]]:
    """The item of each ID, and the different tokens that may follow each beginning of an ID."""
    item_of: dict[Tokens, int] = {}
    following: dict[Tokens, dict[int, None]] = {}
    for item, row in enumerate((ids.tokens(np.arange(ids.n_items)) + item_offset).tolist()):
        item_of[tuple(row)] = item
        for depth, token in enumerate(row):
            following.setdefault(tuple(row[:depth]), {})[token] = None
    return item_of, {prefix: list(tokens) for prefix, tokens in following.items()}
