"""The chunked cross-entropy is torch's, in value and in both gradients."""

import pytest
import torch
from torch.nn import functional as F

from llmrec.training.next_item.loss import CHUNK, table_cross_entropy


def inputs(n: int, rows: int, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(n * 1000 + rows)
    hidden = torch.randn(n, 6, generator=generator, dtype=torch.float64) * scale
    table = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    return hidden, table, torch.randint(rows, (n,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("rows", [1, 2, 77])
@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_value_and_gradients_are_those_of_torch(n: int, rows: int, smoothing: float) -> None:
    hidden, table, targets = inputs(n, rows)
    results = []
    for loss_of in (
        lambda h, t: table_cross_entropy(h, t, targets, smoothing),
        lambda h, t: F.cross_entropy(h @ t.T, targets, label_smoothing=smoothing),
    ):
        h, t = hidden.clone().requires_grad_(), table.clone().requires_grad_()
        loss = loss_of(h, t)
        (3 * loss).backward()  # a factor, so that the incoming gradient matters
        results.append((loss.detach().double(), h.grad, t.grad))
    ours, theirs = results
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)  # value is float32
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-9, atol=1e-12)


def test_large_logits_do_not_overflow() -> None:
    hidden, table, targets = (x.float() if x.is_floating_point() else x for x in inputs(9, 5, 1e4))
    hidden.requires_grad_()
    loss = table_cross_entropy(hidden, table, targets)
    loss.backward()
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ table.T, targets), rtol=1e-4, atol=0)
    assert torch.isfinite(hidden.grad).all()


def test_a_number_that_is_none_is_seen() -> None:
    hidden, table, targets = inputs(4, 5)
    hidden[2, 0] = float("nan")
    assert table_cross_entropy(hidden, table, targets).isnan()
