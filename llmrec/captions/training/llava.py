"""A multimodal LLaMA: CLIP tower, projector, LLaMA; transformers trains it, vLLM serves it.

    model, processor = new_multimodal("llava-micro", clip="models/clip", texts=titles)
    model, processor = load_multimodal("llava-hf/llava-1.5-7b-hf")
    save_multimodal(model, processor, "models/captioner")

For pictures it is a LLaVA; for videos, with ``video=True``, a LLaVA-NeXT-Video, whose pooled frames
go through the same projector. vLLM 0.31 gives the latter videos only, one a prompt, so
:func:`llmrec.captions.inputs.prepare_input` makes a picture the first frame of a clip there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmrec.captions.training.clip_tower import Pixels, open_clip_tower
from llmrec.captions.training.llava_export import save_multimodal
from llmrec.content.features.models import check_layers
from llmrec.errors import ConfigError, one_line
from llmrec.llm.llama import Size, llama_config
from llmrec.llm.tokenizer import train_tokenizer
from llmrec.weights.locate import locate

__all__ = ["SIZES", "load_multimodal", "new_multimodal", "save_multimodal"]

IMAGE, VIDEO = "<image>", "<video>"
POOL_STRIDE = 2  # the one that transformers' processor counts tokens with
# One turn a message; an assistant's ends with the end token, as in training.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | upper }}:"
    "{% if message['content'] is string %}"
    "{{ ' ' if message['role'] != 'assistant' }}{{ message['content'] }}"
    "{% else %}{{ ' ' if message['role'] != 'assistant' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% elif part['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ eos_token if message['role'] == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@dataclass(frozen=True)
class Tower:
    """Shape of a vision tower trained from scratch; sides in pixels."""

    layers: int
    width: int
    heads: int
    side: int
    patch: int


@dataclass(frozen=True)
class MultimodalSize:
    """Shape of a multimodal LLaMA trained from scratch."""

    llama: Size
    tower: Tower
    vocab_size: int
    max_tokens: int


# Heads of 32 or 64: what vLLM's attention on a CPU can do.
SIZES = {
    "llava-nano": MultimodalSize(
        Size(layers=2, width=64, heads=2, feed_forward=192),
        Tower(layers=2, width=32, heads=2, side=16, patch=4),
        vocab_size=768,
        max_tokens=1024,
    ),
    "llava-mini": MultimodalSize(
        Size(layers=2, width=192, heads=3, feed_forward=576),
        Tower(layers=4, width=192, heads=3, side=64, patch=8),
        vocab_size=2048,
        max_tokens=2048,
    ),
    "llava-micro": MultimodalSize(
        Size(layers=4, width=192, heads=3, feed_forward=576),
        Tower(layers=4, width=192, heads=3, side=64, patch=8),
        vocab_size=2048,
        max_tokens=2048,
    ),
}


def new_multimodal(
    size: str,
    *,
    clip: str | Path | None,
    texts: Iterable[str],
    video: bool = False,
    seed: int = 0,
) -> tuple[Any, Any]:
    """A multimodal LLaMA of a named size with fresh weights.

    Args:
        size: a key of :data:`SIZES`.
        clip: a CLIP that open_clip opens, whose vision tower is taken over with its weights; None
            for a fresh tower.
        texts: what the tokenizer learns its merges from: prompts and responses.
        video: whether it takes videos.
        seed: of the weights.

    Returns:
        a float32 model in evaluation mode, and its processor.

    Raises:
        ConfigError: for an unknown size, or a tower that cannot be used.
    """
    from transformers import AutoModelForImageTextToText

    if size not in SIZES:
        raise ConfigError(f"base: unknown size {size!r}; known sizes: {', '.join(SIZES)}")
    shape = SIZES[size]
    tower, pixels = _fresh(shape.tower) if clip is None else open_clip_tower(clip)
    vision = tower if clip is None else tower.config
    if video:
        _check_frames(vision, clip)
    tokenizer = _tokenizer(texts, shape.vocab_size, video)
    config = _config(shape, vision, tokenizer, video, taken_over=clip is not None)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    torch.set_rng_state(state)
    if clip is not None:
        model.model.vision_tower.load_state_dict(tower.state_dict())
    model.generation_config.update(**_end_tokens(tokenizer))
    return model.eval(), _processor(tokenizer, config, pixels, video)


def load_multimodal(base: str | Path, *, dtype: Any = torch.float32) -> tuple[Any, Any]:
    """A multimodal LLaMA from a folder or a hub id, and its processor.

    Args:
        base: what :func:`save_multimodal` wrote, or any LLaVA or LLaVA-NeXT-Video.
        dtype: of the weights; ``"auto"`` for that of the files.

    Raises:
        ConfigError: if it cannot be loaded, is another kind of model or has no chat template.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    name = locate(str(base), "multimodal model", "base")
    check_layers(name)
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
        model = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype, trust_remote_code=False
        )
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        reason = one_line(error)[:300]
        raise ConfigError(
            f"base: {name!r} is neither a size ({', '.join(SIZES)}) nor a folder or hub id of a "
            f"LLaVA ({reason})"
        ) from None
    if model.config.model_type not in ("llava", "llava_next_video"):
        raise ConfigError(
            f"base: {name} is a {type(model).__name__}; llmrec trains and serves LLaVA and "
            "LLaVA-NeXT-Video"
        )
    if not getattr(processor, "chat_template", None):
        raise ConfigError(f"base: {name} has no chat template, so it cannot be prompted")
    return model.eval(), processor


def _fresh(tower: Tower) -> tuple[Any, Pixels]:
    from transformers import CLIPVisionConfig

    config = CLIPVisionConfig(
        hidden_size=tower.width,
        intermediate_size=4 * tower.width,
        num_hidden_layers=tower.layers,
        num_attention_heads=tower.heads,
        image_size=tower.side,
        patch_size=tower.patch,
        hidden_act="gelu",
        projection_dim=tower.width,
    )
    return config, Pixels(tower.side)


def _check_frames(vision: Any, clip: str | Path | None) -> None:
    """The sizes of frames that transformers and vLLM both pool.

    Raises:
        ConfigError: for another one.
    """
    side, patch = vision.image_size, vision.patch_size
    if (side // patch) % POOL_STRIDE or side % patch:
        raise ConfigError(
            f"clip: {clip} cuts a frame into {side / patch:g} patches a side; for videos that must "
            "be an even number"
        )
    if side < patch**2:  # vLLM divides by the quotient
        raise ConfigError(
            f"clip: {clip} takes {side} pixels in patches of {patch}; for videos vLLM needs at "
            f"least {patch**2} pixels"
        )


def _tokenizer(texts: Iterable[str], vocab_size: int, video: bool) -> Any:
    from tokenizers import AddedToken

    tokenizer = train_tokenizer(texts, vocab_size)
    marks = [IMAGE, VIDEO] if video else [IMAGE]
    tokenizer.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.padding_side = "left"
    return tokenizer


def _end_tokens(tokenizer: Any) -> dict[str, int]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(tokenizer, name) for name in names}


def _config(
    shape: MultimodalSize, vision: Any, tokenizer: Any, video: bool, *, taken_over: bool
) -> Any:
    from transformers import LlavaConfig, LlavaNextVideoConfig

    text = llama_config(shape.llama, len(tokenizer), shape.max_tokens, _end_tokens(tokenizer))
    patches = (vision.image_size // vision.patch_size) ** 2
    reads_class = taken_over and not video
    common: dict[str, Any] = {
        "vision_config": vision,
        "text_config": text,
        "image_token_index": tokenizer.convert_tokens_to_ids(IMAGE),
        "image_seq_length": patches + reads_class,
        # The last block of a CLIP gathers in its class token what contrast taught it: of a picture
        # that token goes in too. Frames are pooled patch by patch, from the block before it.
        "vision_feature_layer": -2 if taken_over and video and vision.num_hidden_layers > 1 else -1,
        "vision_feature_select_strategy": "full" if reads_class else "default",
        "tie_word_embeddings": True,
        **_end_tokens(tokenizer),
    }
    if not video:
        return LlavaConfig(**common)
    return LlavaNextVideoConfig(
        **common,
        video_token_index=tokenizer.convert_tokens_to_ids(VIDEO),
        image_grid_pinpoints=[[vision.image_size, vision.image_size]],
        spatial_pool_stride=POOL_STRIDE,
    )


def _processor(tokenizer: Any, config: Any, pixels: Pixels, video: bool) -> Any:
    from transformers import (
        CLIPImageProcessor,
        LlavaNextImageProcessor,
        LlavaNextVideoProcessor,
        LlavaNextVideoVideoProcessor,
        LlavaProcessor,
    )

    settings = pixels.processor_settings()
    common = {
        "tokenizer": tokenizer,
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "chat_template": tokenizer.chat_template,
        "num_additional_image_tokens": 1,  # the class token, which "default" takes off again
    }
    if not video:
        return LlavaProcessor(image_processor=CLIPImageProcessor(**settings), **common)
    grid = [[pixels.side, pixels.side]]
    return LlavaNextVideoProcessor(
        video_processor=LlavaNextVideoVideoProcessor(**settings),
        image_processor=LlavaNextImageProcessor(**settings, image_grid_pinpoints=grid),
        **common,
    )
