"""What learns in each of the two steps, and LoRA that is merged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from coloured_shop import tiny_config, write_schema, write_shop

from llmrec.captions.training.llava import load_multimodal, new_multimodal, save_multimodal
from llmrec.captions.training.run import run
from llmrec.captions.training.settings import FinetuneConfig, ProjectorConfig
from llmrec.captions.training.trainable import merged, prepare_finetune, trainable_parameters
from llmrec.captions.training.trainer import optimizer_of
from llmrec.errors import ConfigError

UNUSED = "post_layernorm"  # a LLaVA reads the patches before it


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that counts as pretrained: a folder."""
    model, processor = new_multimodal(
        "llava-nano", clip=None, texts=['{"colour": "red", "pattern": "plain"}'] * 9
    )
    return save_multimodal(model, processor, tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    home = tmp_path_factory.mktemp("shop")
    return (*write_shop(home, 8), write_schema(home / "schema.yaml"))


def moved(
    base: Path,
    shop: tuple[Path, Path, Path],
    out: Path,
    steps: tuple[ProjectorConfig, FinetuneConfig],
) -> set[str]:
    """Names of the weights that a run changes."""
    dataset, media, schema = shop
    config = tiny_config(schema, base=str(base), projector=steps[0], finetune=steps[1])
    run(config, dataset, out, media_root=media)
    before, _ = load_multimodal(base)
    after, _ = load_multimodal(out)
    old, new = before.state_dict(), after.state_dict()
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


def names(base: Path, *parts: str) -> set[str]:
    model, _ = load_multimodal(base)
    return {n for n in model.state_dict() if any(p in n for p in parts) and UNUSED not in n}


def test_the_projector_step_changes_only_the_projector(
    base: Path, shop: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    steps = ProjectorConfig(epochs=1), FinetuneConfig(train="none", epochs=0)
    assert moved(base, shop, tmp_path / "out", steps) == names(base, "projector")


def test_lora_changes_the_projector_and_the_layers_of_the_language_model(
    base: Path, shop: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    steps = ProjectorConfig(epochs=0), FinetuneConfig(epochs=1, lr=1e-2, rank=4)
    found = moved(base, shop, tmp_path / "out", steps)
    layers = {n for n in names(base, "language_model.layers") if n.endswith("_proj.weight")}
    assert found == layers | names(base, "projector")
    assert len(layers) == 2 * 7


@pytest.mark.parametrize("tower", [False, True], ids=["frozen", "with the tower"])
def test_the_full_step_changes_everything_that_it_should(
    base: Path, shop: tuple[Path, Path, Path], tmp_path: Path, tower: bool
) -> None:
    steps = ProjectorConfig(epochs=0), FinetuneConfig(train="full", epochs=2, lr=1e-2, tower=tower)
    parts = ["projector", "language_model", "lm_head", *(["vision_tower"] if tower else [])]
    assert moved(base, shop, tmp_path / "out", steps) == names(base, *parts)


def test_merging_changes_no_answer(base: Path) -> None:
    model, processor = load_multimodal(base)
    ids = processor.tokenizer('{"colour": "red"}', return_tensors="pt")["input_ids"]
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image = torch.full((1, 16), model.config.image_token_index)
    inputs: Any = {"input_ids": torch.cat([image, ids], 1), "pixel_values": pixels}
    with torch.inference_mode():
        plain = model(**inputs).logits.clone()
    step = FinetuneConfig(rank=4).resolved(scratch=False)
    wrapped = prepare_finetune(model, step)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    with torch.inference_mode():
        adapted = wrapped(**inputs).logits.clone()
        together = merged(wrapped)(**inputs).logits
    assert (adapted - plain).abs().max() > 0.05
    torch.testing.assert_close(together, adapted, atol=1e-5, rtol=0)
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_tied_weights_learn_once(base: Path) -> None:
    model, _ = load_multimodal(base)
    prepare_finetune(model, FinetuneConfig(train="full", tower=True).resolved(scratch=True))
    weights = trainable_parameters(model)
    assert len({id(p) for p in weights}) == len(weights) == len(list(model.parameters()))


def test_a_step_is_settled_by_where_the_weights_come_from() -> None:
    scratch, given = (
        FinetuneConfig().resolved(scratch=True),
        FinetuneConfig().resolved(scratch=False),
    )
    assert (scratch.train, scratch.tower, scratch.epochs) == ("full", True, 10)
    assert (given.train, given.tower, given.epochs, given.lr) == ("lora", False, 2, 2e-4)
    chosen = FinetuneConfig(train="full", epochs=1, lr=3e-5, tower=True).resolved(scratch=False)
    assert (chosen.train, chosen.tower, chosen.epochs, chosen.lr) == ("full", True, 1, 3e-5)
    assert given.resolved(scratch=False) == given
    assert FinetuneConfig().resolved(scratch=True, fresh_tower=False).tower is False
    with pytest.raises(ConfigError, match="random weights has to learn in full"):
        FinetuneConfig(train="lora").resolved(scratch=True)


def test_muon_takes_the_matrices_inside_blocks_and_adamw_the_rest(
    base: Path, shop: tuple[Path, Path, Path]
) -> None:
    model, _ = load_multimodal(base)
    prepare_finetune(model, FinetuneConfig(train="full", tower=True).resolved(scratch=True))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    adamw, muon = optimizer_of(model, tiny_config(shop[2], optimizer="muon"), 1e-3).parts
    sides = [
        {names[id(p)] for group in part.param_groups for p in group["params"]}
        for part in (adamw, muon)
    ]
    assert sides[0] | sides[1] == set(names.values()) and not sides[0] & sides[1]
    assert all(name.endswith(".weight") and "embed" not in name for name in sides[1])
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in sides[1]
    assert "model.language_model.embed_tokens.weight" in sides[0]
    (alone,) = optimizer_of(model, tiny_config(shop[2], optimizer="adamw"), 1e-3).parts
    assert {names[id(p)] for g in alone.param_groups for p in g["params"]} == set(names.values())
