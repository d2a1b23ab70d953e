"""Training of the click network: batches of impressions, validation, what is kept."""

from __future__ import annotations

import copy
import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmrec.errors import DataError
from llmrec.loop.average import average_weights
from llmrec.loop.bars import ProgressBar
from llmrec.loop.optimizer import parameter_groups
from llmrec.loop.schedule import learning_rate_schedule, set_learning_rate
from llmrec.loop.state import TrainingState
from llmrec.ranking.ctr.bins import quantile_edges
from llmrec.ranking.ctr.features import ClickFeatures
from llmrec.ranking.ctr.item_features import ItemFeatures
from llmrec.ranking.ctr.loss import Targets, click_loss
from llmrec.ranking.ctr.network import ClickNetwork, NetworkShape, at_position, is_embedding
from llmrec.ranking.ctr.settings import STARS, FitConfig, NetworkConfig

_BIN_ROWS = 200_000  # rows that bins are made from
_PREDICT_ROWS = 4096  # candidates at once
_FLOOR = 0.02  # share of the peak learning rate at the end


class ItemTensors:
    """What a network reads of items, as tensors.

    Args:
        items: the items.
        shape: of the network; what it does not read is left out.
    """

    def __init__(self, items: ItemFeatures, shape: NetworkShape) -> None:
        n, tokens = items.n_items, np.zeros((items.n_items, 1), np.int32)
        fields = items.fields if shape.field_sizes else np.zeros((n, 0), np.int32)
        if shape.token_size:
            tokens = items.padded_tokens()
        self.fields = torch.from_numpy(fields.astype(np.int64))
        self.tokens = torch.from_numpy(tokens.astype(np.int64))
        self.fused = torch.from_numpy(items.fused.astype(np.float32))
        self.ids = torch.arange(1, n + 1)
        self.ids[shape.n_items :] = 0

    def vectors(self, network: ClickNetwork, items: Tensor, id_dropout: float = 0.0) -> Tensor:
        """Vectors of some items; ``id_dropout`` is the share whose ID is dropped."""
        ids = self.ids[items]
        if id_dropout:
            ids = ids * (torch.rand(len(ids)) >= id_dropout)
        return network.items(ids, self.fields[items], self.tokens[items], self.fused[items])


def train_networks(
    inputs: ClickFeatures,
    targets: Targets,
    validation: tuple[ClickFeatures, Targets],
    items: ItemFeatures,
    config: NetworkConfig,
    fit: FitConfig,
    seed: int,
    *,
    captions: bool = True,
    quiet: bool = False,
) -> tuple[list[ClickNetwork], list[TrainingState]]:
    """Train as many networks as the settings say.

    Args:
        captions: whether they read captions.

    Returns:
        the networks, and each one's validations: the score is the negative log loss of clicks.

    Raises:
        DataError: if a feature is infinite.
    """
    _check_finite(inputs)
    shape = NetworkShape(
        n_items=items.n_items,
        field_sizes=items.field_sizes if captions else (),
        token_size=items.token_size if captions else 0,
        fused_dim=items.fused.shape[1],
        candidate=inputs.candidate.shape[2],
        request=inputs.request.shape[1],
        category_sizes=tuple(size for _, _, size in inputs.names.categories),
        positions=max(1, int(inputs.position.max(initial=-1)) + 1),
        tasks=targets.tasks,
        network=config,
    )
    trained = [
        _train(shape, inputs, targets, validation, items, fit, seed + number, quiet)
        for number in range(config.copies)
    ]
    return [network for network, _ in trained], [state for _, state in trained]


def _check_finite(inputs: ClickFeatures) -> None:
    for kind in ("candidate", "request"):
        values = getattr(inputs, kind)
        wrong = np.isinf(values).reshape(-1, values.shape[-1]).any(axis=0)
        if wrong.any():
            name = getattr(inputs.names, kind)[int(np.flatnonzero(wrong)[0])][0]
            raise DataError(
                f"the number {name!r} is infinite for some rows; leave these out, or NaN"
            )


def _train(
    shape: NetworkShape,
    inputs: ClickFeatures,
    targets: Targets,
    validation: tuple[ClickFeatures, Targets],
    items: ItemFeatures,
    fit: FitConfig,
    seed: int,
    quiet: bool,
) -> tuple[ClickNetwork, TrainingState]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = _initial_network(shape, inputs, targets, rng)
    tensors = ItemTensors(items, shape)
    average = average_weights(network, fit.average).eval()
    optimizer = _optimizer(network, fit)
    batch = max(1, fit.rows // inputs.items.shape[1])
    steps = math.ceil(len(inputs) / batch)
    total = steps * fit.epochs
    schedule = learning_rate_schedule("cosine", max(1, total // 20), total, _FLOOR)
    checks = {round(steps * (n + 1) / fit.checks) for n in range(fit.checks)}
    state, best = TrainingState(), copy.deepcopy(network.state_dict())
    started = time.monotonic()
    bar = ProgressBar(total=total, desc="ctr", unit="step", disable=quiet)
    for epoch in range(fit.epochs):
        order = rng.permutation(len(inputs))
        for step in range(steps):
            rows = np.sort(order[step * batch : (step + 1) * batch])
            set_learning_rate(optimizer, schedule(state.step))
            network.train()
            logits = forward(network, tensors, inputs.select(rows), shape.network.id_dropout)
            loss = click_loss(shape.tasks, logits, targets.select(rows), fit)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            average.update_parameters(network)
            state.step += 1
            bar.update()
            if step + 1 not in checks:
                continue
            log_loss = _validate(average.module, tensors, validation)
            state.log.append({"epoch": epoch + (step + 1) / steps, "log_loss": log_loss,
                              "seconds": round(time.monotonic() - started, 1)})  # fmt: skip
            bar.set_postfix(log_loss=f"{log_loss:.4f}")
            state.epoch += 1  # patience is in validations
            if state.improve(-log_loss):
                best = copy.deepcopy(average.module.state_dict())
        if state.out_of_patience(fit.patience):
            break
    bar.close()
    network.load_state_dict(best)
    return network.eval(), state


def _initial_network(
    shape: NetworkShape, inputs: ClickFeatures, targets: Targets, rng: np.random.Generator
) -> ClickNetwork:
    """Bins at the quantiles of the features, biases at the base rates."""
    network, bins = ClickNetwork(shape), shape.network.bins
    rows = inputs.candidate[inputs.items >= 0]
    some = rng.permutation(len(rows))[:_BIN_ROWS]
    network.candidate.set_bins(torch.from_numpy(quantile_edges(rows[some], bins)))
    network.request.set_bins(torch.from_numpy(quantile_edges(inputs.request, bins)))
    known = ~np.isnan(targets.click)
    with torch.no_grad():
        for number, task in enumerate(shape.tasks):
            if task == "click":
                weight = np.exp(-targets.log_sampling_rate[known]) * (targets.click[known] == 0)
                clicks = float((targets.click[known] == 1).sum())
                network.out.bias[number] = math.log((clicks + 0.5) / (float(weight.sum()) + 0.5))
            elif task == "purchase":
                rate = float(np.nanmean(targets.purchase[targets.click == 1]))
                network.out.bias[number] = math.log((rate + 1e-3) / (1 - rate + 1e-3))
            else:
                network.out.bias[number] = float(np.nanmean(targets.rating)) - STARS
        known &= inputs.position >= 0
        positions, click = inputs.position[known], targets.click[known]
        rate = (click.sum() + 0.5) / (len(click) + 1.0)
        for position in range(shape.positions):
            clicked = click[positions == position]
            share = (clicked.sum() + 10 * rate) / (len(clicked) + 10)
            odds_ratio = share / (1 - share) * (1 - rate) / rate
            network.position_bias[position] = math.log(odds_ratio)
    return network


def _optimizer(network: ClickNetwork, fit: FitConfig) -> torch.optim.AdamW:
    named = list(network.named_parameters())
    embeddings = [weight for name, weight in named if is_embedding(name)]
    others = [(name, weight) for name, weight in named if not is_embedding(name)]
    decay, rate = fit.weight_decay / fit.learning_rate, fit.learning_rate
    groups = [
        {"params": embeddings, "weight_decay": fit.embedding_decay / rate},
        *parameter_groups(others, decay, lambda _, weight: weight.ndim == 2),
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def forward(
    network: ClickNetwork, items: ItemTensors, inputs: ClickFeatures, id_dropout: float = 0.0
) -> Tensor:
    """Logits ``[requests, candidates, tasks]``, position bias added to that of a click."""
    both = np.concatenate([inputs.items, inputs.history_items], 1).astype(np.int64)
    distinct, where = torch.unique(torch.from_numpy(both).clamp(min=0), return_inverse=True)
    vectors = items.vectors(network, distinct, id_dropout)[where]
    n_candidates = inputs.items.shape[1]
    logits, bias = network.score(
        vectors[:, :n_candidates], vectors[:, n_candidates:], *request_tensors(inputs)
    )
    bias = at_position(bias, torch.from_numpy(inputs.position.astype(np.int64)))
    return torch.cat([logits[..., :1] + bias.unsqueeze(-1), logits[..., 1:]], dim=-1)


def request_tensors(inputs: ClickFeatures) -> tuple[Tensor, ...]:
    """What :meth:`ClickNetwork.score` reads beside item vectors."""
    arrays = (
        inputs.history_types.astype(np.int64),
        inputs.history_ages,
        inputs.history_ratings,
        inputs.candidate,
        inputs.request,
        inputs.categories.astype(np.int64),
    )
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


@torch.inference_mode()
def predict(networks: list[ClickNetwork], items: ItemFeatures, inputs: ClickFeatures) -> np.ndarray:
    """Mean logits of the networks: float64 ``[requests, candidates, tasks]``."""
    tensors = ItemTensors(items, networks[0].config)
    total = np.zeros((*inputs.items.shape, len(networks[0].config.tasks)))
    for network in networks:
        network.eval()
        for rows in _predicted_at_once(inputs):
            total[rows] += forward(network, tensors, inputs.select(rows)).double().numpy()
    return total / len(networks)


def _predicted_at_once(inputs: ClickFeatures) -> list[slice]:
    size = max(1, _PREDICT_ROWS // max(1, inputs.items.shape[1]))
    return [slice(start, start + size) for start in range(0, len(inputs), size)]


@torch.inference_mode()
def _validate(
    network: ClickNetwork, items: ItemTensors, validation: tuple[ClickFeatures, Targets]
) -> float:
    """Mean log loss of clicks, on the rows as they were sampled."""
    inputs, targets = validation
    total, count = 0.0, 0
    for rows in _predicted_at_once(inputs):
        logits = forward(network, items, inputs.select(rows))[..., 0].double()
        logits = logits - torch.from_numpy(targets.log_sampling_rate[rows])
        click = torch.from_numpy(targets.click[rows]).double()
        known = ~torch.isnan(click)
        total += float(
            F.binary_cross_entropy_with_logits(logits[known], click[known], reduction="sum")
        )
        count += int(known.sum())
    return total / max(count, 1)
