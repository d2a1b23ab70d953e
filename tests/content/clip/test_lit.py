"""A CLIP of pretrained towers: what learns, what does not, and open_clip opens its folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shop_of_colours import COLOURS, picture_shop
from tiny_towers import image_tower, text_tower

from llmrec.content import embed
from llmrec.content.clip.run import run
from llmrec.content.clip.settings import ClipConfig, LitConfig
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.features.modalities import EmbedMediaConfig
from llmrec.content.media.images import decode_image
from llmrec.errors import CatalogError, ConfigError, MissingExtraError
from llmrec.stage import read_manifest

Shop = tuple[Path, Path, Path]
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return picture_shop(tmp_path_factory.mktemp("lit"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ClipConfig:
    home = tmp_path_factory.mktemp("towers")
    image, text = image_tower(home / "image"), text_tower(home / "text")
    lit = LitConfig(str(image), str(text), dim=32, side=64)
    return ClipConfig(
        lit=lit, fields=("colour", "category"), epochs=40, batch_size=18, learning_rate=1e-2,
        dropout=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(shop: Shop, config: ClipConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "clip"
    return run(config, shop[0], out, media_root=shop[1], leave_out=shop[2])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


def of_tower(folder: Path, tower: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {f"{tower}.{k}": v for k, v in load_file(folder / "model.safetensors").items()}


def test_it_tells_the_colour_of_pictures_that_it_has_not_seen(shop: Shop, trained: Path) -> None:
    rows = [int(json.loads(line)["item_id"][1:]) for line in shop[2].read_text().splitlines()]
    encoder = ImageEncoder(str(trained))
    pictures = encoder.encode([decode_image(shop[1] / f"{row}.png") for row in rows])
    found = (pictures @ encoder.encode_text(list(COLOURS)).T).argmax(1)
    assert np.mean(found == np.array(rows) % 3) >= 0.9


def test_open_clip_opens_the_folder_by_itself(trained: Path, shop: Shop) -> None:
    import open_clip

    clip, _, prepare = open_clip.create_model_and_transforms(
        f"local-dir:{trained}", require_pretrained=True
    )
    tokenize = open_clip.get_tokenizer(f"local-dir:{trained}")
    assert type(clip) is open_clip.CustomTextCLIP
    image, ours = decode_image(shop[1] / "5.png"), ImageEncoder(str(trained))
    with torch.inference_mode():
        picture = clip.eval().encode_image(prepare(image)[None], normalize=True)
        words = clip.encode_text(tokenize(["red bar"]), normalize=True)
    np.testing.assert_allclose(picture, ours.encode([image]), atol=1e-5)
    np.testing.assert_allclose(words, ours.encode_text(["red bar"]), atol=1e-5)


def test_a_folder_that_was_moved_still_opens(trained: Path, tmp_path: Path) -> None:
    before = ImageEncoder(str(trained)).encode_text(["blue disc"])
    moved = trained.rename(tmp_path / "elsewhere")
    after = ImageEncoder(str(moved)).encode_text(["blue disc"])
    moved.rename(trained)
    np.testing.assert_array_equal(before, after)


def test_the_towers_are_those_that_were_given(trained: Path, config: ClipConfig) -> None:
    found = weights(trained)
    image = of_tower(Path(config.lit.image_tower), "visual.trunk")
    text = of_tower(Path(config.lit.text_tower), "text.transformer")
    kept = {k: v for k, v in (image | text).items() if k in found}
    assert len(kept) > 60
    assert all(torch.equal(found[name], value) for name, value in kept.items())


def test_of_an_unfrozen_tower_the_last_stage_moves_alone(
    shop: Shop, config: ClipConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lit = replace(config.lit, unfrozen=1)
    out = run(replace(config, lit=lit, epochs=1), shop[0], tmp_path / "clip", media_root=shop[1])
    found, given = weights(out), of_tower(Path(config.lit.image_tower), "visual.trunk")
    moved = {k for k, v in given.items() if k in found and not torch.equal(v, found[k])}
    stages = {int(name.split(".")[3]) for name in given if ".blocks." in name}
    last = f"visual.trunk.blocks.{max(stages)}."
    assert any(name.startswith(last) for name in moved)
    assert all(
        name.startswith((last, "visual.trunk.conv_head", "visual.trunk.bn2")) for name in moved
    )
    assert not any("running" in name for name in moved)
    assert "LOAD REPORT" not in capfd.readouterr().err  # of the text tower's pooler


def test_a_run_that_was_killed_after_the_towers_were_asked_ends_as_one_that_was_not(
    shop: Shop, config: ClipConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmrec.content.clip.lit import LockedTowers
    from llmrec.content.clip.training import ClipTrainer

    few = replace(config, epochs=2)
    whole = run(few, shop[0], tmp_path / "whole", media_root=shop[1])

    def killed(self: ClipTrainer) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ClipTrainer, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            run(few, shop[0], tmp_path / "parts", media_root=shop[1])
    monkeypatch.setattr(LockedTowers, "see", None)  # what they said is kept
    parts = run(few, shop[0], tmp_path / "parts", media_root=shop[1])
    mine, other = weights(whole), weights(parts)
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_it_is_the_default_and_other_towers_make_another_folder(
    shop: Shop, config: ClipConfig, trained: Path
) -> None:
    assert ClipConfig().size == "lit"
    made = read_manifest(trained, "train-clip")
    assert made.inputs["image_tower"] != made.inputs["text_tower"]


def test_vectors_of_media_come_from_one_where_no_model_is_named(
    shop: Shop, config: ClipConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(config, epochs=1)
    monkeypatch.setattr(embed, "ClipConfig", lambda **given: replace(few, **given))
    asked = EmbedMediaConfig(("image",), device="cpu")
    out = embed.embed_media(asked, shop[0], tmp_path / "media", media_root=shop[1])
    made = read_manifest(out, "embed-media")
    assert made.config["image_model"] == str(tmp_path / "media_clip")
    assert (made.counts["image"], made.counts["image_dim"]) == (72, 32)
    words = replace(asked, modalities=("speech",))
    with pytest.raises(CatalogError, match="no item has a value in audio"):
        embed.embed_media(words, shop[0], tmp_path / "words", media_root=shop[1])
    assert not (tmp_path / "words_clip").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unfrozen": 50}, r"lit\.unfrozen: 50"),
        ({"image_tower": "whisper-tiny.en"}, "is the short name of a speech model"),
        ({"image_tower": "nowhere"}, r"lit: no towers of 'nowhere'"),
    ],
)
def test_towers_that_cannot_be_used_are_named_before_anything_is_written(
    shop: Shop, config: ClipConfig, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    lit = replace(config.lit, **changes)  # type: ignore[arg-type]
    with pytest.raises((ConfigError, MissingExtraError), match=said):
        run(replace(config, lit=lit), shop[0], tmp_path / "out", media_root=shop[1])
    assert not (tmp_path / "out").exists()
