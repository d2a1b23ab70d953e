"""The click network: how likely are a click and a purchase, and how high is a rating?

An item is the embeddings of its ID, closed caption fields and caption words, and its fused vector.
It reads the user's history by target attention (DIN, Zhou et al. 2018) over events of an item, a
type, an age and a rating. Numeric features have piecewise linear embeddings over quantile bins
(Gorishniy et al. 2022). All of it goes through cross layers (DCN-v2, Wang et al. 2021) and beside
them an MLP; each task reads both. Position bias is a shallow tower of the request alone, added to
the logit of a click (a small screen hides what is far down): it never changes an order, and known
in training, it keeps top positions from being learned as preference.

Items and requests are two networks: :meth:`ClickNetwork.items` runs once for an item,
:meth:`ClickNetwork.score` once for a request.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmrec.content.features.shaped import ShapedNetwork
from llmrec.ranking.ctr.layers import CrossNet, PiecewiseLinearEmbedding, TargetAttention
from llmrec.ranking.ctr.settings import NetworkConfig

TASKS = ("click", "purchase", "rating")
_EMBEDDING_STD = 0.5  # as wide as numeric embeddings, or they are learned late
_EMBEDDINGS = ("ids", "fields", "words", "categories")


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a network's inputs and outputs.

    Attributes:
        n_items: items with an ID embedding of their own.
        field_sizes: ids of each closed caption field; none where captions are not read.
        token_size: ids of caption words, or 0.
        fused_dim: of fused vectors, or 0.
        candidate, request: numbers of numeric features.
        category_sizes: ids of each categorical feature of the request.
        positions: that are distinguished.
        tasks: ``click`` first.
        network: settings.
    """

    n_items: int
    field_sizes: tuple[int, ...]
    token_size: int
    fused_dim: int
    candidate: int
    request: int
    category_sizes: tuple[int, ...]
    positions: int
    tasks: tuple[str, ...]
    network: NetworkConfig


class ClickNetwork(ShapedNetwork):
    """One network.

    Args:
        config: its shape.
    """

    kind, shape = "ctr", NetworkShape

    def __init__(self, config: NetworkShape) -> None:
        super().__init__()
        self.config = config
        n = config.network
        self.ids = nn.Embedding(config.n_items + 1, n.id_dim)
        self.fields = nn.ModuleList(nn.Embedding(size, n.field_dim) for size in config.field_sizes)
        self.words = nn.Embedding(config.token_size, n.token_dim) if config.token_size else None
        self.fused = nn.Linear(config.fused_dim, n.fused_dim) if config.fused_dim else None
        width = n.id_dim + n.field_dim * len(config.field_sizes)
        width += n.token_dim * bool(config.token_size) + n.fused_dim * bool(config.fused_dim)
        self.item_width = width
        self.attention = TargetAttention(width, n.heads, n.head_dim)
        self.categories = nn.ModuleList(
            nn.Embedding(size, n.category_dim) for size in config.category_sizes
        )
        self.candidate = PiecewiseLinearEmbedding(config.candidate, n.bins, n.number_dim)
        self.request = PiecewiseLinearEmbedding(config.request, n.bins, n.number_dim)
        request = n.heads * n.head_dim + n.number_dim * config.request
        request += n.category_dim * len(config.category_sizes)
        total = width + n.heads * n.head_dim + n.number_dim * config.candidate + request
        self.norm = nn.LayerNorm(total)
        self.cross = CrossNet(total, n.cross_layers, n.cross_rank)
        layers: list[nn.Module] = []
        for before, after in zip((total, *n.hidden[:-1]), n.hidden, strict=True):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(n.dropout)]
        self.deep = nn.Sequential(*layers)
        self.cross_out = nn.Sequential(nn.Linear(total, n.hidden[-1]), nn.ReLU())
        self.out = nn.Linear(2 * n.hidden[-1], len(config.tasks))
        self.position_bias = nn.Parameter(torch.zeros(config.positions))
        self.position_tower = nn.Sequential(
            nn.LayerNorm(request), nn.Linear(request, 16), nn.ReLU(),
            nn.Linear(16, config.positions),
        )  # fmt: skip
        for name, table in self.named_parameters():
            if name.startswith(_EMBEDDINGS) and name.endswith("weight"):
                nn.init.normal_(table, std=_EMBEDDING_STD)
        nn.init.zeros_(self.position_tower[-1].weight)
        nn.init.zeros_(self.position_tower[-1].bias)

    def items(self, ids: Tensor, fields: Tensor, tokens: Tensor, fused: Tensor) -> Tensor:
        """Item vectors.

        Args:
            ids: int ``[items]``, item index + 1; 0 for an item that was not in training.
            fields: int ``[items, fields]``; tokens: int ``[items, words]``, 0 pads.
            fused: float ``[items, fused_dim]``.

        Returns:
            ``[items, width]``.
        """
        parts = [self.ids(ids)]
        parts += [table(fields[:, column]) for column, table in enumerate(self.fields)]
        if self.words is not None:
            valid = (tokens > 0).unsqueeze(-1).to(parts[0].dtype)
            total = (self.words(tokens) * valid).sum(1)
            parts.append(total / valid.sum(1).clamp(min=1.0))
        if self.fused is not None:
            parts.append(self.fused(fused))
        return torch.cat(parts, dim=-1)

    def request_vector(self, summary: Tensor, request: Tensor, categories: Tensor) -> Tensor:
        """``[requests, ...]`` from the summary of the history and the request's features."""
        parts = [summary, self.request(request)]
        parts += [table(categories[:, column]) for column, table in enumerate(self.categories)]
        return torch.cat(parts, dim=-1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of the tasks from everything that is known of candidates."""
        first = self.norm(features)
        both = torch.cat([self.cross_out(self.cross(first)), self.deep(first)], dim=-1)
        found: Tensor = self.out(both)
        return found

    def score(
        self,
        vectors: Tensor,
        history: Tensor,
        types: Tensor,
        ages: Tensor,
        ratings: Tensor,
        candidate: Tensor,
        request: Tensor,
        categories: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the tasks, without position bias; the rating in stars less 3.5.

        Args:
            vectors: ``[requests, candidates, width]``, of :meth:`items`; history: of its items.
            others: as in :class:`~llmrec.ranking.ctr.features.ClickFeatures`.

        Returns:
            ``[requests, candidates, tasks]``, and the position bias of the logit of a click,
            ``[requests, positions]``.
        """
        attended, summary = self.attention(vectors, history, types, ages, ratings)
        context = self.request_vector(summary, request, categories)
        shared = context.unsqueeze(1).expand(*vectors.shape[:2], -1)
        features = torch.cat([vectors, attended, self.candidate(candidate), shared], dim=-1)
        # of two dimensions: in ONNX a matrix product and its bias are one operation
        logits = self.logits(features.flatten(0, 1)).view(*vectors.shape[:2], -1)
        return logits, self.position_bias + self.position_tower(context)


def at_position(bias: Tensor, position: Tensor) -> Tensor:
    """The position bias of each candidate; 0 where its position is unknown, the last one's beyond.

    Args:
        bias: ``[requests, positions]``.
        position: int ``[requests, candidates]``, -1 unknown.
    """
    found = bias.gather(1, position.clamp(min=0, max=bias.shape[1] - 1))
    return torch.where(position < 0, torch.zeros_like(found), found)


def is_embedding(name: str) -> bool:
    """Whether a weight is a table of embeddings."""
    return name.split(".")[-3 if name.startswith("fields") else 0] in _EMBEDDINGS
