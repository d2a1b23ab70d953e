"""The temporal encoder starts as the mean of the frames and can learn what only order shows."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the train extra")

import torch

from llmrec.content.features.temporal import TemporalEncoder, TemporalShape, mean_pool
from llmrec.errors import ArtifactError, ConfigError


def clips(n: int, frames: int = 6, dim: int = 8) -> tuple:
    torch.manual_seed(0)
    times = torch.arange(frames).repeat(n, 1) * 0.25
    return torch.randn(n, frames, dim), times, torch.ones(n, frames, dtype=torch.bool)


def trained(config: TemporalShape, frames, times, mask, labels) -> tuple:
    """An encoder and a linear head, trained together for a moment."""
    torch.manual_seed(0)
    encoder, head = TemporalEncoder(config), torch.nn.Linear(config.dim, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 3e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(encoder(frames, times, mask)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder, head


def test_an_untrained_encoder_is_the_mean() -> None:
    frames, times, mask = clips(3)
    encoder = TemporalEncoder(TemporalShape(8, width=16))
    torch.testing.assert_close(encoder(frames, times, mask), frames.mean(1))


def test_the_mean_counts_only_frames_that_are_there() -> None:
    frames = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [6.0], [7.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_pool(frames, mask).flatten().tolist() == [2.0, 0.0]


def test_padding_changes_nothing() -> None:
    frames, times, mask = clips(2)
    encoder = TemporalEncoder(TemporalShape(8, width=16))
    torch.nn.init.normal_(encoder.out.weight)
    padded = torch.cat([frames, torch.full((2, 3, 8), 50.0)], 1)
    later = torch.cat([times, torch.full((2, 3), 99.0)], 1)
    there = torch.cat([mask, torch.zeros(2, 3, dtype=torch.bool)], 1)
    torch.testing.assert_close(
        encoder(padded, later, there), encoder(frames, times, mask), rtol=1e-4, atol=1e-5
    )


def test_one_step_moves_every_weight_once_the_last_projection_has_moved() -> None:
    frames, times, mask = clips(4)
    encoder = TemporalEncoder(TemporalShape(8, width=16))
    torch.nn.init.normal_(encoder.out.weight)
    encoder(frames, times, mask).square().sum().backward()
    still = [name for name, weight in encoder.named_parameters() if not weight.grad.any()]
    assert still == []


def test_it_learns_an_order_that_the_mean_cannot_see() -> None:
    forward, times, mask = clips(64, dim=8)
    direction = torch.linspace(-2, 2, 6).view(1, 6, 1) * torch.ones(8)
    frames = 0.3 * forward + direction
    frames = torch.cat([frames, frames.flip(1)])  # the same frames the other way round
    times, mask = times.repeat(2, 1), mask.repeat(2, 1)
    labels = torch.arange(2).repeat_interleave(64)
    torch.testing.assert_close(mean_pool(frames, mask)[:64], mean_pool(frames, mask)[64:])
    encoder, head = trained(TemporalShape(8, width=32, layers=1), frames, times, mask, labels)
    guessed = head(encoder(frames, times, mask)).argmax(1)
    assert (guessed == labels).float().mean() > 0.95
    order = torch.randperm(6)  # the times tell the order, not the places
    shuffled = head(encoder(frames[:, order], times[:, order], mask)).argmax(1)
    assert (shuffled == labels).float().mean() > 0.95


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    frames, times, mask = clips(2)
    encoder = TemporalEncoder(TemporalShape(8, width=24, layers=1, heads=3))
    torch.nn.init.normal_(encoder.out.weight)
    encoder.save(tmp_path / "temporal.safetensors")
    loaded = TemporalEncoder.load(tmp_path / "temporal.safetensors")
    assert loaded.config == encoder.config
    torch.testing.assert_close(loaded(frames, times, mask), encoder(frames, times, mask))


def test_a_file_that_is_none_names_itself(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "broken").write_bytes(b"no tensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    for name in ("gone", "broken", "other"):
        with pytest.raises(ArtifactError, match=f"{name}: not a temporal encoder"):
            TemporalEncoder.load(tmp_path / name)


def test_shapes_that_cannot_be_name_the_setting() -> None:
    with pytest.raises(ConfigError, match="heads: 3 does not divide width 16"):
        TemporalShape(8, width=16, heads=3)
