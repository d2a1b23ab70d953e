"""Dropout by bytes drops the share asked for, keeps the mean, and lets gradients through."""

import pytest
import torch

from llmrec.llm.dropout import dropout


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5, 11)])
def test_every_shape_is_kept_or_scaled(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(shape), 0.5, True)
    assert dropped.shape == shape
    assert set(dropped.flatten().tolist()) <= {0.0, 2.0}


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4, 0.9])
def test_the_share_and_the_mean_are_right(rate: float) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(400, 500), rate, True)
    share = (dropped == 0).float().mean().item()
    assert share == pytest.approx(round(rate * 256) / 256, abs=0.004)
    assert dropped.mean().item() == pytest.approx(1, abs=0.03 if rate == 0.9 else 0.01)
    # neighbours, which come from one draw, are independent
    zero = (dropped == 0).float() - share
    assert abs((zero[:, :-1] * zero[:, 1:]).mean().item()) < 0.003


def test_the_gradient_goes_where_the_values_went() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 50, requires_grad=True)
    dropped = dropout(values, 0.5, True)
    dropped.sum().backward()
    assert torch.equal(values.grad, torch.where(dropped == 0, 0.0, 2.0))


def test_the_seed_decides() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(torch.ones(1000), 0.5, True))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_nothing_is_dropped(rate: float, training: bool) -> None:
    values = torch.ones(100)
    assert dropout(values, rate, training) is values


def test_a_rate_below_a_byte_is_still_a_rate() -> None:
    torch.manual_seed(0)
    assert 0 < (dropout(torch.ones(1_000_000), 0.001, True) == 0).float().mean().item() < 0.002
