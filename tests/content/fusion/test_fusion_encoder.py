"""What an item lacks cannot change its vector; what it has can."""

import math
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the train extra")

import torch

from llmrec.bench.fusion_concat import ConcatEncoder
from llmrec.content.fusion.encoder import FusionEncoder
from llmrec.content.fusion.settings import FusionShape
from llmrec.errors import ArtifactError, ConfigError

DIMS = {"text": 12, "image": 8, "speech": 5}
PRESENT = torch.tensor(
    [[True, True, True], [True, False, False], [False, True, True], [False, False, False]]
)


def config(**changes) -> FusionShape:
    return FusionShape(modalities=DIMS, **{"dim": 6, "width": 16, "heads": 2} | changes)


def encoder(kind: type = FusionEncoder) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind(config()).eval()


def blocks(items: int = 4, seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {name: torch.randn(items, dim) for name, dim in DIMS.items()}


def spoiled(value: float) -> dict[str, torch.Tensor]:
    """The blocks with ``value`` wherever an item has nothing."""
    return {
        name: block.masked_fill(~PRESENT[:, [column]], value)
        for column, (name, block) in enumerate(blocks().items())
    }


@pytest.mark.parametrize("kind", [FusionEncoder, ConcatEncoder])
@pytest.mark.parametrize("value", [0.0, 1e30, math.inf, math.nan])
def test_a_missing_modality_changes_nothing_whatever_its_row_holds(
    kind: type, value: float
) -> None:
    with torch.inference_mode():
        assert torch.equal(encoder(kind)(spoiled(value), PRESENT), encoder(kind)(blocks(), PRESENT))


def test_nor_does_it_change_what_is_learned() -> None:
    gradients = []
    for value in (0.0, math.nan):
        model = encoder()
        model(spoiled(value), PRESENT)[:, 0].sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_every_modality_that_is_there_counts() -> None:
    model, plain = encoder(), blocks()
    with torch.inference_mode():
        before = model(plain, PRESENT)
        for column, name in enumerate(DIMS):
            other = plain | {name: blocks(seed=2)[name]}
            moved = (model(other, PRESENT) - before).abs().amax(1) > 1e-4
            assert moved.tolist() == PRESENT[:, column].tolist()


def test_the_result_is_a_unit_vector_also_for_an_item_without_anything() -> None:
    with torch.inference_mode():
        vectors = encoder()(blocks(), PRESENT)
    assert vectors.shape == (4, 6)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))


def test_items_without_anything_share_a_vector_that_can_be_learned() -> None:
    model = encoder()
    nothing = torch.zeros(4, 3, dtype=torch.bool)
    vectors = model(blocks(), nothing)
    # at four places of a batch: equal up to the rounding of unit vectors in float32
    torch.testing.assert_close(vectors, vectors[:1].expand(4, -1), atol=1e-6, rtol=0)
    vectors[0, 0].backward()
    assert model.nothing.grad.abs().sum() > 0


def test_zeros_told_to_be_there_are_not_the_same_as_missing() -> None:
    with torch.inference_mode():
        masked = encoder()(spoiled(0.0), PRESENT)
        filled = encoder()(spoiled(0.0), torch.ones_like(PRESENT))
    assert torch.equal(masked[0], filled[0])
    assert ((masked - filled)[1:].abs().amax(1) > 1e-4).all()


def test_an_item_alone_gets_the_vector_it_gets_among_others() -> None:
    model, plain = encoder(), blocks()
    with torch.inference_mode():
        whole = model(plain, PRESENT)
        for row in range(4):
            alone = model({n: b[row : row + 1] for n, b in plain.items()}, PRESENT[row : row + 1])
            torch.testing.assert_close(alone[0], whole[row], rtol=1e-5, atol=1e-6)


def test_one_step_moves_every_weight() -> None:
    model = encoder().train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    (model(blocks(64), PRESENT.repeat(16, 1)) * torch.randn(64, 6)).sum().backward()
    optimizer.step()
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not still


def test_it_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    model = encoder()
    model.save(tmp_path / "encoder.safetensors")
    loaded = FusionEncoder.load(tmp_path / "encoder.safetensors")
    assert loaded.config == model.config
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(blocks(), PRESENT), model(blocks(), PRESENT))


@pytest.mark.parametrize("content", [None, b"", b"not tensors"])
def test_a_file_that_is_no_encoder_is_told_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "encoder.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="not a fusion encoder that can be read") as caught:
        FusionEncoder.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "heads: 3 does not divide width 16"),
        ({"layers": 0}, "layers: must be 1 or more, got 0"),
        ({"dropout": 1.0}, r"dropout: must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_shape_that_cannot_be_is_told_so(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)
