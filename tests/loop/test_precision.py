"""In which precision a forward pass is computed."""

from __future__ import annotations

import logging
from contextlib import nullcontext

import pytest
import torch

from llmrec.loop import precision
from llmrec.loop.precision import (
    bfloat16_products,
    bfloat16_products_differ,
    choose_precision,
    mixed_precision,
)


@pytest.fixture(autouse=True)
def _fresh_warning() -> None:
    precision._warn.cache_clear()


def set_cpu(monkeypatch: pytest.MonkeyPatch, bf16: bool, amx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


def test_auto_is_float32_on_a_cpu() -> None:
    assert choose_precision("cpu", "auto") == "float32"
    assert isinstance(mixed_precision("cpu", "auto"), nullcontext)


@pytest.mark.parametrize(("bf16", "amx"), [(True, False), (False, True)])
def test_bfloat16_is_computed_by_a_cpu_that_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, amx: bool
) -> None:
    set_cpu(monkeypatch, bf16, amx)
    assert choose_precision("cpu", "bfloat16") == "bfloat16"
    with mixed_precision("cpu", "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_a_cpu_without_such_units_computes_in_float32_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_cpu(monkeypatch, bf16=False, amx=False)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with mixed_precision("cpu", "bfloat16"):
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert len(caplog.messages) == 1
    assert "no units for bfloat16; computing in float32" in caplog.messages[0]


def test_whether_products_differ_is_seen_in_a_product() -> None:
    bfloat16_products_differ.cache_clear()
    torch.manual_seed(1)
    left, right = torch.randn(128, 576), torch.randn(576, 256)
    exact = left @ right
    with bfloat16_products():
        product = left @ right
    rough = float((product - exact).abs().max()) > 0.01
    assert bfloat16_products_differ() == rough


def test_products_in_bfloat16_stay_float32_and_end() -> None:
    torch.manual_seed(0)
    left, right = torch.randn(256, 128), torch.randn(128, 512)
    exact = left @ right
    with bfloat16_products():
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        product = left @ right
    assert product.dtype == torch.float32
    torch.testing.assert_close(product, exact, rtol=0, atol=0.5)
    if bfloat16_products_differ():  # not with AVX-512 BF16 alone
        assert not torch.equal(product, exact)
    assert torch.equal(left @ right, exact)


def test_products_are_exact_again_after_an_error() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(KeyError), bfloat16_products():
        raise KeyError
    assert torch.backends.mkldnn.matmul.fp32_precision == before
