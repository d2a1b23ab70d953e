"""The LLM as a ranker: the log-likelihood of given items, in one walk over the trie they span.

Candidates share the history and the beginnings of their IDs; each such prefix is decoded once.
"""

from __future__ import annotations

import torch

from llmrec.generation.frontier import NEG_INF, DecodingEngine, Frontier, Scoring
from llmrec.generation.kv_cache import PrefillState
from llmrec.generation.trie import ItemTrie


@torch.inference_mode()
def score_candidates(
    engine: DecodingEngine,
    trie: ItemTrie,
    prefix: PrefillState,
    items: torch.Tensor,
    scoring: Scoring,
) -> torch.Tensor:
    """Log-probability of each candidate after each history.

    Args:
        prefix: the users' prompts, with room for as many beams as there are candidates
            (:func:`~llmrec.generation.beam_search.decode_slots`).
        items: int64 ``[users, candidates]``, each at most once a user, padded with -1.

    Returns:
        float32 ``[users, candidates]``; -inf for padding and for items that the trie lacks.
    """
    known = (items >= 0) & (items < len(trie.leaf_of_item))
    leaves = trie.leaf_of_item[torch.where(known, items, 0)].long()
    leaves = leaves.masked_fill(~known | (leaves < 0), len(trie))
    leaves, order = leaves.sort(1)  # candidates with a common prefix become neighbours
    present = leaves < len(trie)
    frontier = Frontier.root(engine, trie, scoring, prefix)
    beam = torch.zeros_like(leaves)
    score = torch.zeros(leaves.shape, device=leaves.device)
    while not frontier.finished:
        children, scores = frontier.expand()
        node, _, place = trie.locate(frontier.depth, leaves)
        score = scores.flatten(1).gather(1, beam * children.nodes.shape[2] + place)
        fresh = torch.ones_like(present)
        fresh[:, 1:] = node[:, 1:] != node[:, :-1]
        fresh &= present
        parents, beam = beam, (fresh.cumsum(1) - 1).clamp(min=0)
        # Padding is written to one place behind the last, which is cut off.
        target = torch.where(present, beam, leaves.shape[1])
        width = leaves.shape[1]
        if leaves.device.type == "cpu":
            width = int(fresh.sum(1).max().clamp(min=1))
        frontier = frontier.advance(
            _spread(node, target, -1)[:, :width],
            _spread(score, target, NEG_INF)[:, :width],
            _spread(parents, target, 0)[:, :width],
        )
    score = score.masked_fill(~present, NEG_INF)
    return torch.empty_like(score).scatter_(1, order, score)


def _spread(values: torch.Tensor, target: torch.Tensor, fill: float) -> torch.Tensor:
    """``[users, candidates + 1]`` with each value at its target."""
    spread = values.new_full((len(values), values.shape[1] + 1), fill)
    return spread.scatter_(1, target, values)
