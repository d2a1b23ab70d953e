"""The beams of one decode step: nodes of the trie, their scores, and the model's state for them.

Beam search, exact search and the scoring of given candidates all walk the trie from the root, a
level a step; they differ in which children they keep.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch

from llmrec.generation.kv_cache import DecodeState, PrefillState
from llmrec.generation.trie import Children, ItemTrie
from llmrec.generation.trie_levels import ENDED

NEG_INF = float("-inf")
Normalise = Literal["level", "children"]


class DecodingEngine(Protocol):
    """The decode steps of a model: :class:`~llmrec.generation.engine.TorchEngine`, or vLLM as
    :class:`~llmrec.generation.vllm_engine.VllmDecodingEngine`."""

    def extend(
        self, codes: torch.Tensor, level: int, parents: torch.Tensor, state: DecodeState
    ) -> DecodeState:
        """One decode step: append one code to each beam."""

    def logits(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """float32 ``[..., codes]`` over the codes of a level that items can have today."""


@dataclass(frozen=True)
class Scoring:
    """How the model's logits become an item's score, the sum of a log-probability a token.

    Attributes:
        normalise: over what each token's probabilities add up to one. ``level``: all codes of
            the level, as in training. ``children``: those that go on to a real item, so that all
            items' probabilities add up to one, and a token without alternative costs nothing.
        temperature: divides the logits.
    """

    normalise: Normalise = "children"
    temperature: float = 1.0


@dataclass(frozen=True)
class Frontier:
    """Nodes of one depth for each user.

    Attributes:
        engine, trie, scoring: what is searched and how.
        depth: tokens generated.
        nodes: int64 ``[users, beams]``; -1 where there is no beam.
        scores: float32 ``[users, beams]``, -inf where there is no beam.
        state: of the model, for those beams that still have a choice; None when none has.
        state_beam: int64 ``[users, beams]``, each beam's place in ``state``; meaningless where it
            has no choice left. None where place and beam are the same.
    """

    engine: DecodingEngine
    trie: ItemTrie
    scoring: Scoring
    depth: int
    nodes: torch.Tensor
    scores: torch.Tensor
    state: DecodeState | None
    state_beam: torch.Tensor | None = None

    @classmethod
    def root(
        cls, engine: DecodingEngine, trie: ItemTrie, scoring: Scoring, prefix: PrefillState
    ) -> Frontier:
        """The start: one empty beam a user."""
        nodes = torch.zeros_like(prefix.lengths)[:, None]
        scores = torch.zeros(nodes.shape, device=nodes.device)
        return cls(engine, trie, scoring, 0, nodes, scores, DecodeState.start(prefix))

    @property
    def finished(self) -> bool:
        """Whether every beam is an item."""
        return self.depth == len(self.trie.levels)

    def expand(self) -> tuple[Children, torch.Tensor]:
        """All children and their scores, float32 ``[users, beams, widest]``.

        Scores of children that do not exist mean nothing.
        """
        children = self.trie.children(self.depth, self.nodes)
        return children, self.scores[..., None] + self._gains(children)

    def advance(
        self,
        nodes: torch.Tensor,
        scores: torch.Tensor,
        parents: torch.Tensor,
    ) -> Frontier:
        """Go on to some children.

        Args:
            nodes: int64 ``[users, kept]`` children, -1 for none.
            scores: float32 ``[users, kept]``.
            parents: int64 ``[users, kept]``, the beam each one comes from.
        """
        after = replace(self, depth=self.depth + 1, nodes=nodes, scores=scores)
        if after.finished or self.state is None:
            return replace(after, state=None, state_beam=None)
        beams = parents if self.state_beam is None else self.state_beam.gather(1, parents)
        codes = self.trie.levels[self.depth].codes[nodes.clamp(min=0)].long().clamp(min=0)
        if self.scoring.normalise == "level" or nodes.device.type != "cpu":
            state = self.engine.extend(codes, self.depth, beams, self.state)
            return replace(after, state=state, state_beam=None)
        # Beams with one item beneath need no pass of the model. How many others there are decides
        # the shape of the work, so this is done where reading the number costs nothing.
        leaf, end = self.trie.leaves(self.depth, nodes.clamp(min=0))
        active = (end - leaf > 1) & (nodes >= 0)
        most = int(active.sum(1).max())
        if most == 0:
            return replace(after, state=None, state_beam=None)
        first = (~active).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        state = self.engine.extend(
            codes.gather(1, first), self.depth, beams.gather(1, first), self.state
        )
        place = torch.arange(most, device=nodes.device).expand_as(first)
        state_beam = torch.zeros_like(nodes).scatter_(1, first, place)
        return replace(after, state=state, state_beam=state_beam)

    def _gains(self, children: Children) -> torch.Tensor:
        """Log-probability of each child's code, float32 ``[users, beams, widest]``."""
        if self.state is None:
            return torch.zeros(children.exists.shape, device=children.exists.device)
        logits = self.engine.logits(self.state.hidden, self.depth) / self.scoring.temperature
        if self.scoring.normalise == "level":
            logits = logits.log_softmax(-1)
        if self.state_beam is not None:
            logits = logits.gather(1, self.state_beam[..., None].expand(-1, -1, logits.shape[-1]))
        if children.codes is None:
            gains = logits[..., : children.exists.shape[-1]]
        else:
            gains = logits.gather(2, children.codes.clamp(min=0))
            gains = gains.masked_fill(children.codes == ENDED, 0.0)
        if self.scoring.normalise == "level":
            return gains
        # A child without siblings gets 0, whatever the logits of its beam mean.
        return gains.masked_fill(~children.exists, NEG_INF).log_softmax(-1)
