"""Layers of the click network: numeric embeddings, cross layers, target attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmrec.ranking.ctr.settings import STARS

N_TYPES = 8  # event types, one more than there are, for padding
_AGE_FEATURES = 6


class PiecewiseLinearEmbedding(nn.Module):
    """Embeds each numeric feature by how far it fills its bins; a vector of its own if missing.

    Args:
        count: features.
        bins: of each.
        dim: of an embedding.
    """

    def __init__(self, count: int, bins: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("lower", torch.zeros(count, bins))
        self.register_buffer("width", torch.ones(count, bins))
        self.register_buffer("used", torch.ones(count, dtype=torch.bool))
        self.weight = nn.Parameter(torch.randn(count, bins, dim) / bins**0.5)
        self.bias = nn.Parameter(torch.zeros(count, dim))
        self.missing = nn.Parameter(torch.randn(count, dim) * 0.1)

    def set_bins(self, edges: Tensor) -> None:
        """Put the bins where the values are.

        Args:
            edges: float ``[features, bins + 1]``, rising; equal ones make an empty bin. NaN for a
                feature that was always missing: nothing was learned of it, so it stays missing.
        """
        self.used.copy_(~torch.isnan(edges).any(dim=1))
        edges = torch.nan_to_num(edges)
        self.lower.copy_(edges[:, :-1])
        self.width.copy_(edges[:, 1:] - edges[:, :-1])

    def forward(self, values: Tensor) -> Tensor:
        """``[..., features]``, NaN missing -> ``[..., features * dim]``."""
        known = ~torch.isnan(values) & self.used
        filled = torch.where(known, values, 0.0).unsqueeze(-1) - self.lower
        # an empty bin is full above it and empty below
        share = torch.where(
            self.width > 0, filled / self.width.clamp(min=1e-12), (filled >= 0).to(filled.dtype)
        ).clamp(0.0, 1.0)
        embedded = torch.einsum("...nb,nbd->...nd", share, self.weight) + self.bias
        return torch.where(known.unsqueeze(-1), embedded, self.missing).flatten(-2)


class CrossNet(nn.Module):
    """DCN-v2's low-rank cross layers: ``x0 * (U V x + b) + x``."""

    def __init__(self, width: int, layers: int, rank: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(rank, width) for _ in range(layers))

    def forward(self, first: Tensor) -> Tensor:
        state = first
        for down, up in zip(self.down, self.up, strict=True):
            state = first * up(down(state)) + state
        return state


class TargetAttention(nn.Module):
    """DIN target attention: each candidate attends to the user's history and to a null key.

    The null key and value stand for "nothing in the history matters". One learned query beside the
    candidates' gives a summary of the history for the request.
    """

    def __init__(self, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        inner = heads * dim
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.types = nn.Embedding(N_TYPES, inner)
        self.age = nn.Linear(_AGE_FEATURES, inner)
        self.age_weight = nn.Linear(_AGE_FEATURES, heads)
        self.rating = nn.Linear(2, inner)
        self.null = nn.Parameter(torch.zeros(2, inner))  # key and value
        self.request_query = nn.Parameter(torch.randn(inner) * 0.1)

    def forward(
        self, candidates: Tensor, history: Tensor, types: Tensor, ages: Tensor, ratings: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The attention outputs of the candidates and of the request.

        Args:
            candidates: ``[requests, candidates, width]``.
            history: ``[requests, events, width]``.
            types: int ``[requests, events]``, -1 pads.
            ages: ``[requests, events]`` days, NaN unknown.
            ratings: ``[requests, events]``, NaN none.

        Returns:
            ``[requests, candidates, heads * dim]`` and ``[requests, heads * dim]``.
        """
        n_requests = len(types)
        valid = types >= 0
        age = _age_features(ages)
        rated = ~torch.isnan(ratings)
        rating = torch.stack(
            [torch.where(rated, ratings - STARS, 0.0), rated.to(history.dtype)], dim=-1
        )
        event = self.types(torch.where(valid, types, N_TYPES - 1)) + self.age(age)
        event = event + self.rating(rating)
        null = self.null.expand(n_requests, 2, -1)
        keys = torch.cat([self.key(history) + event, null[:, :1]], dim=1)
        values = torch.cat([self.value(history) + event, null[:, 1:]], dim=1)
        bias = F.pad(self.age_weight(age), (0, 0, 0, 1))
        bias = bias.masked_fill(~F.pad(valid, (0, 1), value=True).unsqueeze(-1), -1e9)
        bias = bias.permute(0, 2, 1).unsqueeze(2)  # [requests, heads, 1, events + 1]
        request_query = self.request_query.expand(n_requests, 1, -1)
        queries = torch.cat([self.query(candidates), request_query], dim=1)
        q, k, v = (
            part.view(n_requests, -1, self.heads, self.dim).transpose(1, 2)
            for part in (queries, keys, values)
        )
        scores = q @ k.transpose(2, 3) / self.dim**0.5 + bias
        attended = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return attended[:, :-1], attended[:, -1]


def _age_features(ages: Tensor) -> Tensor:
    """Of ages in days, ``[..., 6]``: logarithm, four decays, and whether it is known."""
    known = ~torch.isnan(ages)
    days = torch.where(known, ages, 0.0).clamp(min=0.0)
    decays = [torch.exp(-days / scale) for scale in (0.02, 1.0, 10.0, 60.0)]
    columns = [torch.log1p(24 * days) / 5, *decays]
    return torch.stack(
        [torch.where(known, c, 0.0) for c in columns] + [known.to(days.dtype)], dim=-1
    )
