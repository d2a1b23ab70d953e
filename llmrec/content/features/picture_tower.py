"""A picture model of timm where a CLIP is expected: its pooled features, and no words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from llmrec.errors import require

if TYPE_CHECKING:
    import torch


class PictureTower:
    """What :class:`ImageEncoder` uses of a CLIP, of a timm model without its classifier.

    Args:
        folder: as timm saves it: ``config.json`` and weights.
        device: where it runs.
    """

    def __init__(self, folder: str, device: torch.device) -> None:
        timm = require("timm", "media")
        self.model: Any = timm.create_model(
            f"local-dir:{folder}", pretrained=True, num_classes=0
        ).to(device)
        self.model.eval().requires_grad_(False)
        data = timm.data.resolve_model_data_config(self.model)
        self.prepare = timm.data.create_transform(**data, is_training=False)
        self.visual = SimpleNamespace(image_size=data["input_size"][-1])
        self.dim = int(self.model.num_features)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pooled features ``[n, dim]``."""
        features: torch.Tensor = self.model(pixels)
        return features
