"""Videos to vectors: CLIP encodes each frame, and the frames are pooled over time.

    encoder = VideoEncoder(ImageEncoder("ViT-B-32:laion2b_s34b_b79k"))
    vectors = encoder.encode([sample_frames(path, 8)])     # float32 [1, 512], unit length

Without a temporal encoder the frames' unit vectors are averaged, so that a video lies in the space
of pictures and words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from llmrec.content.features.image_encoder import ImageEncoder, ImageModality
from llmrec.content.features.modalities import BatchEncoder, EmbedMediaConfig
from llmrec.content.features.models import normalized, weights_hash
from llmrec.content.features.temporal import TemporalEncoder, mean_pool
from llmrec.content.media.video import Clip, sample_frames
from llmrec.errors import ConfigError
from llmrec.files import file_hash


class VideoEncoder:
    """Embeds clips as unit vectors.

    Args:
        images: encodes the frames.
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
                return normalized(mean_pool(frames, mask))
            return normalized(self.temporal(frames, times, mask))

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """Embed clips: float32 ``[len(clips), dim]``, rows of length 1."""
        return self.encode_prepared([self.prepare(clip) for clip in clips])


class VideoModality(BatchEncoder):
    """Videos by CLIP and, where the settings name one, a temporal encoder."""

    @classmethod
    def input_hashes(cls, config: EmbedMediaConfig) -> dict[str, str]:
        """The weights of the image model and of the temporal encoder."""
        hashes = {"image_model": weights_hash(config.image_model)}
        if config.temporal is not None:
            if not Path(config.temporal).is_file():
                raise ConfigError(f"temporal: {config.temporal}: no such file")
            hashes["temporal"] = file_hash(config.temporal)
        return hashes

    @classmethod
    def is_in_clip_space(cls, config: Mapping[str, Any]) -> bool:
        """The mean of a CLIP's frames is; a trained temporal encoder leaves that space."""
        return config.get("temporal") is None and ImageModality.is_in_clip_space(config)

    @cached_property
    def video(self) -> VideoEncoder:
        """The encoder of prepared clips."""
        pictures = self.encoders["image"]
        assert isinstance(pictures, ImageModality)
        return VideoEncoder(pictures.clip, self.config.temporal)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.video.dim

    @property
    def batch_size(self) -> int:
        """A clip is a batch of frames by itself."""
        return max(1, self.config.batch_size // self.config.frames)

    def prepare(self, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Sampled frames as the model takes them, and their times."""
        c = self.config
        clip = sample_frames(
            self.source.read(value),
            c.frames,
            choice=c.frame_choice,
            side=self.video.images.side,
            max_pixels=c.max_pixels,
        )
        return self.video.prepare(clip)

    def encode(self, prepared: list[Any]) -> np.ndarray:
        """Unit rows of clips."""
        return self.video.encode_prepared(prepared)
