"""The torch engine: an ordinary causal LM of transformers, read once, then extended by beams."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from llmrec.models.vocabulary import Vocabulary


class TorchEngine:
    """Runs a LLaMA-family model for :func:`~llmrec.generation.beam_search.beam_search`.

    Args:
        model: a causal LM with the expanded vocabulary.
        vocabulary: where its item tokens are.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary) -> None:
        self.model, self.vocabulary = model, vocabulary

    def prefill(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Any]:
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        output = self.model.model(
            input_ids=tokens, attention_mask=mask.long(), position_ids=positions, use_cache=True
        )
        return output.last_hidden_state[:, -1], (output.past_key_values, mask, 1)

    def extend(
        self, codes: torch.Tensor, level: int, parents: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, Any]:
        kept, mask, beams_before = cache
        users, beams = codes.shape
        rows = torch.arange(users, device=codes.device)[:, None] * beams_before + parents
        kept.reorder_cache(rows.flatten())
        mask = mask.repeat_interleave(beams, 0) if beams_before == 1 else mask[rows.flatten()]
        mask = F.pad(mask, (0, 1), value=True)
        start, _ = self.vocabulary.level_range(level)
        tokens = codes.flatten()[:, None] + self.vocabulary.item_offset + start
        output = self.model.model(
            input_ids=tokens,
            attention_mask=mask.long(),
            position_ids=mask.long().sum(1, keepdim=True) - 1,
            past_key_values=kept,
            use_cache=True,
        )
        hidden = output.last_hidden_state[:, -1].view(users, beams, -1)
        return hidden, (output.past_key_values, mask, beams)

    def log_probs(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """float32 ``[..., level size]``."""
        start, end = self.vocabulary.level_range(level)
        offset = self.vocabulary.item_offset
        head = self.model.get_output_embeddings().weight[offset + start : offset + end]
        return (hidden @ head.T).float().log_softmax(-1)

    def last_hidden(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Hidden state at the end of right-padded prompts, ``[users, width]``."""
        output = self.model.model(input_ids=tokens, use_cache=False).last_hidden_state
        hidden: torch.Tensor = output[torch.arange(len(tokens), device=tokens.device), lengths - 1]
        return hidden
