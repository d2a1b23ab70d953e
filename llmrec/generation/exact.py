"""The true best items: what scoring the whole catalogue and sorting would give.

A beam search comes first. Where it cannot tell that its answer is exact, branch and bound
looks beneath every prefix whose score still beats the last item found, the best prefixes
first, so that what is found early keeps later ones from being looked at.
"""

from __future__ import annotations

import torch

from llmrec.generation.beam_search import Found, SearchOptions, beam_search
from llmrec.generation.constraints import LeafConstraints
from llmrec.generation.engine import Prefix, TorchEngine
from llmrec.generation.frontier import NOTHING, Frontier
from llmrec.generation.trie import ItemTrie

CHUNK = 256  # prefixes looked beneath at once
# The same item's score differs in the last digits with the shape of the batch it was computed in.
ROUNDING = 1e-4


@torch.inference_mode()
def exact_search(
    engine: TorchEngine,
    trie: ItemTrie,
    prefix: Prefix,
    constraints: LeafConstraints,
    n: int,
    options: SearchOptions,
) -> Found:
    """The best n items for every user, with certainty.

    Arguments as for :func:`~llmrec.generation.beam_search.beam_search`.
    """
    found = beam_search(engine, trie, prefix, constraints, n, options)
    items, scores = found.items.clone(), found.scores.clone()
    for user in (~found.exact).nonzero():
        alone = prefix.select(user, CHUNK * (len(trie.levels) - 1))
        search = _BranchAndBound(trie, constraints.select(user), n, float(scores[user, -1]))
        search.look_beneath(Frontier.root(engine, trie, options.scoring, alone))
        items[user], scores[user] = search.items, search.scores
    return Found(items, scores, torch.ones_like(found.exact))


class _BranchAndBound:
    """The best items of one user among those scoring at least ``bound``."""

    def __init__(self, trie: ItemTrie, constraints: LeafConstraints, n: int, bound: float) -> None:
        self.trie, self.constraints, self.bound = trie, constraints, bound - ROUNDING
        device = trie.items.device
        self.items = torch.full((n,), -1, dtype=torch.int64, device=device)
        self.scores = torch.full((n,), NOTHING, device=device)

    def look_beneath(self, frontier: Frontier) -> None:
        children, scores = frontier.expand()
        exists = self.constraints.narrow(frontier.depth, frontier.nodes, children)
        widest = children.nodes.shape[2]
        values, places = scores.masked_fill(~exists, NOTHING).flatten().sort(descending=True)
        worthwhile = int((values >= self.bound).sum())
        values, places = values[:worthwhile], places[:worthwhile]
        nodes, parents = children.nodes.flatten()[places], places // widest
        if frontier.depth + 1 == len(self.trie.levels):
            self._keep(nodes, values)
            return
        for start in range(0, worthwhile, CHUNK):
            part = slice(start, start + int((values[start : start + CHUNK] >= self.bound).sum()))
            if part.start == part.stop:
                return
            beneath = frontier.advance(nodes[None, part], values[None, part], parents[None, part])
            self.look_beneath(beneath)

    def _keep(self, leaves: torch.Tensor, scores: torch.Tensor) -> None:
        all_scores = torch.cat([self.scores, scores])
        all_items = torch.cat([self.items, self.trie.items[leaves].long()])
        self.scores, best = all_scores.topk(len(self.scores))
        self.items = all_items[best]
        self.bound = max(self.bound, float(self.scores[-1]) - ROUNDING)
