"""The vision tower of a CLIP that open_clip keeps, as transformers and vLLM run it.

    tower, pixels = open_clip_tower("models/clip")     # a folder that open_clip opens
    tower(pixel_values=...)                             # transformers' CLIPVisionModel

Both compute the same: the towers differ in the names of their weights, in one matrix for queries,
keys and values where transformers has three, and in the name of their activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmrec.errors import ConfigError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_RESAMPLING = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers


@dataclass(frozen=True)
class Pixels:
    """The form of a tower's pictures.

    Attributes:
        side: pixels of its input square.
        mean, std: a channel, of values between 0 and 1.
        resampling: Pillow's number of the interpolation.
        squash: whether a picture is squeezed into the square; otherwise its shorter side is
            scaled to it and the middle cut out.
    """

    side: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    resampling: int = _RESAMPLING["bicubic"]
    squash: bool = False

    def processor_settings(self) -> dict[str, Any]:
        """The same for transformers' image and video processors."""
        square = {"height": self.side, "width": self.side}
        return {
            "size": square if self.squash else {"shortest_edge": self.side},
            "crop_size": square,
            "do_center_crop": not self.squash,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "resample": self.resampling,
        }


def open_clip_tower(model: str | Path) -> tuple[Any, Pixels]:
    """The vision tower of a CLIP.

    Args:
        model: what :class:`~llmrec.content.features.image_encoder.ImageEncoder` opens, such as a
        folder
            with ``open_clip_config.json`` and ``open_clip_model.safetensors``.

    Returns:
        a float32 ``CLIPVisionModel`` of transformers in evaluation mode, and its pictures' form.

    Raises:
        ConfigError: if it cannot be loaded, or its tower is no plain ViT.
        MissingExtraError: if open_clip is not installed.
    """
    from transformers import CLIPVisionModel

    from llmrec.content.features.image_encoder import ImageEncoder

    try:
        clip = ImageEncoder(str(model), device="cpu", precision="float32").clip
    except ConfigError as error:  # which speaks of its own setting
        raise ConfigError(str(error).replace("image_model:", "clip:", 1)) from None
    visual = clip.visual
    reason = _not_convertible(visual)
    if reason is not None:
        raise ConfigError(
            f"clip: the vision tower of {model} {reason}; give a CLIP with a plain ViT, such as "
            "ViT-B-32 or ViT-L-14, or one of llmrec train clip --size vit-micro"
        )
    tower = CLIPVisionModel(_vision_config(visual))
    tower.load_state_dict(_renamed(visual))
    return tower.float().eval(), _pixels(clip, model)


def _not_convertible(visual: nn.Module) -> str | None:
    """Why transformers' CLIP could not compute the same; None if it can."""
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    if not isinstance(visual, VisionTransformer):
        return f"is a {type(visual).__name__}, not a ViT"
    sizes = {*visual.image_size}, {*visual.patch_size}
    if any(len(size) > 1 for size in sizes):
        return "takes no squares"
    if visual.attn_pool is not None or visual.pool_type != "tok":
        return "does not read its answer off the class token"
    if isinstance(visual.ln_pre, nn.Identity):
        return "has no normalisation in front of its blocks"
    for block in visual.transformer.resblocks:
        if type(block) is not ResidualAttentionBlock or not isinstance(block.ls_1, nn.Identity):
            return "has blocks of another kind"
        if block.attn.in_proj_weight is None:
            return "has blocks of another kind"
        if _activation(block) is None:
            return f"has the activation {block.mlp.gelu!r}"
    return None


def _activation(block: Any) -> str | None:
    """transformers' name of a block's activation."""
    from open_clip.transformer import QuickGELU

    gelu = block.mlp.gelu
    if isinstance(gelu, QuickGELU):
        return "quick_gelu"
    if isinstance(gelu, nn.GELU):
        return "gelu" if gelu.approximate == "none" else "gelu_pytorch_tanh"
    return None


def _vision_config(visual: Any) -> Any:
    from transformers import CLIPVisionConfig

    blocks = visual.transformer.resblocks
    return CLIPVisionConfig(
        hidden_size=visual.conv1.out_channels,
        intermediate_size=blocks[0].mlp.c_fc.out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        image_size=visual.image_size[0],
        patch_size=visual.patch_size[0],
        hidden_act=_activation(blocks[0]),
        layer_norm_eps=visual.ln_post.eps,
        projection_dim=visual.proj.shape[1] if visual.proj is not None else visual.output_dim,
    )


def _renamed(visual: Any) -> dict[str, torch.Tensor]:
    """The weights under transformers' names."""
    state = {
        "embeddings.class_embedding": visual.class_embedding,
        "embeddings.position_embedding.weight": visual.positional_embedding,
        "embeddings.patch_embedding.weight": visual.conv1.weight,
    }
    _put(state, "pre_layrnorm", visual.ln_pre)
    _put(state, "post_layernorm", visual.ln_post)
    for number, block in enumerate(visual.transformer.resblocks):
        name = f"encoder.layers.{number}"
        for part, weight, bias in zip(
            "qkv", block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3), strict=True
        ):
            state[f"{name}.self_attn.{part}_proj.weight"] = weight
            state[f"{name}.self_attn.{part}_proj.bias"] = bias
        _put(state, f"{name}.self_attn.out_proj", block.attn.out_proj)
        _put(state, f"{name}.layer_norm1", block.ln_1)
        _put(state, f"{name}.layer_norm2", block.ln_2)
        _put(state, f"{name}.mlp.fc1", block.mlp.c_fc)
        _put(state, f"{name}.mlp.fc2", block.mlp.c_proj)
    return {name: value.detach() for name, value in state.items()}


def _put(state: dict[str, torch.Tensor], name: str, layer: Any) -> None:
    state[f"{name}.weight"], state[f"{name}.bias"] = layer.weight, layer.bias


def _pixels(clip: Any, model: str | Path) -> Pixels:
    """How open_clip prepares this model's pictures.

    Raises:
        ConfigError: for a way that transformers' processors do not know.
    """
    from open_clip import get_model_preprocess_cfg

    settings = get_model_preprocess_cfg(clip)
    mode, interpolation = settings["resize_mode"], settings["interpolation"]
    if mode not in ("shortest", "squash") or interpolation not in _RESAMPLING:
        raise ConfigError(
            f"clip: {model} resizes pictures in the way {mode!r} with {interpolation!r}; only "
            "shortest and squash, bicubic and bilinear, can be taken over"
        )
    return Pixels(
        side=clip.visual.image_size[0],
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        resampling=_RESAMPLING[interpolation],
        squash=mode == "squash",
    )
