"""Constrained beam search over the catalogue's trie: every beam is a prefix of real items.

A beam's score is the sum of its codes' log-probabilities. At each step a beam's next code is one of
its node's children in the trie beneath which the request's constraints leave an item
(:meth:`~llmrec.generation.constraints.LeafConstraints.allowed_children`), so they never shorten an
answer that could have been full.

A log-probability is never positive, so a prefix's score bounds that of every item beneath it.
The search uses this to know when its answer is *exact*: when the best prefix it ever dropped
scores no better than the last item it returns, no item it did not look at can be better. Where
that does not hold, :mod:`llmrec.generation.exact_search` looks beneath the dropped prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llmrec.config import check_ranges
from llmrec.errors import ConfigError, LlmrecError
from llmrec.generation.constraints import LeafConstraints
from llmrec.generation.frontier import NEG_INF, DecodingEngine, Frontier, Normalise, Scoring
from llmrec.generation.kv_cache import PrefillState
from llmrec.generation.trie import ItemTrie


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        beams: prefixes kept at each level; a request for more items than that widens it.
        normalise, temperature: see :class:`~llmrec.generation.frontier.Scoring`.
        groups: above 1, beams are chosen in so many groups one after the other, and a candidate
            pays ``diversity`` for each beam of an earlier group that begins with the same code
            (after Vijayakumar et al., arXiv 1610.02424). Scores are not changed by it.
        diversity: that price, in units of log-probability.
        exact: look beneath every prefix that could hold a better item: the answer is that of
            scoring the whole catalogue.

    Raises:
        ConfigError: if a value makes no sense.
    """

    beams: int = 50
    normalise: Normalise = "children"
    temperature: float = 1.0
    groups: int = 1
    diversity: float = 0.0
    exact: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "beams")
        check_ranges(self, "[0.001, 1000]", "temperature")
        check_ranges(self, "[0, inf)", "diversity")
        if self.normalise not in ("level", "children"):
            raise ConfigError(f"normalise: {self.normalise!r} is neither 'level' nor 'children'")
        if self.groups < 1 or self.groups > self.beams:
            raise ConfigError(f"groups: {self.groups} is not between 1 and {self.beams} beams")
        if self.exact and self.groups > 1:
            raise ConfigError("exact: the best items cannot be diverse as well; drop groups")

    @property
    def scoring(self) -> Scoring:
        """How items are scored."""
        return Scoring(self.normalise, self.temperature)


@dataclass(frozen=True)
class SearchResult:
    """The items that a search found, best first.

    Attributes:
        items: int64 ``[users, n]``, -1 where there is no more.
        scores: float32 ``[users, n]``, -inf where there is no more.
        exact: bool ``[users]``, where no item of the catalogue can be better than those found.
    """

    items: torch.Tensor
    scores: torch.Tensor
    exact: torch.Tensor


def decode_slots(trie: ItemTrie, beams: int) -> int:
    """KV-cache places that the beams of a user take: tokens they generate before the last level."""
    return sum(min(beams, len(level)) for level in trie.levels[:-1])


@torch.inference_mode()
def beam_search(
    engine: DecodingEngine,
    trie: ItemTrie,
    prefix: PrefillState,
    constraints: LeafConstraints,
    n: int,
    options: SearchOptions,
) -> SearchResult:
    """The best n items for every user.

    Args:
        prefix: the users' prompts, with :func:`decode_slots` for the beams.

    Scores are not checked here, since that waits for the device: see :func:`check_scores`.
    """
    beams = max(options.beams, n)
    frontier = Frontier.root(engine, trie, options.scoring, prefix)
    dropped = torch.full(prefix.lengths.shape, NEG_INF, device=prefix.lengths.device)
    roots = None
    while not frontier.finished:
        last = frontier.depth + 1 == len(trie.levels)
        children, scores = frontier.expand()
        exists = constraints.allowed_children(frontier.depth, frontier.nodes, children)
        candidates = scores.masked_fill(~exists, NEG_INF).flatten(1)
        level = trie.levels[frontier.depth]
        keep = min(n if last else beams, len(level), candidates.shape[1])
        if options.groups > 1 and roots is not None:
            root = roots.clamp(min=0).repeat_interleave(children.nodes.shape[2], 1)
            kept, best = _diverse(candidates, keep, root, len(trie.levels[0]), options)
        else:
            # One more than is kept says how good the best one dropped is.
            kept, best = candidates.topk(min(keep + 1, candidates.shape[1]), dim=1)
            if not last and kept.shape[1] > keep:
                dropped = torch.maximum(dropped, kept[:, keep])
            kept, best = kept[:, :keep], best[:, :keep]
        parents = best // children.nodes.shape[2]
        nodes = children.nodes.flatten(1).gather(1, best).masked_fill(kept == NEG_INF, -1)
        roots = nodes if roots is None else roots.gather(1, parents)
        frontier = frontier.advance(nodes, kept, parents)
    order = frontier.scores.argsort(dim=1, descending=True, stable=True)
    scores, nodes = frontier.scores.gather(1, order), frontier.nodes.gather(1, order)
    items = trie.items[nodes.clamp(min=0)].long().masked_fill(nodes < 0, -1)
    reached = scores[:, -1] if scores.shape[1] == n else torch.full_like(dropped, NEG_INF)
    certain = reached >= dropped
    exact = certain if options.groups == 1 else torch.zeros_like(certain)
    return SearchResult(_pad(items, n, -1), _pad(scores, n, NEG_INF), exact)


def _diverse(
    candidates: torch.Tensor, keep: int, root: torch.Tensor, n_roots: int, options: SearchOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose in groups, paying for what earlier groups already have.

    Args:
        candidates: ``[users, candidates]``.
        root: int64 ``[users, candidates]``, the first node of each, below ``n_roots``.

    Returns:
        (scores, places among the candidates), both ``[users, keep]``.
    """
    taken = candidates.new_zeros(len(candidates), n_roots)
    pool, scores, places = candidates.clone(), [], []
    for group in range(options.groups):
        size = keep // options.groups + (group < keep % options.groups)
        best = (pool - options.diversity * taken.gather(1, root)).topk(size, dim=1).indices
        scores.append(pool.gather(1, best))
        pool.scatter_(1, best, NEG_INF)
        taken.scatter_add_(1, root.gather(1, best), torch.ones_like(best, dtype=taken.dtype))
        places.append(best)
    return torch.cat(scores, 1), torch.cat(places, 1)


def _pad(values: torch.Tensor, width: int, fill: float) -> torch.Tensor:
    missing = width - values.shape[1]
    return torch.nn.functional.pad(values, (0, missing), value=fill) if missing else values


def check_scores(scores: torch.Tensor) -> None:
    """Check that the model gave numbers; waits for the device.

    Raises:
        LlmrecError: if a score is NaN or +inf.
    """
    if bool((scores.isnan() | (scores == float("inf"))).any()):
        raise LlmrecError("the model's scores are not finite; its weights are damaged")
