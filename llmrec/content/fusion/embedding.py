"""A catalogue's modalities on a device, and the vectors that an encoder makes of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from llmrec.content.fusion.modalities import Modalities
from llmrec.errors import DataError

_EMBED_BATCH = 4096


class ModalityTensors:
    """A catalogue's modalities on a device, to draw batches from.

    Args:
        modalities: what each item has.
        device: where to keep it.
    """

    def __init__(self, modalities: Modalities, device: torch.device) -> None:
        self.device = device
        self.present = modalities.present
        self.blocks = {
            name: torch.from_numpy(block).to(device) for name, block in modalities.blocks.items()
        }

    def encode(self, encoder: nn.Module, items: np.ndarray, present: np.ndarray) -> Tensor:
        """Unit rows ``[batch, dim]`` of some items, with some of their modalities.

        Args:
            items: int64 ``[batch]``.
            present: bool ``[batch, modalities]``.
        """
        rows = torch.from_numpy(items).to(self.device)
        blocks = {name: block[rows] for name, block in self.blocks.items()}
        vectors: Tensor = encoder(blocks, torch.from_numpy(present).to(self.device))
        return vectors


def embed(
    encoder: nn.Module, modalities: Modalities, present: np.ndarray | None = None
) -> np.ndarray:
    """Unit rows float32 ``[items, dim]`` of a whole catalogue.

    Args:
        encoder: has a ``config`` that names its modalities.
        present: bool ``[items, modalities]`` instead of the catalogue's own.

    Raises:
        DataError: if the encoder is made for other modalities.
    """
    expected = encoder.config.modalities
    if list(expected.items()) != list(modalities.dims.items()):
        raise DataError(
            f"the encoder reads {expected}, the features are {modalities.dims}; embed with the "
            "models that the encoder was trained on"
        )
    tensors = ModalityTensors(modalities, next(encoder.parameters()).device)
    present = modalities.present if present is None else present
    was_training = encoder.training
    encoder.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(present), _EMBED_BATCH):
            items = np.arange(start, min(start + _EMBED_BATCH, len(present)))
            parts.append(tensors.encode(encoder, items, present[items]).float().cpu().numpy())
    encoder.train(was_training)
    return np.concatenate(parts)
