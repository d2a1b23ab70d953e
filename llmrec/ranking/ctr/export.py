"""The heads as two ONNX files, which answer as torch does and faster.

``items.onnx`` gives what stands for items, once for each item; ``head.onnx`` the logits of one
moment with any number of items. Several heads are one file: their vectors lie beside each other,
``[copies, items, width]``, and their logits are averaged. A number that is NaN stays missing.
Both files are compared with torch before they count as written.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmrec.errors import LlmrecError, require
from llmrec.ranking.ctr.fit import ItemTensors
from llmrec.ranking.ctr.network import Head, Numbers
from llmrec.ranking.ctr.onnx_heads import HEAD, HEAD_INPUTS, ITEM_INPUTS, ITEMS, open_session
from llmrec.ranking.ctr.shelf import Shelf

TOLERANCE = 1e-4  # of logits and vectors against torch; of larger ones, in proportion
_OPSET = 20
_TRACED = 4  # items and words of the arguments that are traced
_COMPARED = 64  # items that are compared
_STEEP = 1e38  # a bin without width is full from its limit on: a slope without end
_NOTHING = -3e38  # below every bin


class QuickNumbers(nn.Module):
    """:class:`~llmrec.ranking.ctr.network.Numbers` of many rows, in few operations.

    A bin without width becomes a steep one that begins just below its limit; a missing number fills
    no bin, and one matrix product adds what stands for known and for missing ones.

    Args:
        numbers: what it answers like.
    """

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        lower, width = numbers.lower, numbers.width
        below = torch.nextafter(lower, torch.full_like(lower, -torch.inf))
        empty = width <= 0
        lower = torch.where(empty, torch.minimum(below, lower - 1e-37), lower)
        slope = torch.where(empty, _STEEP, 1 / width.clamp(min=1e-12))
        count, _, dim = numbers.weight.shape
        known = torch.zeros(count, count, dim)
        every = torch.arange(count)
        known[every, every] = (numbers.bias - numbers.missing).detach()
        self.register_buffer("used", numbers.used)
        self.register_buffer("lower", lower.unsqueeze(1))
        self.register_buffer("slope", slope.unsqueeze(1))
        self.register_buffer("weight", numbers.weight.detach())
        self.register_buffer("known", known.flatten(1))
        self.register_buffer("missing", numbers.missing.detach().flatten())

    def forward(self, values: Tensor) -> Tensor:
        """``[rows, numbers]``, NaN missing -> ``[rows, numbers * dim]``."""
        known = ~torch.isnan(values) & self.used
        there = torch.where(known, values, _NOTHING).t().unsqueeze(-1)
        share = ((there - self.lower) * self.slope).clamp(0.0, 1.0)
        read = torch.matmul(share, self.weight).transpose(0, 1).flatten(1)
        return read + torch.addmm(self.missing, known.to(values.dtype), self.known)


class HeadsOfMoment(nn.Module):
    """The mean of some heads' logits for one moment, as :meth:`Head.score` gives them."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.pairs = nn.ModuleList(QuickNumbers(head.pair) for head in heads)

    def forward(
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
        """Logits ``[1, places, tasks]``, and what each place told apart adds ``[1, places]``.

        Args:
            vectors, past: ``[copies, places, width]`` and ``[copies, events, width]``.
            others: of :meth:`Head.score`, of one moment.
        """
        said = []
        for copy, (head, numbers) in enumerate(zip(self.heads, self.pairs, strict=True)):
            own, own_past = vectors[copy : copy + 1], past[copy : copy + 1]
            heard, general = head.attention(own, own_past, kinds, ages, stars)
            parts = [general, head.whole(whole)]
            parts += [table(categories[:, at]) for at, table in enumerate(head.categories)]
            moment = torch.cat(parts, dim=-1)
            rows = own[0]  # two dimensions: a matrix product and its bias are one operation
            shared = moment.expand(rows.shape[0], -1)
            first = head.norm(torch.cat([rows, heard[0], numbers(pair[0]), shared], dim=-1))
            both = torch.cat([head.crossed(head.crosses(first)), head.deep(first)], dim=-1)
            said.append((head.out(both), head.places + head.place_of_moment(moment)))
        logits, added = zip(*said, strict=True)
        return torch.stack(logits).mean(0, keepdim=True), torch.stack(added).mean(0)


class VectorsOfItems(nn.Module):
    """What stands for items in each of some heads."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, ids: Tensor, fields: Tensor, tokens: Tensor, fused: Tensor) -> Tensor:
        """``[copies, items, width]`` of the arguments of :meth:`Head.items`."""
        return torch.stack([head.items(ids, fields, tokens, fused) for head in self.heads])


def export(heads: list[Head], shelf: Shelf, folder: str | Path) -> None:
    """Write ``head.onnx`` and ``items.onnx`` into a folder.

    Args:
        heads: of one shape.
        shelf: the items they read.

    Raises:
        MissingExtraError: without the packages of the extra ``ctr``.
        LlmrecError: if what was written does not answer as torch does.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "ctr")
    folder = Path(folder)
    training = [head.training for head in heads]
    of_items, of_moment = VectorsOfItems(heads).eval(), HeadsOfMoment(heads).eval()
    about = {"n_items": str(heads[0].config.n_items), "copies": str(len(heads))}
    rng = np.random.default_rng(0)
    with torch.inference_mode(False), torch.no_grad():
        _write(of_items, _items(heads[0]), ITEM_INPUTS, ("vectors",), folder / ITEMS, about)
        _compare(of_items, _some_items(shelf, heads[0], rng), folder / ITEMS)
        events = _moment(heads, _TRACED, rng)
        _write(of_moment, events, HEAD_INPUTS, ("logits", "added"), folder / HEAD, about)
        for count in (1, _COMPARED):
            _compare(_Scored(heads), _moment(heads, count, rng), folder / HEAD)
    for head, was in zip(heads, training, strict=True):
        head.train(was)


class _Scored(nn.Module):
    """The heads as training has them, to compare with."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, vectors: Tensor, past: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        said = [
            head.score(vectors[copy, None], past[copy, None], *others)
            for copy, head in enumerate(self.heads)
        ]
        logits, added = zip(*said, strict=True)
        return torch.stack(logits).mean(0), torch.stack(added).mean(0)


def _items(head: Head) -> dict[str, Tensor]:
    """Arguments to trace with."""
    shape = head.config
    return {
        "ids": torch.zeros(_TRACED, dtype=torch.int64),
        "fields": torch.zeros(_TRACED, len(shape.field_sizes), dtype=torch.int64),
        "tokens": torch.zeros(_TRACED, _TRACED + 1, dtype=torch.int64),
        "fused": torch.zeros(_TRACED, shape.fused_dim),
    }


def _some_items(shelf: Shelf, head: Head, rng: np.random.Generator) -> dict[str, Tensor]:
    """Items of the shelf, the first as one that was not learned from."""
    tensors = ItemTensors(shelf, head.config)
    rows = torch.from_numpy(rng.permutation(shelf.n_items)[:_COMPARED])
    ids = tensors.ids[rows].clone()
    ids[:1] = 0
    return {
        "ids": ids,
        "fields": tensors.fields[rows],
        "tokens": tensors.tokens[rows],
        "fused": tensors.fused[rows],
    }


def _moment(heads: Sequence[Head], count: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """A moment with so many items: values within, on and beyond all bins, some missing."""
    head, events = heads[0], 7
    shape = head.config

    def normal(*size: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(size).astype(np.float32))

    def holes(values: Tensor) -> Tensor:
        return torch.where(torch.from_numpy(rng.random(values.shape) < 0.2), torch.nan, values)

    def numbers(of: Numbers, rows: int) -> Tensor:
        limits = torch.cat([of.lower, of.lower[:, -1:] + of.width[:, -1:]], dim=1)
        chosen = torch.from_numpy(rng.integers(limits.shape[1], size=(rows, len(limits))))
        at_limit = limits.t().gather(0, chosen)
        beside = torch.from_numpy(rng.random((rows, len(limits))) < 0.5)
        return holes(torch.where(beside, at_limit + normal(rows, len(limits)), at_limit))

    kinds = torch.from_numpy(rng.integers(-1, 7, size=(1, events)))
    stars = torch.from_numpy(rng.integers(1, 6, size=(1, events)).astype(np.float32))
    categories = [rng.integers(size) for size in shape.category_sizes]
    return {
        "vectors": normal(len(heads), count, head.item_width),
        "past": normal(len(heads), events, head.item_width),
        "kinds": kinds,
        "ages": holes(normal(1, events).abs() * 30),
        "stars": holes(stars),
        "pair": numbers(head.pair, count)[None],
        "whole": numbers(head.whole, 1),
        "categories": torch.tensor([categories], dtype=torch.int64),
    }


# What varies in size from request to request, by name of the argument and axis.
_VARYING = {
    "ids": {0: "items"}, "fields": {0: "items"}, "tokens": {0: "items", 1: "words"},
    "fused": {0: "items"}, "vectors": {1: "places"}, "pair": {1: "places"},
    "past": {1: "events"}, "kinds": {1: "events"}, "ages": {1: "events"}, "stars": {1: "events"},
}  # fmt: skip


def _write(
    network: nn.Module,
    arguments: dict[str, Tensor],
    names: Sequence[str],
    outputs: Sequence[str],
    path: Path,
    about: dict[str, str],
) -> None:
    """Trace a network, check the graph and write it as one file."""
    onnx = require("onnx", "ctr")
    dims: dict[str, Any] = {}
    shapes = {
        name: {axis: dims.setdefault(dim, torch.export.Dim(dim)) for axis, dim in axes.items()}
        if (axes := _VARYING.get(name))
        else None
        for name in names
    }
    # the exporter tells of its own progress and deprecations, which no user of this can change
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        traced = torch.onnx.export(
            network,
            tuple(arguments[name] for name in names),
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=tuple(shapes.values()),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    model = traced.model_proto
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def _compare(network: nn.Module, arguments: dict[str, Tensor], path: Path) -> None:
    """Hold a written file against torch.

    Raises:
        LlmrecError: if they differ.
    """
    answers = network(*arguments.values())
    wanted = answers if isinstance(answers, tuple) else (answers,)
    session = open_session(path, threads=1)
    read = {one.name for one in session.get_inputs()}
    given = {name: value.numpy() for name, value in arguments.items() if name in read}
    for one, other in zip(wanted, session.run(None, given), strict=True):
        expected = one.numpy()
        apart = np.abs(expected - other) / np.maximum(1.0, np.abs(expected))
        worst = float(apart.max(initial=0.0))
        if other.shape != expected.shape or not worst <= TOLERANCE:
            raise LlmrecError(
                f"{path.name}: answers {worst:.2g} away from torch (at most {TOLERANCE:g}); "
                "update onnx and onnxruntime, or serve with engine='torch'"
            )
