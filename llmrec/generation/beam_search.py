"""Beam search over the catalogue's trie: every beam is a prefix of real items.

A beam's score is the sum of the log-probabilities of its codes, each normalised over its
level's whole vocabulary, as in training. Excluded items are pruned where their subtree has
nothing else left, so excluding items never shortens an answer that could have been full.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from llmrec.generation.trie import ItemTrie

NOTHING = float("-inf")


class Engine(Protocol):
    """What the search asks of a language model."""

    def prefill(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Read left-padded prompts; the last hidden state ``[users, width]`` and a cache."""
        ...

    def extend(
        self, codes: torch.Tensor, level: int, parents: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, Any]:
        """Say one more code a beam; ``codes`` and ``parents`` (beam indices) ``[users, beams]``."""
        ...

    def log_probs(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """Log-softmax over a level's codes, ``[..., level size]``."""
        ...


@torch.inference_mode()
def beam_search(
    engine: Engine,
    trie: ItemTrie,
    tokens: torch.Tensor,
    mask: torch.Tensor,
    excluded: torch.Tensor,
    beams: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best ``beams`` items for every user.

    Args:
        tokens, mask: left-padded prompts, int64 and bool ``[users, length]``.
        excluded: int64 ``[users, x]`` item indices not to return, each at most once a row,
            padded with -1.
        beams: kept at every level, at least the number of items wanted.

    Returns:
        (items int64, scores float32), both ``[users, beams]``, best first; where fewer items
        are left, -1 and -inf.
    """
    users = len(tokens)
    excluded_leaves = trie.leaves(excluded)
    hidden, cache = engine.prefill(tokens, mask)
    hidden = hidden[:, None]
    nodes = torch.zeros(users, 1, dtype=torch.int64, device=tokens.device)
    scores = torch.zeros(users, 1, device=tokens.device)
    for depth, level in enumerate(trie.levels):
        log_probs = engine.log_probs(hidden, depth)
        child, exists = trie.children(depth, nodes)
        # Padding of ``children`` points at node 0: mask before anything reads its score.
        candidates = log_probs.gather(2, level.codes[child].long()) + scores[..., None]
        exists &= trie.something_left(depth, child, excluded_leaves)
        candidates = candidates.masked_fill(~exists, NOTHING).flatten(1)
        keep = min(beams, candidates.shape[1])
        scores, best = candidates.topk(keep, dim=1)
        parents = best // level.widest
        nodes = child.flatten(1).gather(1, best).masked_fill(scores == NOTHING, -1)
        if depth + 1 < len(trie.levels):
            codes = level.codes[nodes.clamp(min=0)].long()
            hidden, cache = engine.extend(codes, depth, parents, cache)
    items = trie.items[nodes.clamp(min=0)].long().masked_fill(nodes < 0, -1)
    return _pad(items, beams, -1), _pad(scores, beams, NOTHING)


def _pad(values: torch.Tensor, width: int, fill: float) -> torch.Tensor:
    missing = width - values.shape[1]
    return torch.nn.functional.pad(values, (0, missing), value=fill) if missing else values
