"""Cross-attention over an item's modalities: one unit vector from whatever is there.

Each modality goes through a small network of its own and gets a modality embedding. Learned queries
attend to the modalities that are present, over a few layers (compare Perceiver IO, Jaegle et al.
2021), and their output is added to a mean of linear projections of each. What an item lacks is
masked out and replaced first, so it cannot change the result; a learned null token that is always
there is the key of an item that has nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmrec.content.features.shaped import ShapedNetwork
from llmrec.content.fusion.settings import FusionShape

_START = 0.1  # of the usual size, the weights of what attention adds


class CrossAttentionLayer(nn.Module):
    """Cross-attention of queries to modalities, then a feed-forward layer, both residual.

    Args:
        config: the encoder's shape.
    """

    def __init__(self, config: FusionShape) -> None:
        super().__init__()
        width = config.width
        self.query_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(
            width, config.heads, dropout=config.dropout, batch_first=True
        )
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * width, width),
        )

    def forward(self, queries: Tensor, tokens: Tensor, missing: Tensor) -> Tensor:
        """Attend once.

        Args:
            queries: ``[items, queries, width]``.
            tokens: ``[items, tokens, width]``.
            missing: bool ``[items, tokens]``, true where there is nothing to attend to.
        """
        normed = self.query_norm(queries)
        attended, _ = self.attention(
            normed, tokens, tokens, key_padding_mask=missing, need_weights=False
        )
        queries = queries + attended
        return queries + self.feed_forward(self.forward_norm(queries))


def _reader(config: FusionShape, name: str) -> nn.Sequential:
    """The network of one modality's vectors: ``dim`` to ``4 width``."""
    hidden = 4 * config.width
    return nn.Sequential(
        nn.Dropout(config.input_dropout),
        nn.Linear(config.modalities[name], hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Dropout(config.dropout),
    )


class FusionEncoder(ShapedNetwork):
    """Unit vectors of items from their modalities.

    Args:
        config: its shape.
    """

    kind, shape = "fusion", FusionShape

    def __init__(self, config: FusionShape) -> None:
        super().__init__()
        self.config = config
        width = config.width
        names = list(config.modalities)
        self.read = nn.ModuleDict({name: _reader(config, name) for name in names})
        self.project = nn.ModuleDict({name: nn.Linear(4 * width, width) for name in names})
        self.token_norm = nn.LayerNorm(width)
        self.kinds = nn.Parameter(torch.randn(len(config.modalities), width) * 0.02)
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)
        self.queries = nn.Parameter(torch.randn(config.queries, width) * 0.02)
        self.layers = nn.ModuleList(CrossAttentionLayer(config) for _ in range(config.layers))
        self.out_norm = nn.LayerNorm(config.queries * width)
        self.out = nn.Linear(config.queries * width, config.dim)
        self.direct = nn.ModuleDict(
            {name: nn.Linear(4 * width, config.dim, bias=False) for name in names}
        )
        with torch.no_grad():  # training starts near the mean, and moves away where that helps
            self.out.weight.mul_(_START)

    def forward(self, blocks: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Embed items.

        Args:
            blocks: modality -> float ``[items, dim of the modality]``; any values, also none that
                is finite, where an item lacks it.
            present: bool ``[items, modalities]``, in the order of the configuration.

        Returns:
            float ``[items, dim]``, rows of length 1.
        """
        inputs = {
            name: self.read[name](blocks[name].masked_fill(~present[:, [column]], 0.0))
            for column, name in enumerate(self.config.modalities)
        }
        missing = F.pad(~present, (0, 1))  # the null token is always there
        tokens = self._tokens(inputs)
        states = self.queries.expand(len(present), -1, -1)
        for layer in self.layers:
            states = layer(states, tokens, missing)
        added = self.out(self.out_norm(states.flatten(1)))
        direct = torch.stack([self.direct[name](inputs[name]) for name in inputs], dim=1)
        there = present.unsqueeze(-1).to(direct.dtype)
        mean = (direct * there).sum(1) / there.sum(1).clamp(min=1)
        return F.normalize(mean + added, dim=-1)

    def _tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """``[items, modalities + 1, width]``, the null token last."""
        projected = torch.stack([self.project[name](inputs[name]) for name in inputs], dim=1)
        nothing = self.nothing.expand(len(projected), 1, -1)
        return torch.cat([self.token_norm(projected) + self.kinds, nothing], dim=1)
