"""A tower taken over from open_clip computes what it did there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_folders import write_clip
from PIL import Image

from llmrec.captions.training.clip_tower import open_clip_tower
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.errors import ConfigError

pytest.importorskip("open_clip", reason="open_clip is not installed in this environment")


@pytest.mark.parametrize("quick", [False, True], ids=["gelu", "quick_gelu"])
@torch.inference_mode()
def test_the_converted_tower_gives_what_open_clip_gives(tmp_path: Path, quick: bool) -> None:
    folder = write_clip(tmp_path / "clip", quick=quick)
    tower, pixels = open_clip_tower(folder)
    visual = ImageEncoder(str(folder), device="cpu").clip.visual
    visual.output_tokens = True
    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pooled, patches = visual(x)
    found = tower(pixel_values=x, output_hidden_states=True)
    torch.testing.assert_close(found.pooler_output @ visual.proj, pooled, atol=1e-4, rtol=0)
    ours = tower.post_layernorm(found.last_hidden_state)[:, 1:]
    torch.testing.assert_close(ours, patches, atol=1e-4, rtol=0)
    # what a LLaVA reads: the patches of one block, before any norm
    between = visual.forward_intermediates(x, indices=[1], output_fmt="NLC")["image_intermediates"]
    torch.testing.assert_close(found.hidden_states[-2][:, 1:], between[0], atol=1e-4, rtol=0)
    assert pooled.std() > 0.1 and patches.std() > 0.1
    assert tower.config.hidden_act == ("quick_gelu" if quick else "gelu")
    assert pixels.side == 32 and not tower.training


def test_the_form_of_its_pictures_is_taken_over(tmp_path: Path) -> None:
    told = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    folder = write_clip(tmp_path / "clip", preprocess=told | {"resize_mode": "squash"})
    _, pixels = open_clip_tower(folder)
    assert (pixels.mean, pixels.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    from transformers import CLIPImageProcessor

    noise = np.random.default_rng(0).integers(0, 255, (45, 71, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    expected = ImageEncoder(str(folder), device="cpu").prepare(picture)
    processor = CLIPImageProcessor(**pixels.processor_settings())
    found = processor(picture, return_tensors="pt")["pixel_values"][0]
    # tensors are resized in steps of 1/255 of their own, which the deviation of 0.2 makes 0.02
    torch.testing.assert_close(found, expected, atol=0.021, rtol=0)


@pytest.mark.parametrize(
    ("vision", "reason"),
    [
        ({"layers": (1, 1, 1, 1), "head_width": 64, "width": 32}, "is a ModifiedResNet, not a ViT"),
        ({"attentional_pool": True}, "does not read its answer off the class token"),
        ({"pool_type": "avg"}, "does not read its answer off the class token"),
        ({"no_ln_pre": True}, "has no normalisation in front"),
        ({"ls_init_value": 0.1}, "has blocks of another kind"),
    ],
)
def test_a_tower_that_cannot_be_converted_is_refused(
    tmp_path: Path, vision: dict[str, Any], reason: str
) -> None:
    folder = write_clip(tmp_path / "clip", **vision)
    with pytest.raises(ConfigError, match=f"clip: the vision tower of .*clip {reason}.* plain ViT"):
        open_clip_tower(folder)


def test_pictures_that_are_padded_are_refused(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", preprocess={"resize_mode": "longest"})
    with pytest.raises(ConfigError, match="resizes pictures in the way 'longest'"):
        open_clip_tower(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        open_clip_tower(tmp_path / "nowhere")
