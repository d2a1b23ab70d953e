"""Training the head: batches of lists, the loss of three tasks, and what is kept."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from llmrec.errors import DataError
from llmrec.ranking.ctr.bins import quantile_limits
from llmrec.ranking.ctr.features import Inputs
from llmrec.ranking.ctr.loss import Targets, loss_of
from llmrec.ranking.ctr.network import Head, Shape, at_place, is_table
from llmrec.ranking.ctr.settings import STARS, Fit, Network
from llmrec.ranking.ctr.shelf import Shelf

_SAMPLE = 200_000  # rows that bins are made from
_PREDICT = 4096  # shown items at once


class ItemTensors:
    """What a head reads of items, as tensors.

    Args:
        shelf: the items.
        shape: of the head; what it does not read is left out.
    """

    def __init__(self, shelf: Shelf, shape: Shape) -> None:
        said = bool(shape.token_size)
        fields = shelf.fields if shape.field_sizes else np.zeros((shelf.n_items, 0), np.int32)
        tokens = shelf.padded_tokens() if said else np.zeros((shelf.n_items, 1), np.int32)
        self.fields = torch.from_numpy(fields.astype(np.int64))
        self.tokens = torch.from_numpy(tokens.astype(np.int64))
        self.fused = torch.from_numpy(shelf.fused.astype(np.float32))
        self.ids = torch.arange(1, shelf.n_items + 1)
        self.ids[shape.n_items :] = 0

    def vectors(self, head: Head, items: Tensor, hidden: float = 0.0) -> Tensor:
        """What stands for some items; ``hidden`` is the share whose ID is hidden."""
        ids = self.ids[items]
        if hidden:
            ids = ids * (torch.rand(len(ids)) >= hidden)
        return head.items(ids, self.fields[items], self.tokens[items], self.fused[items])


def shape_of(
    inputs: Inputs, shelf: Shelf, targets: Targets, network: Network, captions: bool = True
) -> Shape:
    """What a head is to be made for.

    Args:
        captions: whether it reads what is said of items.
    """
    return Shape(
        n_items=shelf.n_items,
        field_sizes=shelf.field_sizes if captions else (),
        token_size=shelf.token_size if captions else 0,
        fused_dim=shelf.fused.shape[1],
        pair=inputs.pair.shape[2],
        whole=inputs.whole.shape[1],
        category_sizes=tuple(size for _, _, size in inputs.names.categories),
        places=max(1, int(inputs.position.max(initial=-1)) + 1),
        tasks=targets.tasks,
        network=network,
    )


@dataclass
class Progress:
    """How a training went.

    Attributes:
        log: validation log loss by step and epoch.
        best: the lowest.
    """

    log: list[dict[str, float]] = field(default_factory=list)
    best: float = math.inf
    since: int = 0


def train_heads(
    inputs: Inputs,
    targets: Targets,
    validation: tuple[Inputs, Targets],
    shelf: Shelf,
    network: Network,
    fit: Fit,
    seed: int,
    *,
    captions: bool = True,
    quiet: bool = False,
) -> tuple[list[Head], list[Progress]]:
    """Train as many networks as the settings say.

    Args:
        captions: whether they read what is said of items.

    Raises:
        DataError: if a number is infinite.
    """
    _check_finite(inputs)
    shape = shape_of(inputs, shelf, targets, network, captions)
    heads, logs = [], []
    for number in range(network.copies):
        head, log = _train(shape, inputs, targets, validation, shelf, fit, seed + number, quiet)
        heads.append(head)
        logs.append(log)
    return heads, logs


def _check_finite(inputs: Inputs) -> None:
    for kind in ("pair", "whole"):
        values = getattr(inputs, kind)
        wrong = np.isinf(values).reshape(-1, values.shape[-1]).any(axis=0)
        if wrong.any():
            name = getattr(inputs.names, kind)[int(np.flatnonzero(wrong)[0])][0]
            raise DataError(
                f"the number {name!r} is infinite for some rows; leave these out, or NaN"
            )


def _train(
    shape: Shape,
    inputs: Inputs,
    targets: Targets,
    validation: tuple[Inputs, Targets],
    shelf: Shelf,
    fit: Fit,
    seed: int,
    quiet: bool,
) -> tuple[Head, Progress]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = Head(shape)
    rows = inputs.pair[inputs.items >= 0]
    some = rng.permutation(len(rows))[:_SAMPLE]
    head.pair.set_bins(torch.from_numpy(quantile_limits(rows[some], shape.network.bins)))
    head.whole.set_bins(torch.from_numpy(quantile_limits(inputs.whole, shape.network.bins)))
    _start_at_base_rate(head, targets)
    _start_at_places(head, inputs, targets)
    items = ItemTensors(shelf, shape)
    average = copy.deepcopy(head).eval()
    optimizer = _optimizer(head, fit)
    lists = max(1, fit.rows // inputs.items.shape[1])
    steps = math.ceil(len(inputs) / lists)
    total = steps * fit.epochs
    checks = {round(steps * (n + 1) / fit.checks) for n in range(fit.checks)}
    progress, best = Progress(), copy.deepcopy(head.state_dict())
    started, done = time.monotonic(), 0
    bar = tqdm(total=total, desc="ctr", unit="step", mininterval=2, disable=quiet)
    for epoch in range(fit.epochs):
        order = rng.permutation(len(inputs))
        for step in range(steps):
            chosen = np.sort(order[step * lists : (step + 1) * lists])
            for group in optimizer.param_groups:
                group["lr"] = fit.learning_rate * _schedule(done, total)
            _step(head, items, inputs.select(chosen), targets.select(chosen), optimizer, fit)
            done += 1
            _move_average(average, head, min(fit.average, (1 + done) / (10 + done)))
            bar.update()
            if step + 1 in checks:
                loss = _validate(average, items, validation)
                progress.log.append({"epoch": epoch + (step + 1) / steps, "log_loss": loss,
                                     "seconds": round(time.monotonic() - started, 1)})  # fmt: skip
                bar.set_postfix(log_loss=f"{loss:.4f}")
                progress.since += 1
                if loss < progress.best:
                    progress.best, progress.since = loss, 0
                    best = copy.deepcopy(average.state_dict())
        if progress.since >= fit.patience:
            break
    bar.close()
    head.load_state_dict(best)
    return head.eval(), progress


def _start_at_base_rate(head: Head, targets: Targets) -> None:
    """The first answer is the mean: of clicks, of purchases among clicks, of ratings."""
    known = ~np.isnan(targets.click)
    with torch.no_grad():
        for place, task in enumerate(head.config.tasks):
            if task == "click":
                weight = np.exp(-targets.log_copies[known]) * (targets.click[known] == 0)
                clicks = float((targets.click[known] == 1).sum())
                head.out.bias[place] = math.log((clicks + 0.5) / (float(weight.sum()) + 0.5))
            elif task == "purchase":
                rate = float(np.nanmean(targets.purchase[targets.click == 1]))
                head.out.bias[place] = math.log((rate + 1e-3) / (1 - rate + 1e-3))
            else:
                head.out.bias[place] = float(np.nanmean(targets.rating)) - STARS


def _start_at_places(head: Head, inputs: Inputs, targets: Targets) -> None:
    """What a place adds begins as its log-odds of a click against those of all places."""
    known = ~np.isnan(targets.click) & (inputs.position >= 0)
    places, click = inputs.position[known], targets.click[known]
    rate = (click.sum() + 0.5) / (len(click) + 1.0)
    for place in range(head.config.places):
        here = click[places == place]
        share = (here.sum() + 10 * rate) / (len(here) + 10)
        with torch.no_grad():
            head.places[place] = math.log(share / (1 - share) * (1 - rate) / rate)


def _optimizer(head: Head, fit: Fit) -> torch.optim.AdamW:
    tables = [p for name, p in head.named_parameters() if is_table(name)]
    matrices = [p for name, p in head.named_parameters() if not is_table(name) and p.ndim == 2]
    others = [p for name, p in head.named_parameters() if not is_table(name) and p.ndim != 2]
    groups = [
        {"params": tables, "weight_decay": fit.embedding_decay / fit.learning_rate},
        {"params": matrices, "weight_decay": fit.weight_decay / fit.learning_rate},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=fit.learning_rate)


def _schedule(done: int, total: int) -> float:
    """Share of the highest learning rate: up over a twentieth, then down as a cosine."""
    rise = max(1, total // 20)
    if done < rise:
        return (done + 1) / rise
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - rise) / max(1, total - rise)))


@torch.no_grad()
def _move_average(average: nn.Module, head: nn.Module, decay: float) -> None:
    for old, new in zip(average.parameters(), head.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def _step(
    head: Head,
    items: ItemTensors,
    inputs: Inputs,
    targets: Targets,
    optimizer: torch.optim.Optimizer,
    fit: Fit,
) -> None:
    head.train()
    hidden = head.config.network.id_dropout
    loss = loss_of(head.config.tasks, forward(head, items, inputs, hidden), targets, fit)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(head.parameters(), 5.0)
    optimizer.step()


def forward(head: Head, items: ItemTensors, inputs: Inputs, hidden: float = 0.0) -> Tensor:
    """Logits ``[moments, places, tasks]``, the place added to that of a click."""
    asked = torch.from_numpy(np.concatenate([inputs.items, inputs.past_items], 1).astype(np.int64))
    found, where = torch.unique(asked.clamp(min=0), return_inverse=True)
    vectors = items.vectors(head, found, hidden)[where]
    places = inputs.items.shape[1]
    logits, added = head.score(
        vectors[:, :places],
        vectors[:, places:],
        torch.from_numpy(inputs.past_kinds.astype(np.int64)),
        torch.from_numpy(inputs.past_ages),
        torch.from_numpy(inputs.past_ratings),
        torch.from_numpy(inputs.pair),
        torch.from_numpy(inputs.whole),
        torch.from_numpy(inputs.categories.astype(np.int64)),
    )
    place = at_place(added, torch.from_numpy(inputs.position.astype(np.int64)))
    return torch.cat([logits[..., :1] + place.unsqueeze(-1), logits[..., 1:]], dim=-1)


@torch.inference_mode()
def predict(heads: list[Head], shelf: Shelf, inputs: Inputs) -> np.ndarray:
    """Logits of the tasks, the mean over the networks: float64 ``[moments, places, tasks]``."""
    lists = max(1, _PREDICT // max(1, inputs.items.shape[1]))
    items = ItemTensors(shelf, heads[0].config)
    shape = (*inputs.items.shape, len(heads[0].config.tasks))
    found = np.zeros(shape)
    for head in heads:
        head.eval()
        for start in range(0, len(inputs), lists):
            part = inputs.select(slice(start, start + lists))
            found[start : start + lists] += forward(head, items, part).double().numpy()
    return found / len(heads)


def _validate(head: Head, items: ItemTensors, validation: tuple[Inputs, Targets]) -> float:
    """Mean log loss of clicks, on the rows as they were drawn."""
    inputs, targets = validation
    lists = max(1, _PREDICT // max(1, inputs.items.shape[1]))
    total, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(inputs), lists):
            rows = slice(start, start + lists)
            logits = forward(head, items, inputs.select(rows))[..., 0].double()
            logits = logits - torch.from_numpy(targets.log_copies[rows])
            click = torch.from_numpy(targets.click[rows]).double()
            known = ~torch.isnan(click)
            total += float(
                F.binary_cross_entropy_with_logits(logits[known], click[known], reduction="sum")
            )
            count += int(known.sum())
    return total / max(count, 1)
