"""A CLIP of one of our sizes: made, and kept in a folder that open_clip opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmrec.content.clip.settings import SIZES
from llmrec.errors import require

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def new_clip(size: str, dropout: float = 0.0) -> tuple[nn.Module, Any]:
    """A CLIP with fresh weights, and open_clip's tokenizer for it.

    Args:
        size: one of ``SIZES``.
        dropout: of whole patches in training; vision transformers only.
    """
    open_clip = require("open_clip", "media")
    shape = SIZES[size]
    vision = dict(shape["vision_cfg"])
    if "patch_size" in vision:
        vision["patch_dropout"] = dropout
    clip = open_clip.model.CLIP(
        shape["embed_dim"], vision_cfg=vision, text_cfg=dict(shape["text_cfg"])
    )
    if "patch_size" in vision:
        _place_patches(clip.visual)
    return clip, open_clip.SimpleTokenizer(context_length=shape["text_cfg"]["context_length"])


def _place_patches(tower: nn.Module) -> None:
    """Start the positions from waves over the patches' rows and columns.

    From random numbers, where a patch lies is learned late: silhouettes take twice as many steps.
    """
    rows, columns = tower.grid_size
    width = tower.positional_embedding.shape[1]
    waves = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * waves for place in (x, y)]
    placed = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    with torch.no_grad():
        tower.positional_embedding[1:] = 0.7 * placed


def save_clip(clip: nn.Module, size: str, folder: Path) -> None:
    """Write a CLIP as ``open_clip_config.json`` and safetensors."""
    side = SIZES[size]["vision_cfg"]["image_size"]
    config = {"model_cfg": SIZES[size], "preprocess_cfg": {"size": side, "resize_mode": "shortest"}}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in clip.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)


def normalised(pixels: Tensor) -> Tensor:
    """Pixels of 0 to 1 as open_clip feeds them: ``[n, 3, side, side]``."""
    constants = require("open_clip.constants", "media")
    mean, std = constants.OPENAI_DATASET_MEAN, constants.OPENAI_DATASET_STD
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, matches: Tensor) -> Tensor:
    """Symmetric cross-entropy against every picture that a text matches (as in UniCL).

    Args:
        images, texts: unit rows ``[n, dim]``.
        scale: factor of the cosines.
        matches: bool ``[texts, images]``; the diagonal is true.
    """
    cosines = scale * texts @ images.T
    by_text = matches / matches.sum(1, keepdim=True)
    by_image = matches / matches.sum(0, keepdim=True)
    loss = -(by_text * cosines.log_softmax(1)).sum() - (by_image * cosines.log_softmax(0)).sum()
    return loss / (2 * len(texts))
