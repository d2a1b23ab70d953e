"""Samples different items for a prompt, each a real one, with importance weights.

The *policy* is the distribution serving ranks with: at every level of the item's ID the softmax
over the codes that lead to an item which may be recommended (``normalise: children``, items of the
history left out). Sampling from it wastes nothing on token sequences that are no item, and
nothing on the same item twice: items are sampled without replacement, by the Gumbel-top-k trick
on atomic IDs and by stochastic beam search over the trie on longer ones (Kool, van Hoof and
Welling, arXiv 1903.06059).

Likely items are sampled more often than rare ones, but less so than in proportion to their
probability ``p``: an item is among the n sampled if its perturbed log-probability is above the
(n + 1)-th largest, ``kappa``, which has the probability ``q = 1 - exp(-exp(log p - kappa))``. A sum
of ``p / q`` times any function over the sample has the expectation of that function under the
policy as its mean. The weights here are these ratios, normalised to add up to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llmrec.generation.constraints import LeafConstraints
from llmrec.generation.engine import TorchEngine
from llmrec.generation.frontier import NEG_INF, Frontier, Scoring
from llmrec.generation.kv_cache import PrefillState
from llmrec.generation.trie import Children, ItemTrie


@dataclass(frozen=True)
class Rollout:
    """Different items for each prompt, the likeliest first.

    Attributes:
        items: int64 ``[prompts, n]``, -1 where fewer may be recommended.
        log_p: float64 ``[prompts, n]``, log-probability under the policy; -inf where padded.
        log_ratio: float64 ``[prompts, n]``, log of p / q; -inf where padded.
        allowed: bool ``[prompts, n, levels, codes]``, codes that were allowed at each token.
    """

    items: torch.Tensor
    log_p: torch.Tensor
    log_ratio: torch.Tensor
    allowed: torch.Tensor

    @property
    def weights(self) -> torch.Tensor:
        """float32 ``[prompts, n]``, p / q of each item, normalised over the group."""
        return self.log_ratio.softmax(1).float()


@torch.inference_mode()
def sample_items(
    engine: TorchEngine,
    trie: ItemTrie,
    prefix: PrefillState,
    limits: LeafConstraints,
    n: int,
    generator: torch.Generator,
) -> Rollout:
    """Sample n different items for each prompt.

    Args:
        prefix: the prompts, with room for n + 1 beams
            (:func:`~llmrec.generation.beam_search.decode_slots`).
        limits: what may be recommended.
        generator: on the CPU.
    """
    frontier = Frontier.root(engine, trie, Scoring(), prefix)
    log_p = frontier.scores.double()
    noisy = log_p + _gumbel(log_p, generator)
    n_codes = max(engine.vocabulary.used_sizes)
    allowed: list[torch.Tensor] = []
    while not frontier.finished:
        children, scores = frontier.expand()
        exists = limits.allowed_children(frontier.depth, frontier.nodes, children)
        gains = (scores - frontier.scores[..., None]).double().masked_fill(~exists, NEG_INF)
        each = (log_p[..., None] + gains.log_softmax(-1)).masked_fill(~exists, NEG_INF)
        candidates = _perturbed(each, noisy, generator).flatten(1)
        noisy, best = candidates.topk(min(n + 1, candidates.shape[1]), dim=1)
        parents = best // exists.shape[2]
        nodes = children.nodes.flatten(1).gather(1, best).masked_fill(noisy == NEG_INF, -1)
        log_p = each.flatten(1).gather(1, best)
        codes = _by_code(exists, children, n_codes)
        allowed = [_of_beams(part, parents) for part in (*allowed, codes)]
        frontier = frontier.advance(nodes, log_p.float(), parents)
    return _best_first(trie, frontier.nodes, log_p, noisy, torch.stack(allowed, 2), n)


def _gumbel(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard Gumbel noise, generated on the CPU so that it is the same for every device."""
    exponential = torch.empty(like.shape, dtype=torch.float64).exponential_(generator=generator)
    return -exponential.log().to(like.device)


def _perturbed(
    log_p: torch.Tensor, above: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Gumbel-perturbed log-probabilities of children, the largest of which is their parent's.

    Args:
        log_p: float64 ``[prompts, beams, children]``, -inf where there is none.
        above: float64 ``[prompts, beams]``, the parents' own.

    Equation 6 and appendix B.3 of Kool et al., in the form that does not overflow.
    """
    free = log_p + _gumbel(log_p, generator)
    gap = above[..., None] - free
    largest = free.amax(-1, keepdim=True)
    shift = gap + torch.log1p(-(free - largest).exp())
    bound = above[..., None] - shift.clamp(min=0) - torch.log1p((-shift.abs()).exp())
    return bound.masked_fill(log_p == NEG_INF, NEG_INF)


def _by_code(exists: torch.Tensor, children: Children, n_codes: int) -> torch.Tensor:
    """bool ``[prompts, beams, codes]``: which codes lead on, from which children do."""
    marks = torch.zeros(*exists.shape[:2], n_codes, dtype=torch.bool, device=exists.device)
    if children.codes is None:
        marks[..., : exists.shape[2]] = exists
        return marks
    users, beams, places = exists.nonzero(as_tuple=True)
    marks[users, beams, children.codes[users, beams, places]] = True
    return marks


def _of_beams(values: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """The rows ``[prompts, kept, codes]`` of the beams that each kept one comes from."""
    return values.gather(1, beams[..., None].expand(-1, -1, values.shape[2]))


def _best_first(
    trie: ItemTrie,
    nodes: torch.Tensor,
    log_p: torch.Tensor,
    noisy: torch.Tensor,
    allowed: torch.Tensor,
    n: int,
) -> Rollout:
    short = n + 1 - nodes.shape[1]
    if short > 0:
        nodes = torch.nn.functional.pad(nodes, (0, short), value=-1)
        log_p = torch.nn.functional.pad(log_p, (0, short), value=NEG_INF)
        noisy = torch.nn.functional.pad(noisy, (0, short), value=NEG_INF)
        allowed = torch.nn.functional.pad(allowed, (0, 0, 0, 0, 0, short))
    # padding has neither a probability nor a chance to be sampled: -inf - 0
    log_q = torch.log(-torch.expm1(-torch.exp(log_p - noisy[:, n:])))
    log_ratio = (log_p - log_q).masked_fill(nodes < 0, NEG_INF)
    items = trie.items[nodes.clamp(min=0)].long().masked_fill(nodes < 0, -1)
    log_p = log_p[:, :n]
    order = log_p.argsort(dim=1, descending=True, stable=True)
    # copies, since autograd may not keep tensors of inference mode
    return Rollout(
        items.gather(1, order),
        log_p.gather(1, order),
        log_ratio.gather(1, order),
        allowed.gather(1, order[..., None, None].expand(-1, -1, *allowed.shape[2:])),
    )
