"""Shapes of CLIPs that are trained from nothing, as open_clip configures them."""

from __future__ import annotations

from typing import Any


def _size(vision: dict[str, Any], embed_dim: int, text_width: int, text_layers: int) -> Any:
    return {
        "embed_dim": embed_dim,
        "vision_cfg": vision,
        "text_cfg": {
            "context_length": 24,
            "vocab_size": 49408,  # of open_clip's own tokenizer
            "width": text_width,
            "heads": max(text_width // 32, 1),
            "layers": text_layers,
        },
    }


def _vit(pixels: int, patch: int, width: int, layers: int) -> dict[str, Any]:
    shape = {"image_size": pixels, "patch_size": patch, "width": width, "layers": layers}
    return {**shape, "head_width": 32}


# The ViTs are towers that a LLaVA can take over; the ResNet learns more from few photographs.
SIZES: dict[str, dict[str, Any]] = {
    "vit-nano": _size(_vit(32, 8, 32, 2), 32, 32, 1),
    "vit-micro": _size(_vit(64, 8, 128, 4), 128, 64, 2),
    "vit-mini": _size(_vit(64, 8, 192, 6), 128, 64, 2),
    "resnet-micro": _size(
        {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "head_width": 32}, 128, 64, 2
    ),
}
