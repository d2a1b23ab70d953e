"""The click networks as two ONNX files, which answer as torch does and faster.

``items.onnx`` gives the vectors of items, once for each item; ``request.onnx`` the logits of one
request with any number of candidates. Several networks are one file: their vectors lie beside each
other, ``[copies, items, width]``, and their logits are averaged. NaN stays missing. Both files are
compared with torch before they count as written.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmrec.errors import LlmrecError, require
from llmrec.ranking.ctr.fit import ItemTensors
from llmrec.ranking.ctr.item_features import ItemFeatures
from llmrec.ranking.ctr.layers import PiecewiseLinearEmbedding
from llmrec.ranking.ctr.network import ClickNetwork
from llmrec.ranking.ctr.onnx_networks import (
    ITEM_INPUTS,
    ITEMS,
    REQUEST,
    REQUEST_INPUTS,
    open_session,
)

TOLERANCE = 1e-4  # of logits and vectors against torch; of larger ones, in proportion
_OPSET = 20
_TRACED = 4  # items and words of the arguments that are traced
_COMPARED = 64  # items that are compared
_STEEP = 1e38  # slope of an empty bin, which is full from its lower edge on
_BELOW_ALL = -3e38  # below every bin


class FusedEmbedding(nn.Module):
    """The same as :class:`~llmrec.ranking.ctr.layers.PiecewiseLinearEmbedding`, in few operations.

    An empty bin becomes a steep one that begins just below its edge; a missing value fills no bin,
    and one more bin, which any known value fills, stands for the bias. Candidates are the last
    axis, along which bins are worked out many at a time.

    Args:
        embedding: what it answers like.
    """

    def __init__(self, embedding: PiecewiseLinearEmbedding) -> None:
        super().__init__()
        lower, width = embedding.lower, embedding.width
        below = torch.nextafter(lower, torch.full_like(lower, -torch.inf))
        empty = width <= 0
        lower = torch.where(empty, torch.minimum(below, lower - 1e-37), lower)
        slope = torch.where(empty, _STEEP, 1 / width.clamp(min=1e-12))
        known = (embedding.bias - embedding.missing).detach().unsqueeze(1)
        weight = torch.cat([embedding.weight.detach(), known], dim=1)
        self.register_buffer("used", embedding.used)
        self.register_buffer("lower", F.pad(lower, (0, 1), value=_BELOW_ALL).unsqueeze(-1))
        self.register_buffer("slope", F.pad(slope, (0, 1), value=_STEEP).unsqueeze(-1))
        self.register_buffer("weight", weight.transpose(1, 2).contiguous())
        self.register_buffer("missing", embedding.missing.detach().unsqueeze(-1))

    def forward(self, values: Tensor) -> Tensor:
        """``[..., features]``, NaN missing -> ``[..., features * dim]``."""
        shape, values = values.shape[:-1], values.flatten(0, -2)
        known = ~torch.isnan(values) & self.used
        filled = torch.where(known, values, _BELOW_ALL).t().unsqueeze(1)
        share = ((filled - self.lower) * self.slope).clamp(0.0, 1.0)  # [features, bins + 1, values]
        embedded = torch.matmul(self.weight, share) + self.missing
        return embedded.flatten(0, 1).t().reshape(*shape, -1)


class RequestNetwork(nn.Module):
    """The mean logits and position biases of some networks, as of :meth:`ClickNetwork.score`."""

    def __init__(self, networks: Sequence[ClickNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[requests, candidates, tasks]`` and biases ``[requests, positions]``.

        Args:
            inputs: of :meth:`ClickNetwork.score`; the vectors of candidates and history are those
                of one request, ``[copies, candidates, width]`` and ``[copies, events, width]``.
        """
        vectors, history, *others = inputs
        outputs = [
            network.score(vectors[at : at + 1], history[at : at + 1], *others)
            for at, network in enumerate(self.networks)
        ]
        logits, biases = zip(*outputs, strict=True)
        return torch.stack(logits).mean(0), torch.stack(biases).mean(0)


class ItemNetwork(nn.Module):
    """The vectors of items in each of some networks."""

    def __init__(self, networks: Sequence[ClickNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, *inputs: Tensor) -> Tensor:
        """``[copies, items, width]`` of the arguments of :meth:`ClickNetwork.items`."""
        return torch.stack([one.items(*inputs) for one in self.networks])


def export(networks: list[ClickNetwork], items: ItemFeatures, folder: str | Path) -> None:
    """Write ``request.onnx`` and ``items.onnx`` into a folder.

    Args:
        networks: of one shape.
        items: that they read.

    Raises:
        MissingExtraError: without the packages of the extra ``ctr``.
        LlmrecError: if what was written does not answer as torch does.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "ctr")
    folder = Path(folder)
    networks = [copy.deepcopy(network).eval() for network in networks]
    of_items, of_request = ItemNetwork(networks), RequestNetwork(copy.deepcopy(networks))
    for network in of_request.networks:
        network.candidate = FusedEmbedding(network.candidate)
    about = {"n_items": str(networks[0].config.n_items), "copies": str(len(networks))}
    rng = np.random.default_rng(0)
    with torch.inference_mode(False), torch.no_grad():
        arguments = _empty_items(networks[0])
        _write(of_items, arguments, ITEM_INPUTS, ("vectors",), folder / ITEMS, about)
        _compare(of_items, _some_items(items, networks[0], rng), folder / ITEMS)
        arguments, outputs = _random_request(networks, _TRACED, rng), ("logits", "bias")
        _write(of_request, arguments, REQUEST_INPUTS, outputs, folder / REQUEST, about)
        for count in (1, _COMPARED):
            arguments = _random_request(networks, count, rng)
            _compare(RequestNetwork(networks), arguments, folder / REQUEST)


def _empty_items(network: ClickNetwork) -> dict[str, Tensor]:
    """Arguments to trace with."""
    shape = network.config
    return {
        "ids": torch.zeros(_TRACED, dtype=torch.int64),
        "fields": torch.zeros(_TRACED, len(shape.field_sizes), dtype=torch.int64),
        "tokens": torch.zeros(_TRACED, _TRACED + 1, dtype=torch.int64),
        "fused": torch.zeros(_TRACED, shape.fused_dim),
    }


def _some_items(
    items: ItemFeatures, network: ClickNetwork, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Some items, the first as one that was not in training."""
    tensors = ItemTensors(items, network.config)
    rows = torch.from_numpy(rng.permutation(items.n_items)[:_COMPARED])
    ids = tensors.ids[rows].clone()
    ids[:1] = 0
    return {
        "ids": ids,
        "fields": tensors.fields[rows],
        "tokens": tensors.tokens[rows],
        "fused": tensors.fused[rows],
    }


def _random_request(
    networks: Sequence[ClickNetwork], count: int, rng: np.random.Generator
) -> dict[str, Tensor]:
    """A request of ``count`` candidates: values within, on and beyond all bins, some missing."""
    network, events = networks[0], 7

    def normal(*size: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(size).astype(np.float32))

    def with_missing(values: Tensor) -> Tensor:
        return torch.where(torch.from_numpy(rng.random(values.shape) < 0.2), torch.nan, values)

    def numbers(of: PiecewiseLinearEmbedding, rows: int) -> Tensor:
        edges = torch.cat([of.lower, of.lower[:, -1:] + of.width[:, -1:]], dim=1)
        chosen = torch.from_numpy(rng.integers(edges.shape[1], size=(rows, len(edges))))
        at_edge = edges.t().gather(0, chosen)
        beside = torch.from_numpy(rng.random((rows, len(edges))) < 0.5)
        return with_missing(torch.where(beside, at_edge + normal(rows, len(edges)), at_edge))

    types = torch.from_numpy(rng.integers(-1, 7, size=(1, events)))
    ratings = torch.from_numpy(rng.integers(1, 6, size=(1, events)).astype(np.float32))
    categories = [rng.integers(size) for size in network.config.category_sizes]
    return {
        "vectors": normal(len(networks), count, network.item_width),
        "history": normal(len(networks), events, network.item_width),
        "types": types,
        "ages": with_missing(normal(1, events).abs() * 30),
        "ratings": with_missing(ratings),
        "candidate": numbers(network.candidate, count)[None],
        "request": numbers(network.request, 1),
        "categories": torch.tensor([categories], dtype=torch.int64),
    }


# Dynamic axes: what varies in size from request to request, by argument and axis.
_VARYING = {
    "ids": {0: "items"}, "fields": {0: "items"}, "tokens": {0: "items", 1: "words"},
    "fused": {0: "items"}, "vectors": {1: "candidates"}, "candidate": {1: "candidates"},
    "history": {1: "events"}, "types": {1: "events"}, "ages": {1: "events"},
    "ratings": {1: "events"},
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
    # the exporter prints its own progress and deprecations, which no user of this can change
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        traced = torch.onnx.export(
            network,
            tuple(arguments[name] for name in names),
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=(tuple(shapes.values()),),  # one argument, ``*inputs``
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    model = traced.model_proto
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def _compare(network: nn.Module, arguments: dict[str, Tensor], path: Path) -> None:
    """Compare a written file with torch.

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
