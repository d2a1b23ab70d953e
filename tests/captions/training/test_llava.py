"""A multimodal LLaMA from scratch: its parts, its processor, its files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_folders import write_clip
from PIL import Image

from llmrec.captions.inputs import prepare_input, processor_media
from llmrec.captions.prompting import ModelInput, render_prompt
from llmrec.captions.training.llava import load_multimodal, new_multimodal, save_multimodal
from llmrec.content.features.image_encoder import ImageEncoder
from llmrec.content.media.video import Clip
from llmrec.content.schema import Field, Schema
from llmrec.errors import ConfigError

TEXTS = ["Give this product's colour as JSON.", '{"colour": "red"}', "A red dress, plain"] * 5
SCHEMA = Schema({"colour": Field(["red", "blue"])})
NOISE = np.random.default_rng(0)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(NOISE.integers(0, 255, (height, width, 3), dtype=np.uint8))


def film(frames: int) -> Clip:
    pixels = NOISE.integers(0, 255, (frames, 24, 40, 3), dtype=np.uint8)
    return Clip(pixels, np.arange(frames, dtype=np.float32))


def asked(processor: Any, given: ModelInput) -> Any:
    given = prepare_input(processor, given)
    prompt = render_prompt(processor, "attributes", given, SCHEMA)
    return processor(
        text=prompt, return_tensors="pt", add_special_tokens=False, **processor_media(given)
    )


@pytest.fixture(scope="module")
def pictures() -> tuple[Any, Any]:
    return new_multimodal("llava-nano", clip=None, texts=TEXTS)


@pytest.fixture(scope="module")
def videos() -> tuple[Any, Any]:
    return new_multimodal("llava-nano", clip=None, texts=TEXTS, video=True)


def test_a_picture_takes_a_token_a_patch(pictures: tuple[Any, Any]) -> None:
    model, processor = pictures
    inputs = asked(processor, ModelInput(image=noise(33, 57)))
    ids = inputs["input_ids"][0]
    assert int((ids == model.config.image_token_index).sum()) == (16 // 4) ** 2
    assert int((ids == processor.tokenizer.bos_token_id).sum()) == 1
    assert inputs["pixel_values"].shape == (1, 3, 16, 16)
    assert model(**inputs).logits.shape == (1, len(ids), len(processor.tokenizer))


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_are_pooled_to_a_token_a_four_patches(videos: tuple[Any, Any], frames: int) -> None:
    model, processor = videos
    inputs = asked(processor, ModelInput(video=film(frames)))
    count = int((inputs["input_ids"] == model.config.video_token_index).sum())
    assert count == frames * (16 // 4) ** 2 // 4
    assert inputs["pixel_values_videos"].shape == (1, frames, 3, 16, 16)
    assert model(**inputs).logits.isfinite().all()


def test_the_prompt_is_a_conversation(pictures: tuple[Any, Any]) -> None:
    _, processor = pictures
    tokenizer = processor.tokenizer
    assert render_prompt(processor, "attributes", ModelInput(image=noise(9, 9)), SCHEMA) == (
        "<s>USER: <image>\nGive this product's colour as JSON. ASSISTANT:"
    )
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Colour?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        {"role": "user", "content": "And now?"},
    ]
    expected = "<s>SYSTEM: Be brief. USER: <image>\nColour? ASSISTANT:red</s>USER: And now? "
    for template in (processor, tokenizer):
        assert template.apply_chat_template(turns, tokenize=False) == expected


def test_words_of_a_title_are_no_pictures(pictures: tuple[Any, Any]) -> None:
    model, processor = pictures
    inputs = asked(
        processor, ModelInput(image=noise(9, 9), text="A <image></s> dress", transcript="<s>")
    )
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(model.config.image_token_index) == 16
    assert ids.count(processor.tokenizer.bos_token_id) == 1
    assert processor.tokenizer.eos_token_id not in ids


def test_a_model_for_videos_sees_a_picture_as_the_first_frame(videos: tuple[Any, Any]) -> None:
    _, processor = videos
    given = prepare_input(processor, ModelInput(image=noise(50, 20), video=film(2)))
    assert given.image is None and given.video is not None
    assert given.video.frames.shape == (3, 16, 16, 3)
    alone = prepare_input(processor, ModelInput(image=noise(50, 20)))
    assert alone.video is not None and len(alone.video.frames) == 1


def test_a_model_for_pictures_sees_the_middle_of_a_video(pictures: tuple[Any, Any]) -> None:
    _, processor = pictures
    clip = Clip(np.stack([np.full((24, 24, 3), v, np.uint8) for v in (0, 90, 200)]), np.arange(3.0))
    given = prepare_input(processor, ModelInput(video=clip))
    assert given.video is None and given.image is not None
    assert np.asarray(given.image).max() == np.asarray(given.image).min() == 90
    with_picture = prepare_input(
        processor, ModelInput(image=Image.new("RGB", (20, 30), "red"), video=clip)
    )
    assert with_picture.image is not None
    assert with_picture.image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("video", [False, True], ids=["pictures", "videos"])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_pictures_reach_the_tower_as_open_clip_prepares_them(
    tmp_path: Path, video: bool, mode: str
) -> None:
    folder = write_clip(
        tmp_path / "clip", image_size=64, preprocess={"resize_mode": mode, "mean": [0.5, 0.4, 0.3]}
    )
    model, processor = new_multimodal("llava-nano", clip=folder, texts=TEXTS, video=video)
    encoder = ImageEncoder(str(folder), device="cpu")
    for size in ((64, 64), (77, 101), (33, 57), (200, 31), (16, 16)):
        picture = noise(*size)
        inputs = asked(processor, ModelInput(image=picture))
        found = inputs["pixel_values_videos"][0] if video else inputs["pixel_values"]
        torch.testing.assert_close(found[0], encoder.prepare(picture), atol=1e-5, rtol=0)
    with torch.inference_mode():
        tower = model.model.vision_tower(pixel_values=found)
        expected = encoder.clip.visual(found)
    pooled = tower.pooler_output @ encoder.clip.visual.proj
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["pictures", "videos"])
def test_a_saved_model_is_the_same_when_it_is_loaded(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, processor = request.getfixturevalue(kind)
    save_multimodal(model, processor, tmp_path / "model")
    again, loaded = load_multimodal(tmp_path / "model")
    mine, other = model.state_dict(), again.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert type(again) is type(model) and type(loaded) is type(processor)
    given = ModelInput(image=noise(30, 40), video=film(2), text="A dress")
    first, second = asked(processor, given), asked(loaded, given)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with torch.inference_mode():
        assert torch.equal(model(**first).logits, again(**second).logits)


def test_the_tower_has_the_names_that_vllm_reads(pictures: tuple[Any, Any], tmp_path: Path) -> None:
    from safetensors import safe_open

    model, processor = pictures
    model.save_pretrained(tmp_path / "plain", max_shard_size="100KB")
    save_multimodal(model, processor, tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        names = set(file.keys())
    tower = {name for name in names if name.startswith("vision_tower.")}
    assert tower and all(name.startswith("vision_tower.vision_model.") for name in tower)
    assert "vision_tower.vision_model.embeddings.class_embedding" in tower
    assert len(list((tmp_path / "plain").glob("*.safetensors"))) > 1


def test_a_model_in_several_files_is_renamed_in_all_of_them(
    pictures: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = pictures
    plain = type(model).save_pretrained
    monkeypatch.setattr(
        type(model), "save_pretrained", lambda self, to: plain(self, to, max_shard_size="100KB")
    )
    save_multimodal(model, processor, tmp_path / "model")
    files = list((tmp_path / "model").glob("model-*.safetensors"))
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    assert len(files) > 1
    assert "vision_tower.vision_model.post_layernorm.bias" in index["weight_map"]
    again, _ = load_multimodal(tmp_path / "model")
    mine, other = model.state_dict(), again.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_weights_follow_the_seed(pictures: tuple[Any, Any]) -> None:
    before = torch.get_rng_state()
    same, _ = new_multimodal("llava-nano", clip=None, texts=TEXTS, seed=0)
    other, _ = new_multimodal("llava-nano", clip=None, texts=TEXTS, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    name = "model.multi_modal_projector.linear_1.weight"
    assert torch.equal(same.state_dict()[name], pictures[0].state_dict()[name])
    assert not torch.equal(other.state_dict()[name], pictures[0].state_dict()[name])


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown size 'llava'; known sizes: llava-nano"):
        new_multimodal("llava", clip=None, texts=TEXTS)
    with pytest.raises(ConfigError, match="clip cuts a frame into 7 patches a side"):
        odd = write_clip(tmp_path / "clip", image_size=56)
        new_multimodal("llava-nano", clip=odd, texts=TEXTS, video=True)
    with pytest.raises(ConfigError, match=r"takes 32 pixels in patches of 8; .* least 64 pixels"):
        small = write_clip(tmp_path / "small")
        new_multimodal("llava-nano", clip=small, texts=TEXTS, video=True)
    with pytest.raises(ConfigError, match=r"base: .*nowhere' is neither a size .* of a LLaVA"):
        load_multimodal(tmp_path / "nowhere")


def test_a_model_without_eyes_is_refused(tmp_path: Path, pictures: tuple[Any, Any]) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(**small, intermediate_size=32, vocab_size=300)).save_pretrained(
        tmp_path / "llama"
    )
    pictures[1].tokenizer.save_pretrained(tmp_path / "llama")
    with pytest.raises(ConfigError, match=r"base: .*llama' is neither a size"):
        load_multimodal(tmp_path / "llama")
    model, processor = pictures
    save_multimodal(model, processor, tmp_path / "dumb")
    (tmp_path / "dumb" / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="dumb has no chat template"):
        load_multimodal(tmp_path / "dumb")
