"""Where a search stands: nodes of the trie, their scores, and what the model thinks comes next.

Beam search, exhaustive search and the scoring of given candidates all walk the trie from the
root, a level a step; they differ in which children they keep.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch

from llmrec.generation.engine import Prefix, Said
from llmrec.generation.trie import ENDED, Children, ItemTrie

NOTHING = float("-inf")
Normalise = Literal["level", "children"]


class Engine(Protocol):
    """What a search asks of a model: :class:`~llmrec.generation.engine.TorchEngine`, or vLLM."""

    def extend(self, codes: torch.Tensor, level: int, parents: torch.Tensor, said: Said) -> Said:
        """Say one more code a beam."""
        ...

    def logits(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """float32 ``[..., codes]`` over the codes of a level that items can have."""
        ...


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
        depth: tokens said.
        nodes: int64 ``[users, beams]``; -1 where there is no beam.
        scores: float32 ``[users, beams]``, -inf where there is no beam.
        said: what the model has said for those beams that still have a choice; None when none has.
        column: int64 ``[users, beams]``, each beam's place in ``said``; meaningless where it has
            no choice left. None where place and beam are the same.
    """

    engine: Engine
    trie: ItemTrie
    scoring: Scoring
    depth: int
    nodes: torch.Tensor
    scores: torch.Tensor
    said: Said | None
    column: torch.Tensor | None = None

    @classmethod
    def root(cls, engine: Engine, trie: ItemTrie, scoring: Scoring, prefix: Prefix) -> Frontier:
        """The start: one empty beam a user."""
        nodes = torch.zeros_like(prefix.lengths)[:, None]
        scores = torch.zeros(nodes.shape, device=nodes.device)
        return cls(engine, trie, scoring, 0, nodes, scores, Said.nothing(prefix))

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
        if after.finished or self.said is None:
            return replace(after, said=None, column=None)
        columns = parents if self.column is None else self.column.gather(1, parents)
        codes = self.trie.levels[self.depth].codes[nodes.clamp(min=0)].long().clamp(min=0)
        active = self._undecided(nodes)
        if active is None:
            said = self.engine.extend(codes, self.depth, columns, self.said)
            return replace(after, said=said, column=None)
        # Only where the model has a choice to make is it asked. How many beams that is decides
        # the shape of the work, so this is done where asking costs nothing.
        most = int(active.sum(1).max())
        if most == 0:
            return replace(after, said=None, column=None)
        first = (~active).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        said = self.engine.extend(
            codes.gather(1, first), self.depth, columns.gather(1, first), self.said
        )
        place = torch.arange(most, device=nodes.device).expand_as(first)
        column = torch.zeros_like(nodes).scatter_(1, first, place)
        return replace(after, said=said, column=column)

    def _undecided(self, nodes: torch.Tensor) -> torch.Tensor | None:
        """bool ``[users, kept]``, nodes with several items beneath; None to treat all alike."""
        if self.scoring.normalise == "level" or nodes.device.type != "cpu":
            return None
        first, end = self.trie.leaves(self.depth, nodes.clamp(min=0))
        return (end - first > 1) & (nodes >= 0)

    def _gains(self, children: Children) -> torch.Tensor:
        """Log-probability of each child's code, float32 ``[users, beams, widest]``."""
        if self.said is None:
            return torch.zeros(children.exists.shape, device=children.exists.device)
        logits = self.engine.logits(self.said.hidden, self.depth) / self.scoring.temperature
        if self.scoring.normalise == "level":
            logits = logits.log_softmax(-1)
        if self.column is not None:
            logits = logits.gather(1, self.column[..., None].expand(-1, -1, logits.shape[-1]))
        if children.codes is None:
            gains = logits[..., : children.exists.shape[-1]]
        else:
            gains = logits.gather(2, children.codes.clamp(min=0))
            gains = gains.masked_fill(children.codes == ENDED, 0.0)
        if self.scoring.normalise == "level":
            return gains
        # A child without siblings gets 0, whatever the logits of its beam mean.
        return gains.masked_fill(~children.exists, NOTHING).log_softmax(-1)
