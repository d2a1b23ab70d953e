"""Mistakes are one line that names the place and the fix, before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from coloured_shop import tiny_config, write_clip, write_items, write_schema, write_shop

from llmrec.captions.training import trainer
from llmrec.captions.training.run import run
from llmrec.captions.training.settings import (
    FinetuneConfig,
    MultimodalConfig,
    ProjectorConfig,
    SourceDropout,
    ViewAugmentation,
)
from llmrec.cli import run_command
from llmrec.errors import ArtifactError, CatalogError, ConfigError, DataError, LlmrecError


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Dataset, media and schema."""
    home = tmp_path_factory.mktemp("shop")
    return (*write_shop(home), write_schema(home / "schema.yaml"))


def test_a_shop_without_pictures_or_words_is_told_so(tmp_path: Path) -> None:
    rows = [{"attributes": ["colour=red", "pattern=plain"]}] * 3
    dataset = write_items(tmp_path / "dataset", rows)
    config = tiny_config(write_schema(tmp_path / "s.yaml"))
    with pytest.raises(CatalogError, match="no item can be learned from: 3 have none of image, "):
        run(config, dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shop_without_answers_is_told_so(tmp_path: Path) -> None:
    rows = [{"title": "Thing", "attributes": ["colour=red"]}] * 2
    dataset = write_items(tmp_path / "dataset", rows)
    config = tiny_config(write_schema(tmp_path / "s.yaml"))
    with pytest.raises(CatalogError, match="of 2 the catalogue has no target"):
        run(config, dataset, tmp_path / "out")


def test_a_base_or_clip_that_cannot_be_opened_is_named(
    shop: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    dataset, media, schema = shop

    def attempt(**changes: Any) -> None:
        run(tiny_config(schema, **changes), dataset, tmp_path / "out", media_root=media)

    with pytest.raises(ConfigError, match=r"clip: .*nowhere' names no weights and is no folder"):
        attempt(clip=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="is a ModifiedResNet, not a ViT; give a CLIP"):
        attempt(clip=str(write_clip(tmp_path / "resnet", [1, 1, 1, 1])))
    with pytest.raises(ConfigError, match="base: 'no/model' is neither a size"):
        attempt(base="no/model")
    with pytest.raises(ConfigError, match="clip: the base 'no/model' has its own vision tower"):
        attempt(base="no/model", clip="x")
    with pytest.raises(ConfigError, match="video: the base 'no/model' has its own"):
        attempt(base="no/model", video=True)
    with pytest.raises(ConfigError, match="random weights has to learn in full"):
        attempt(finetune=FinetuneConfig(train="lora"))
    assert not (tmp_path / "out").exists()


def test_a_field_without_values_is_named(shop: tuple[Path, Path, Path], tmp_path: Path) -> None:
    dataset, media, _ = shop
    for values, reason in (
        ([], "values: has none"),
        ("catalogue", "no item of the catalogue has 'attributes.shape', so the field 'shape'"),
    ):
        schema = write_schema(tmp_path / "s.yaml", {"shape": {"values": values}})
        with pytest.raises(ConfigError, match=reason):
            run(tiny_config(schema), dataset, tmp_path / "out", media_root=media)


def test_lists_of_items_to_leave_out_are_checked(
    shop: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    dataset, media, schema = shop
    leave = tmp_path / "leave.txt"
    for text, reason in (
        ("i0\nx7\nx8\n", r"leave.txt: 'x7' is not an item of .* \(2 of 3 are not\)"),
        ("\n".join(f"i{n}" for n in range(6)), "lists every item of .*, so none is left"),
        ("\n", "lists no item"),
    ):
        leave.write_text(text)
        with pytest.raises(DataError, match=reason):
            run(
                tiny_config(schema),
                dataset,
                tmp_path / "out",
                media_root=media,
                leave_out=leave,
            )
    with pytest.raises(DataError, match="no such file"):
        missing = tmp_path / "none.txt"
        run(tiny_config(schema), dataset, tmp_path / "out", media_root=media, leave_out=missing)


def test_folders_are_checked(shop: tuple[Path, Path, Path], tmp_path: Path) -> None:
    dataset, media, schema = shop
    config = tiny_config(schema)
    with pytest.raises(ConfigError, match=r"--media-root: .*nowhere is no folder"):
        run(config, dataset, tmp_path / "out", media_root=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="--media-root: the column image names files"):
        run(config, dataset, tmp_path / "out")
    with pytest.raises(ArtifactError, match="holds the 'ingest' stage, expected 'embed-media'"):
        run(config, dataset, tmp_path / "out", media_root=media, media=dataset)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(LlmrecError, match="was not written by llmrec"):
        run(config, dataset, tmp_path / "out", media_root=media)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_a_loss_that_is_no_number_ends_the_run(
    shop: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, media, schema = shop
    loss = trainer.response_loss
    monkeypatch.setattr(trainer, "response_loss", lambda *a: loss(*a) * float("nan"))
    with pytest.raises(
        LlmrecError, match=r"loss became nan in step 1 of projector; .*projector.lr"
    ):
        run(tiny_config(schema), dataset, tmp_path / "out", media_root=media)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tasks": {"colour": 1.0}}, "tasks: 'colour' is not one; choose from caption, "),
        ({"tasks": {}}, "tasks: none is named"),
        ({"tasks": {"caption": 0.0}}, "tasks: shares must be 0 or more, and one of them above 0"),
        ({"sources": ("smell",)}, "sources: 'smell' is not one"),
        ({"batch_size": 0}, "batch_size: must be 1 or more, got 0"),
        ({"validation_share": 1.0}, r"validation_share: must be in \[0, 1\)"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        MultimodalConfig(**settings)


def test_settings_of_the_parts_are_checked() -> None:
    for make, reason in (
        (lambda: SourceDropout(alone=1.5), r"alone: must be in \[0, 1\]"),
        (lambda: ViewAugmentation(crop=1.0), r"crop: must be in \[0, 1\)"),
        (lambda: ProjectorConfig(epochs=-1), "epochs: must be 0 or more"),
        (lambda: FinetuneConfig(lr=0.0), "lr: must be above 0"),
        (lambda: FinetuneConfig(rank=0), "rank: must be 1 or more"),
    ):
        with pytest.raises(ConfigError, match=reason):
            make()


def test_an_unknown_key_of_a_recipe_is_named(shop: tuple[Path, Path, Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("multimodal:\n  finetune: {epoch: 3}\n")
    flags = [f"--dataset={shop[0]}", f"--out={tmp_path / 'out'}"]
    with pytest.raises(ConfigError, match="unknown key 'epoch'; did you mean 'epochs'"):
        run_command(["train", "multimodal", str(recipe), *flags])
