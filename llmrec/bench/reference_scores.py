"""A model's score of every item, by its own plain forward passes.

The yardstick for every engine: no trie, no cache, no shared prefix, no beams. Each beginning of an
item ID that leaves a choice is written behind the prompt, and the model reads both from the start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from llmrec.errors import require
from llmrec.item_ids.item_ids import ItemIds

ROWS = 256  # sequences read at once
Tokens = tuple[int, ...]


def open_trained(base: Path, adapter: Path | None) -> Any:
    """A base with an adapter as transformers and peft alone open it, in float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    if adapter is not None:
        model = require("peft", "tune").PeftModel.from_pretrained(model, str(adapter))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval()


@torch.inference_mode()
def every_score(
    model: Any, prompts: list[np.ndarray], ids: ItemIds, item_offset: int
) -> np.ndarray:
    """Log-probability of every item after each prompt, among the items there are.

    Args:
        model: a causal LM, or a peft model of one; left in eval mode.
        prompts: token ids of each user.
        ids: tokens of the items.
        item_offset: the first item token.

    Returns:
        float32 ``[users, items]``.
    """
    model.eval()
    item_of, following = token_trie(ids, item_offset)
    choices = {prefix: tokens for prefix, tokens in following.items() if len(tokens) > 1}
    scores = np.zeros((len(prompts), ids.n_items), dtype=np.float32)
    for user, prompt in enumerate(prompts):
        gains = _gains(model, prompt, choices)
        for tokens, item in item_of.items():
            scores[user, item] = sum(
                gains.get(tokens[: end + 1], 0.0) for end in range(len(tokens))
            )
    return scores


def token_trie(ids: ItemIds, item_offset: int) -> tuple[dict[Tokens, int], dict[Tokens, list[int]]]:
    """The item of each ID, and the different tokens that may follow each beginning of an ID."""
    item_of: dict[Tokens, int] = {}
    following: dict[Tokens, dict[int, None]] = {}
    for item, row in enumerate((ids.tokens(np.arange(ids.n_items)) + item_offset).tolist()):
        item_of[tuple(row)] = item
        for depth, token in enumerate(row):
            following.setdefault(tuple(row[:depth]), {})[token] = None
    return item_of, {prefix: list(tokens) for prefix, tokens in following.items()}


def _gains(model: Any, prompt: np.ndarray, choices: dict[Tokens, list[int]]) -> dict[Tokens, float]:
    """Log-probability of the last token of each beginning of an ID, where there was a choice."""
    gains: dict[Tokens, float] = {}
    prefixes = sorted(choices, key=len)
    for start in range(0, len(prefixes), ROWS):
        part = prefixes[start : start + ROWS]
        rows = [[*prompt.tolist(), *prefix] for prefix in part]
        for prefix, logits in zip(part, _last_logits(model, rows), strict=True):
            tokens = choices[prefix]
            for token, gain in zip(tokens, logits[tokens].log_softmax(0).tolist(), strict=True):
                gains[(*prefix, token)] = gain
    return gains


def _last_logits(model: Any, rows: list[list[int]]) -> torch.Tensor:
    """float32 ``[rows, vocabulary]``, the logits after each row of token ids."""
    device = next(model.parameters()).device
    tokens = pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    mask = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
    logits = model(input_ids=tokens, attention_mask=mask.long(), use_cache=False).logits
    return logits[torch.arange(len(rows), device=device), lengths - 1].float().cpu()
