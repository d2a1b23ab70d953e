"""Exact search: the items that scoring the whole catalogue and sorting would give.

A beam search comes first. Where it cannot tell that its answer is exact, branch and bound
expands every prefix whose score still beats the last item found, the best prefixes first, so that
what is found early prunes later ones.
"""

from __future__ import annotations

import torch

from llmrec.generation.beam_search import SearchOptions, SearchResult, beam_search, check_scores
from llmrec.generation.constraints import LeafConstraints
from llmrec.generation.frontier import NEG_INF, DecodingEngine, Frontier
from llmrec.generation.kv_cache import PrefillState
from llmrec.generation.trie import ItemTrie

CHUNK = 256  # prefixes expanded at once


@torch.inference_mode()
def exact_search(
    engine: DecodingEngine,
    trie: ItemTrie,
    prefix: PrefillState,
    constraints: LeafConstraints,
    n: int,
    options: SearchOptions,
) -> SearchResult:
    """The best n items for every user, with certainty.

    Arguments as for :func:`~llmrec.generation.beam_search.beam_search`.

    Raises:
        LlmrecError: if the model's scores are not finite.
    """
    found = beam_search(engine, trie, prefix, constraints, n, options)
    check_scores(found.scores)  # comparisons with what is not a number would find nothing
    items, scores = found.items.clone(), found.scores.clone()
    for user in (~found.exact).nonzero():
        alone = prefix.select(user, CHUNK * (len(trie.levels) - 1))
        best = found.items[user[0]], found.scores[user[0]]
        search = _BranchAndBound(trie, constraints.select(user), *best)
        search.expand(Frontier.root(engine, trie, options.scoring, alone))
        items[user], scores[user] = search.items, search.scores
    return SearchResult(items, scores, torch.ones_like(found.exact))


class _BranchAndBound:
    """The best items of one user, given some to begin with.

    What is found is kept with the score it was found with: the same item's score differs in the
    last digits with the shape of the batch it is computed in, so it might not be found again.
    """

    def __init__(
        self,
        trie: ItemTrie,
        constraints: LeafConstraints,
        items: torch.Tensor,
        scores: torch.Tensor,
    ) -> None:
        self.trie, self.constraints = trie, constraints
        self.items, self.scores, self.bound = items, scores, float(scores[-1])

    def expand(self, frontier: Frontier) -> None:
        children, scores = frontier.expand()
        exists = self.constraints.allowed_children(frontier.depth, frontier.nodes, children)
        widest = children.nodes.shape[2]
        values, places = scores.masked_fill(~exists, NEG_INF).flatten().sort(descending=True)
        worthwhile = int((values > self.bound).sum())
        values, places = values[:worthwhile], places[:worthwhile]
        nodes, parents = children.nodes.flatten()[places], places // widest
        if frontier.depth + 1 == len(self.trie.levels):
            self._keep(nodes, values)
            return
        for start in range(0, worthwhile, CHUNK):
            part = slice(start, start + int((values[start : start + CHUNK] > self.bound).sum()))
            if part.start == part.stop:
                return
            beneath = frontier.advance(nodes[None, part], values[None, part], parents[None, part])
            self.expand(beneath)

    def _keep(self, leaves: torch.Tensor, scores: torch.Tensor) -> None:
        items = self.trie.items[leaves].long()
        new = ~torch.isin(items, self.items)
        all_scores = torch.cat([self.scores, scores[new]])
        all_items = torch.cat([self.items, items[new]])
        self.scores, best = all_scores.topk(len(self.scores))
        self.items, self.bound = all_items[best], float(self.scores[-1])
