"""LLM-EMF: one person's histories in several domains, read in branches of ID, text and pictures.

After LLM-EMF (arXiv 2506.17966), whose code was never released. Each modality is a branch of its
own: a learned row an item for the ID, a projection of the frozen vector for text, pictures and
whatever else the items have. In a branch the sequence is read twice: by attention within the
target's domain (intra) and over the merged sequence (inter). A branch's state is compared with the
branch's item matrix by the cosine, and the cosines are summed over the branches. The softmax is
over the items of the target's domain.

Where we depart from what the paper describes: both attentions run over the merged sequence, intra
with a mask, so that every event of it is a target of one pass; the two are summed and go through
one feed-forward layer with an embedding of the target's domain and, where there are times, of the
request's; a branch that an item lacks is left out of its sum, and the others count for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from llmrec.llm.dropout import dropout
from llmrec.llm.vocabulary import TIME_FIELDS, Vocabulary
from llmrec.training.next_item.next_item import NextItemModel

ID = "id"


@dataclass(frozen=True)
class EmfShape:
    """What a network is built from.

    Attributes:
        n_items: catalogue size.
        domains: names.
        branches: ``id`` and the content blocks, with the length of each block's vectors (0 for id).
        layers, width, heads: of each branch.
        max_items: longest history.
        dropout: everywhere.
        intra, inter: whether there is attention within the domain, and over the merged sequence.
        time_fields: of events and the request that are read.
    """

    n_items: int
    domains: tuple[str, ...]
    branches: dict[str, int]
    layers: int
    width: int
    heads: int
    max_items: int
    dropout: float
    intra: bool = True
    inter: bool = True
    time_fields: tuple[str, ...] = ()

    @property
    def event_width(self) -> int:
        """Tokens of an event: its time fields, then its item."""
        return len(self.time_fields) + 1


class BranchLinear(nn.Module):
    """A linear layer a branch: ``[branches, n, inputs]`` to ``[branches, n, outputs]``."""

    def __init__(self, branches: int, inputs: int, outputs: int, std: float | None = None) -> None:
        super().__init__()
        scale = inputs**-0.5 if std is None else std
        self.weight = nn.Parameter(torch.randn(branches, inputs, outputs) * scale)
        self.bias = nn.Parameter(torch.zeros(branches, 1, outputs))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, states, self.weight)


class BranchNorm(nn.Module):
    """Layer normalisation with a gain and a bias a branch."""

    def __init__(self, branches: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(branches, 1, width))
        self.bias = nn.Parameter(torch.zeros(branches, 1, width))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(states, states.shape[-1:]) * self.gain + self.bias


class FeedForward(nn.Module):
    """Pre-norm feed-forward layer of every branch."""

    def __init__(self, branches: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = BranchNorm(branches, width)
        self.up = BranchLinear(branches, width, 4 * width)
        self.down = BranchLinear(branches, 4 * width, width, std=0.5 * (4 * width) ** -0.5)
        self.dropout = dropout

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        change = self.down(F.gelu(self.up(self.norm(states))))
        return states + dropout(change, self.dropout, self.training)


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward layer of every branch."""

    def __init__(self, branches: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = BranchNorm(branches, width)
        self.queries_keys_values = BranchLinear(branches, width, 3 * width)
        self.out = BranchLinear(branches, width, width, std=0.5 * width**-0.5)
        self.feed_forward = FeedForward(branches, width, dropout)

    def forward(self, states: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """
        Args:
            states: float ``[branches, batch * length, width]``.
            visible: bool ``[batch, length, length]``.
        """
        branches, n, width = states.shape
        batch, length, _ = visible.shape
        size = width // self.heads
        projected = self.queries_keys_values(self.norm(states))
        shaped = projected.view(branches, batch, length, 3, self.heads, size)
        q, k, v = shaped.permute(3, 0, 1, 4, 2, 5).reshape(
            3, branches * batch, self.heads, length, size
        )
        mask = visible[None, :, None].expand(branches, batch, 1, length, length)
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask.reshape(branches * batch, 1, length, length)
        )
        joined = attended.view(branches, batch, self.heads, length, size).transpose(2, 3)
        change = self.out(joined.reshape(branches, n, width))
        return self.feed_forward(states + dropout(change, self.dropout, self.training))


class Emf(NextItemModel):
    """The network.

    Token 0 starts a history; then, event by event, time tokens and the item's. The states are those
    of :meth:`hidden`; a domain is a level of the training loop, its items a softmax of their own.

    Args:
        shape: sizes and parts.
        domain_of_item: int64 ``[n_items]``.
        content: by block, float ``[n_items, c]``, a zero row for an item without it.
    """

    domain_of_item: torch.Tensor

    def __init__(
        self, shape: EmfShape, domain_of_item: torch.Tensor, content: dict[str, torch.Tensor]
    ) -> None:
        super().__init__()
        self.shape = shape
        count, width = len(shape.branches), shape.width
        n = shape.n_items
        self.vocabulary = Vocabulary(1, shape.time_fields, (n,), (n,))
        self.register_buffer("domain_of_item", domain_of_item)
        pools = [torch.nonzero(domain_of_item == d)[:, 0] for d in range(len(shape.domains))]
        self._pools = [f"pool_{d}" for d in range(len(pools))]
        for name, pool in zip(self._pools, pools, strict=True):
            self.register_buffer(name, pool, persistent=False)
        self.item_embedding = nn.Embedding(n, width)
        nn.init.normal_(self.item_embedding.weight, std=width**-0.5)
        self.projections = nn.ModuleDict()
        for name, block in content.items():
            self.register_buffer(f"content_{name}", block)
            self.projections[name] = nn.Linear(block.shape[1], width, bias=False)
        present = [torch.ones(n)] + [block.ne(0).any(1).float() for block in content.values()]
        self.register_buffer("present", torch.stack(present), persistent=False)
        self.absent = nn.Parameter(torch.randn(count, 1, width) * 0.02)
        self.start = nn.Parameter(torch.randn(count, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(count, shape.max_items + 2, width) * 0.02)
        self.domain_inputs = nn.Parameter(torch.zeros(count, len(shape.domains), width))
        self.domain_targets = nn.Parameter(torch.zeros(count, len(shape.domains), width))
        times = sum(TIME_FIELDS[name] for name in shape.time_fields)
        # 0 is "not said", as on the padding of a batch
        self.time_inputs = nn.Parameter(torch.zeros(count, times + 1, width))
        self.time_requests = nn.Parameter(torch.zeros(count, times + 1, width))
        self.intra, self.inter = (
            nn.ModuleList(
                Block(count, width, shape.heads, shape.dropout)
                for _ in range(shape.layers if wanted else 0)
            )
            for wanted in (shape.intra, shape.inter)
        )
        self.head = FeedForward(count, width, shape.dropout)
        self.weights = nn.Parameter(torch.zeros(count))  # of the branches, as logarithms
        self.scale = nn.Parameter(
            torch.tensor(4.0).log()
        )  # 1 / temperature, as a logarithm: low, since an input is most like itself
        self._cached: list[torch.Tensor] = []

    def pools(self) -> list[torch.Tensor]:
        """Of each domain its items, int64 and ascending."""
        return [getattr(self, name) for name in self._pools]

    def item_vectors(self) -> torch.Tensor:
        """float ``[branches, n_items, width]``; an item without the modality has no direction."""
        if not self._cached:
            vectors = [self.item_embedding.weight]
            vectors += [
                project(getattr(self, f"content_{name}"))
                for name, project in self.projections.items()
            ]
            self._cached.append(torch.stack(vectors))
        return self._cached[0]

    def forget_rows(self) -> None:
        self._cached.clear()

    def train(self, mode: bool = True) -> Emf:
        self.forget_rows()
        super().train(mode)
        return self

    def rows(self) -> torch.Tensor:
        return self._rows_of(torch.arange(self.shape.n_items, device=self.present.device))

    def head_sizes(self) -> list[int]:
        return [len(pool) for pool in self.pools()]

    def heads(self, wanted: Sequence[torch.Tensor | None] | None = None) -> list[torch.Tensor]:
        pairs = zip(self.pools(), wanted or [None] * len(self._pools), strict=True)
        return [self._rows_of(pool if some is None else pool[some]) for pool, some in pairs]

    def _rows_of(self, items: torch.Tensor) -> torch.Tensor:
        """float ``[items, branches * width]``, what states are compared with."""
        weight, present = self.weights.exp(), self.present[:, items]
        # index_select: its gradient is many times as fast as that of indexing
        unit = F.normalize(self.item_vectors().index_select(1, items), dim=-1)
        # of the branches that an item has, weights add up to those of all
        share = weight.sum() / (weight[:, None] * present).sum(0)
        return (unit * (present * share)[..., None]).permute(1, 0, 2).flatten(1)

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """float ``[batch * domains, events + 1, branches * width]``.

        State ``e`` of row ``b * domains + d`` is what event ``e`` of history ``b`` is compared
        with where its item is of domain ``d``: it has read the events before ``e``, and where there
        are time tokens, when event ``e`` happens.

        Args:
            tokens: int64 ``[batch, 1 + n]``, right-padded with token 0.
        """
        items, times = self._events(tokens)
        batch, length = items.shape
        states, domain = self._inputs(items, times)
        known = torch.cat([domain.new_ones(batch, 1, dtype=torch.bool), items[:, :-1] >= 0], dim=1)
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        visible = causal & known[:, None]
        merged = states
        itself = torch.eye(length, dtype=torch.bool, device=tokens.device)
        for block in self.inter:
            merged = block(merged, visible | itself)
        own = states
        same = domain[:, :, None] == domain[:, None]
        for block in self.intra:
            own = block(own, (visible & same) | itself)
        return self._targets(merged, own, domain, times, batch, length)

    def _events(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Items ``[batch, events + 1]``, below 0 for none, and codes of times, ``[..., fields]``.

        The last place stays free: of the request after the last event.
        """
        width = self.shape.event_width
        body = tokens[:, 1:]
        places = -(-body.shape[1] // width) + 1
        body = F.pad(body, (0, places * width - body.shape[1])).view(len(tokens), places, width)
        items = body[..., -1] - self.vocabulary.item_offset
        return items, (body[..., :-1] - self.vocabulary.time_offset + 1).clamp(min=0)

    def _inputs(
        self, items: torch.Tensor, times: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs ``[branches, batch * length, width]`` of the start and all events but the last
        place, and the domain of each, -1 for the start and for none."""
        batch, length = items.shape
        before = items[:, :-1]
        place = before.clamp(min=0)
        vectors, width = self.item_vectors(), self.shape.width
        # unit length in every branch: items of any popularity speak equally loudly
        found = F.normalize(vectors.index_select(1, place.flatten()), dim=-1) * width**0.5
        there = self.present[:, place.flatten()][..., None]
        found = torch.where(there > 0, found, self.absent)
        domain = torch.where(before >= 0, self.domain_of_item[place], -1)
        found = found + self.domain_inputs[:, domain.flatten().clamp(min=0)]
        for field in range(times.shape[-1]):
            found = found + self.time_inputs[:, times[:, :-1, field].flatten()]
        count = len(found)
        found = found.view(count, batch, length - 1, width)
        start = self.start[:, None].expand(count, batch, 1, width)
        states = torch.cat([start, found], dim=2) + self.positions[:, None, :length]
        states = dropout(states, self.shape.dropout, self.training)
        domain = F.pad(domain, (1, 0), value=-1)
        return states.reshape(count, batch * length, width), domain

    def _targets(
        self,
        merged: torch.Tensor,
        own: torch.Tensor,
        domain: torch.Tensor,
        times: torch.Tensor,
        batch: int,
        length: int,
    ) -> torch.Tensor:
        """States for a target of each domain, as :meth:`hidden` returns them."""
        count, width = len(merged), self.shape.width
        offsets = torch.arange(batch, device=domain.device)[:, None] * length
        request = merged.new_zeros(1)
        for field in range(times.shape[-1]):
            request = request + self.time_requests[:, times[..., field].flatten()]
        found = []
        for number in range(len(self.shape.domains)):
            state = self.domain_targets[:, number, None] + request
            if self.shape.inter:
                state = state + merged
            if self.shape.intra:
                place = torch.arange(length, device=domain.device)
                last = torch.where(domain == number, place, 0).cummax(dim=1).values
                # the start, where there is none
                state = state + own.index_select(1, (last + offsets).flatten())
            state = self.head(state)
            found.append(F.normalize(state, dim=-1))
        weight = self.weights.exp()[:, None, None, None] * self.scale.exp()
        states = torch.stack(found, dim=1) * weight  # [branches, domains, batch * length, width]
        states = states.view(count, len(found), batch, length, width).permute(2, 1, 3, 0, 4)
        return states.reshape(batch * len(found), length, count * width)


def shape_from(values: dict[str, Any]) -> EmfShape:
    """A shape as JSON keeps it."""
    lists = {name: tuple(values[name]) for name in ("domains", "time_fields")}
    return EmfShape(**{**values, **lists})
