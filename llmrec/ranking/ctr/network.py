"""The head: a small network that says how likely a click, a purchase and how high a rating is.

An item is what stands for its ID, the closed fields and words said of it, and its fused vector. It
asks the person's past by attention, each past event known by its item, its type, its age and its
rating (compare DIN, Zhou et al. 2018). Numbers are read by how far they fill their quantile bins
(Gorishniy et al. 2022). All of it goes through explicit crosses (DCN-v2, Wang et al. 2021) and
beside them a deep part; each task reads both. The place where an item is shown adds to the logit of
a click an amount that depends on the moment (a small screen hides what is far down) but not on the
item, so that it never changes an order: known in training, it keeps the top of a list from looking
like taste.

Items and moments are two networks: :meth:`Head.items` is run once for an item, :meth:`Head.score`
once for a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmrec.content.features.shaped import load_shaped, save_shaped
from llmrec.ranking.ctr.settings import Network

TASKS = ("click", "purchase", "rating")
N_KINDS = 8  # event types, one more than there are, for padding
_AGES = 6  # functions of an event's age
_START = 0.5  # of what stands for a value: as wide as that of a number, or it is learned late
_TABLES = ("ids", "fields", "words", "categories")


@dataclass(frozen=True)
class Shape:
    """What a head is made for.

    Attributes:
        n_items: items with an ID of their own.
        field_sizes: ids of each closed field; none where what is said of items is not read.
        token_size: ids of words, or 0.
        fused_dim: of fused vectors, or 0.
        pair, whole: how many numbers.
        category_sizes: ids of each of the moment's categories.
        places: positions that are told apart.
        tasks: what is learned, ``click`` first.
        network: sizes.
    """

    n_items: int
    field_sizes: tuple[int, ...]
    token_size: int
    fused_dim: int
    pair: int
    whole: int
    category_sizes: tuple[int, ...]
    places: int
    tasks: tuple[str, ...]
    network: Network


class Numbers(nn.Module):
    """Numbers as how far each fills its bins, or a vector of its own where it is missing.

    Args:
        count: numbers.
        bins: of each.
        dim: width of what stands for one.
    """

    def __init__(self, count: int, bins: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("lower", torch.zeros(count, bins))
        self.register_buffer("width", torch.ones(count, bins))
        self.register_buffer("used", torch.ones(count, dtype=torch.bool))
        self.weight = nn.Parameter(torch.randn(count, bins, dim) / bins**0.5)
        self.bias = nn.Parameter(torch.zeros(count, dim))
        self.missing = nn.Parameter(torch.randn(count, dim) * 0.1)

    def set_bins(self, limits: Tensor) -> None:
        """Put the bins where the values are.

        Args:
            limits: float ``[numbers, bins + 1]``, rising; equal ones make an empty bin. NaN for a
                number that was always missing: nothing was learned of it, so it stays missing.
        """
        self.used.copy_(~torch.isnan(limits).any(dim=1))
        limits = torch.nan_to_num(limits)
        self.lower.copy_(limits[:, :-1])
        self.width.copy_(limits[:, 1:] - limits[:, :-1])

    def forward(self, values: Tensor) -> Tensor:
        """``[..., numbers]``, NaN missing -> ``[..., numbers * dim]``."""
        known = ~torch.isnan(values) & self.used
        filled = torch.where(known, values, 0.0).unsqueeze(-1) - self.lower
        # an empty bin is full above it and empty below
        share = torch.where(
            self.width > 0, filled / self.width.clamp(min=1e-12), (filled >= 0).to(filled.dtype)
        ).clamp(0.0, 1.0)
        read = torch.einsum("...nb,nbd->...nd", share, self.weight) + self.bias
        return torch.where(known.unsqueeze(-1), read, self.missing).flatten(-2)


class Crosses(nn.Module):
    """DCN-v2's cross layers of low rank: ``x0 * (U V x + b) + x``."""

    def __init__(self, width: int, layers: int, rank: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(rank, width) for _ in range(layers))

    def forward(self, first: Tensor) -> Tensor:
        state = first
        for down, up in zip(self.down, self.up, strict=True):
            state = first * up(down(state)) + state
        return state


class Attention(nn.Module):
    """What an item hears from the events of a person's past, and from silence."""

    def __init__(self, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        inner = heads * dim
        self.ask = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.kinds = nn.Embedding(N_KINDS, inner)
        self.age = nn.Linear(_AGES, inner)
        self.age_weight = nn.Linear(_AGES, heads)
        self.stars = nn.Linear(2, inner)
        self.silence = nn.Parameter(torch.zeros(2, inner))
        self.general = nn.Parameter(torch.randn(inner) * 0.1)

    def forward(
        self, asking: Tensor, past: Tensor, kinds: Tensor, ages: Tensor, stars: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What each item hears, and what is heard whoever asks.

        Args:
            asking: ``[moments, places, width]``.
            past: ``[moments, events, width]``.
            kinds: int ``[moments, events]``, -1 pads.
            ages: ``[moments, events]`` days, NaN unknown.
            stars: ``[moments, events]``, NaN none.

        Returns:
            ``[moments, places, heads * dim]`` and ``[moments, heads * dim]``.
        """
        moments = len(kinds)
        there = kinds >= 0
        age = _ages(ages)
        rated = ~torch.isnan(stars)
        told = torch.stack([torch.where(rated, stars - 3.5, 0.0), rated.to(past.dtype)], dim=-1)
        event = self.kinds(torch.where(there, kinds, N_KINDS - 1)) + self.age(age)
        event = event + self.stars(told)
        silence = self.silence.expand(moments, 2, -1)
        keys = torch.cat([self.key(past) + event, silence[:, :1]], dim=1)
        values = torch.cat([self.value(past) + event, silence[:, 1:]], dim=1)
        weight = F.pad(self.age_weight(age), (0, 0, 0, 1))
        weight = weight.masked_fill(~F.pad(there, (0, 1), value=True).unsqueeze(-1), -1e9)
        weight = weight.permute(0, 2, 1).unsqueeze(2)  # [moments, heads, 1, events + 1]
        asked = torch.cat([self.ask(asking), self.general.expand(moments, 1, -1)], dim=1)
        q, k, v = (
            part.view(moments, -1, self.heads, self.dim).transpose(1, 2)
            for part in (asked, keys, values)
        )
        scores = q @ k.transpose(2, 3) / self.dim**0.5 + weight
        heard = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return heard[:, :-1], heard[:, -1]


def _ages(ages: Tensor) -> Tensor:
    """Functions of ages in days, ``[..., 6]``: logarithm, four decays, and whether it is known."""
    known = ~torch.isnan(ages)
    days = torch.where(known, ages, 0.0).clamp(min=0.0)
    decays = [torch.exp(-days / scale) for scale in (0.02, 1.0, 10.0, 60.0)]
    columns = [torch.log1p(24 * days) / 5, *decays]
    return torch.stack(
        [torch.where(known, c, 0.0) for c in columns] + [known.to(days.dtype)], dim=-1
    )


class Head(nn.Module):
    """One network.

    Args:
        config: what it is made for.
    """

    def __init__(self, config: Shape) -> None:
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
        self.attention = Attention(width, n.heads, n.head_dim)
        self.categories = nn.ModuleList(
            nn.Embedding(size, n.category_dim) for size in config.category_sizes
        )
        self.pair = Numbers(config.pair, n.bins, n.number_dim)
        self.whole = Numbers(config.whole, n.bins, n.number_dim)
        moment = n.heads * n.head_dim + n.number_dim * config.whole
        moment += n.category_dim * len(config.category_sizes)
        total = width + n.heads * n.head_dim + n.number_dim * config.pair + moment
        self.norm = nn.LayerNorm(total)
        self.crosses = Crosses(total, n.cross_layers, n.cross_rank)
        layers: list[nn.Module] = []
        for before, after in zip((total, *n.hidden[:-1]), n.hidden, strict=True):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(n.dropout)]
        self.deep = nn.Sequential(*layers)
        self.crossed = nn.Sequential(nn.Linear(total, n.hidden[-1]), nn.ReLU())
        self.out = nn.Linear(2 * n.hidden[-1], len(config.tasks))
        self.places = nn.Parameter(torch.zeros(config.places))
        self.place_of_moment = nn.Sequential(
            nn.LayerNorm(moment), nn.Linear(moment, 16), nn.ReLU(), nn.Linear(16, config.places)
        )
        self._start()

    def _start(self) -> None:
        for name, table in self.named_parameters():
            if name.startswith(_TABLES) and name.endswith("weight"):
                nn.init.normal_(table, std=_START)
        nn.init.zeros_(self.place_of_moment[-1].weight)
        nn.init.zeros_(self.place_of_moment[-1].bias)

    def items(self, ids: Tensor, fields: Tensor, tokens: Tensor, fused: Tensor) -> Tensor:
        """What stands for items.

        Args:
            ids: int ``[items]``, item index + 1; 0 for one that was not learned from.
            fields: int ``[items, fields]``; tokens: int ``[items, words]``, 0 pads.
            fused: float ``[items, fused_dim]``.

        Returns:
            ``[items, width]``.
        """
        parts = [self.ids(ids)]
        parts += [table(fields[:, column]) for column, table in enumerate(self.fields)]
        if self.words is not None:
            there = (tokens > 0).unsqueeze(-1).to(parts[0].dtype)
            said = (self.words(tokens) * there).sum(1)
            parts.append(said / there.sum(1).clamp(min=1.0))
        if self.fused is not None:
            parts.append(self.fused(fused))
        return torch.cat(parts, dim=-1)

    def score(
        self,
        vectors: Tensor,
        past: Tensor,
        kinds: Tensor,
        ages: Tensor,
        stars: Tensor,
        pair: Tensor,
        whole: Tensor,
        categories: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the tasks, without the place; the rating in stars less 3.5.

        Args:
            vectors: ``[moments, places, width]``, of :meth:`items`; past: of the past's items.
            others: as in :class:`~llmrec.ranking.ctr.features.Inputs`.

        Returns:
            ``[moments, places, tasks]``, and what each place adds to the logit of a click,
            ``[moments, places told apart]``.
        """
        moments, places, _ = vectors.shape
        heard, general = self.attention(vectors, past, kinds, ages, stars)
        parts = [general, self.whole(whole)]
        parts += [table(categories[:, column]) for column, table in enumerate(self.categories)]
        moment = torch.cat(parts, dim=-1)
        shared = moment.unsqueeze(1).expand(moments, places, -1)
        first = self.norm(torch.cat([vectors, heard, self.pair(pair), shared], dim=-1))
        both = torch.cat([self.crossed(self.crosses(first)), self.deep(first)], dim=-1)
        return self.out(both), self.places + self.place_of_moment(moment)

    def save(self, path: str | Path) -> None:
        """Write weights and shape into one safetensors file."""
        save_shaped(self, self.config, "ctr", path)

    @classmethod
    def load(cls, path: str | Path) -> Head:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if the file is missing, damaged or something else.
        """
        return load_shaped(cls, Shape, "ctr", path)


def at_place(added: Tensor, position: Tensor) -> Tensor:
    """What its place adds to each item; nothing where it is not known, the last one's further down.

    Args:
        added: ``[moments, places told apart]``.
        position: int ``[moments, places]``, -1 unknown.
    """
    found = added.gather(1, position.clamp(min=0, max=added.shape[1] - 1))
    return torch.where(position < 0, torch.zeros_like(found), found)


def is_table(name: str) -> bool:
    """Whether a weight is a table with a row a value."""
    return name.split(".")[-3 if name.startswith("fields") else 0] in _TABLES
