"""Videos to vectors: CLIP sees each frame, and the frames are pooled over time.

    encoder = VideoEncoder(ImageEncoder("ViT-B-32:laion2b_s34b_b79k"))
    vectors = encoder.encode([sample_frames(path, 8)])     # float32 [1, 512], unit length

Without a temporal encoder the frames' unit vectors are averaged, so that a video lies in the space
of pictures and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from llmrec.content.features.image_encoder import ImageEncoder, unit_rows
from llmrec.content.features.temporal import TemporalEncoder, mean_pool
from llmrec.content.media.video import Clip
from llmrec.errors import ConfigError


class VideoEncoder:
    """Embeds clips as unit vectors.

    Args:
        images: sees the frames.
        temporal: pools them; None for their mean, a file for a trained one.

    Raises:
        ConfigError: if the temporal encoder is made for vectors of another length.
        ArtifactError: if its file cannot be read.
    """

    def __init__(
        self, images: ImageEncoder, temporal: TemporalEncoder | str | Path | None = None
    ) -> None:
        self.images = images
        if isinstance(temporal, str | Path):
            temporal = TemporalEncoder.load(temporal)
        self.temporal = None if temporal is None else temporal.to(images.device).eval()
        if self.temporal is not None and self.temporal.config.dim != images.dim:
            raise ConfigError(
                f"temporal: made for vectors of {self.temporal.config.dim}, the image model gives "
                f"{images.dim}; train one for it, or leave it out for mean pooling"
            )

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.images.dim

    def prepare(self, clip: Clip) -> tuple[torch.Tensor, torch.Tensor]:
        """The model's input: float32 ``[frames, 3, side, side]``, times ``[frames]``."""
        pixels = [self.images.prepare(Image.fromarray(frame)) for frame in clip.frames]
        return torch.stack(pixels), torch.from_numpy(clip.times)

    def frame_vectors(
        self, clips: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the temporal encoder reads.

        Args:
            clips: as :meth:`prepare` gives them.

        Returns:
            unit frame vectors ``[clips, frames, dim]``, times ``[clips, frames]`` and a mask
            ``[clips, frames]``, padded to the longest clip.
        """
        counts = [len(times) for _, times in clips]
        vectors = self.images.embed(torch.cat([pixels for pixels, _ in clips]))
        rows = torch.nn.functional.normalize(vectors.float(), dim=-1).split(counts)
        pad = torch.nn.utils.rnn.pad_sequence
        times = pad([times for _, times in clips], batch_first=True).to(self.images.device)
        mask = torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1)
        return pad(list(rows), batch_first=True), times, mask.to(self.images.device)

    def encode_prepared(self, clips: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> np.ndarray:
        """Unit rows float32 ``[clips, dim]`` from what :meth:`prepare` gave."""
        with torch.inference_mode():
            frames, times, mask = self.frame_vectors(clips)
            if self.temporal is None:
                return unit_rows(mean_pool(frames, mask))
            return unit_rows(self.temporal(frames, times, mask))

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """Embed clips: float32 ``[len(clips), dim]``, rows of length 1."""
        return self.encode_prepared([self.prepare(clip) for clip in clips])
