"""Learning rates by step, worked out by hand."""

import math

import pytest
import torch

from llmrec.loop.optimizer import CombinedOptimizer, make_optimizer, parameter_groups
from llmrec.loop.schedule import learning_rate_schedule, set_learning_rate


def test_a_warm_up_ends_at_the_peak_and_never_starts_at_nothing() -> None:
    for shape in ("constant", "linear", "cosine"):
        schedule = learning_rate_schedule(shape, 4, 10)
        assert [schedule(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert learning_rate_schedule("constant", 0, 10)(0) == 1.0


def test_what_follows_the_warm_up() -> None:
    assert learning_rate_schedule("constant", 4, 10)(9) == 1.0
    linear = learning_rate_schedule("linear", 4, 8)
    assert [linear(step) for step in range(4, 9)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    cosine = learning_rate_schedule("cosine", 2, 10, floor=0.02)
    for step in range(2, 11):
        expected = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - 2) / 8))
        assert cosine(step) == pytest.approx(expected, rel=1e-15)
    assert cosine(10) == cosine(15) == 0.02, "also where a run is longer than was known"
    assert learning_rate_schedule("constant", 4, 2)(9) == 1.0


def test_every_group_gets_its_share_of_its_own_rate() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(2))
    parts = [torch.optim.SGD([first], lr=1.0), torch.optim.SGD([second], lr=4.0)]
    both = CombinedOptimizer(parts)
    for share in (0.5, 0.25, 1.0):  # of the rate at first, not of the last one
        set_learning_rate(both, share)
        assert [group["lr"] for group in both.param_groups] == [share, 4 * share]
    assert [part.param_groups[0]["lr"] for part in parts] == [1.0, 4.0]


def test_matrices_alone_are_decayed_and_frozen_weights_left_out() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 1))
    model[2].weight.requires_grad = False
    decayed, rest = parameter_groups(model.named_parameters(), 0.1)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert [p is model[0].weight for p in decayed["params"]] == [True]
    assert len(rest["params"]) == 4
    biases, _ = parameter_groups(model.named_parameters(), 0.1, lambda name, _: "bias" in name)
    assert [tuple(p.shape) for p in biases["params"]] == [(2,), (2,), (1,)]


def test_muon_has_the_matrices_inside_and_adamw_the_rest() -> None:
    model = torch.nn.ModuleDict({"inside": torch.nn.Linear(2, 2), "out": torch.nn.Linear(2, 2)})
    named = list(model.named_parameters())
    both = make_optimizer(named, lambda name: "inside" in name, "muon", 0.1, 0.01)
    adamw, muon = both.parts
    assert [p is model["inside"].weight for p in muon.param_groups[0]["params"]] == [True]
    assert sum(len(group["params"]) for group in adamw.param_groups) == 3
    assert len(make_optimizer(named, lambda _: True, "adamw", 0.1, 0.01).parts) == 1
