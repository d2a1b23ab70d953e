"""Frame vectors of videos, and the training of a temporal encoder and its baseline on them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from llmrec.content.clip.settings import TemporalConfig
from llmrec.content.features.modalities import MediaEncoders
from llmrec.content.features.temporal import TemporalEncoder, TemporalShape, mean_pool
from llmrec.content.features.video_encoder import VideoModality
from llmrec.content.media.errors import MediaError
from llmrec.content.media.source import prefetched
from llmrec.files import write_whole
from llmrec.jsonl import read_json
from llmrec.loop.bars import ProgressBar
from llmrec.loop.schedule import learning_rate_schedule, set_learning_rate

Pool = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Frames:
    """The input of the temporal encoder, of each video.

    Attributes:
        vectors: float32 ``[videos, frames, dim]``, unit rows.
        times: float32 ``[videos, frames]``, seconds.
        mask: bool ``[videos, frames]``, true where there is a frame.
        skipped: the reason for each video that could not be used, by its row.
    """

    vectors: Tensor
    times: Tensor
    mask: Tensor
    skipped: dict[int, str]


def frame_vectors(encoders: MediaEncoders, videos: list[Any], store: Path) -> Frames:
    """Encode the frames of videos, or read what an earlier call stored.

    Args:
        encoders: the CLIP, and where files come from.
        videos: what the catalogue says of each.
        store: file to keep the vectors in.
    """
    reasons = store.with_suffix(".json")
    if store.is_file():
        kept = load_file(store)
        skipped = {int(row): why for row, why in read_json(reasons).items()}
        return Frames(kept["vectors"], kept["times"], kept["mask"].bool(), skipped)
    modality = VideoModality(encoders)
    count, dim = encoders.config.frames, modality.dim
    vectors = torch.zeros(len(videos), count, dim)
    times, mask = torch.zeros(len(videos), count), torch.zeros(len(videos), count).bool()
    skipped = {}
    progress = ProgressBar(videos, "videos", unit="video")
    for row, clip in enumerate(prefetched(modality.prepare, progress, encoders.config.workers)):
        if isinstance(clip, MediaError):
            skipped[row] = str(clip)
            continue
        found, when, there = (part[0].cpu() for part in modality.video.frame_vectors([clip]))
        size = len(when)
        vectors[row, :size], times[row, :size], mask[row, :size] = found, when, there
    write_whole(reasons, json.dumps(skipped))
    write_whole(store, save({"vectors": vectors, "times": times, "mask": mask.to(torch.uint8)}))
    return Frames(vectors, times, mask, skipped)


def train_and_classify(
    frames: Frames,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    config: TemporalConfig,
    n_values: int,
    seed: int,
) -> tuple[TemporalEncoder, dict[str, np.ndarray]]:
    """Train the encoder and its baseline alike.

    Args:
        labels: int ``[videos]``, the value of each.
        train, test: rows to learn from, and to classify.

    Returns:
        The temporal encoder, and the labels predicted for ``test`` by ``temporal`` and ``mean``
        pooling, int ``[len(test)]``.
    """
    dim = frames.vectors.shape[-1]
    torch.manual_seed(seed)
    encoder = TemporalEncoder(TemporalShape(dim, config.width, config.layers, config.heads))
    pools: dict[str, tuple[Pool, list[nn.Module]]] = {
        "temporal": (encoder, [encoder]),
        "mean": (lambda vectors, times, mask: mean_pool(vectors, mask), []),
    }
    predicted = {}
    for name, (pool, modules) in pools.items():
        torch.manual_seed(seed)
        head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, n_values))
        _fit(pool, head, [*modules, head], frames, labels, train, config, seed)
        for module in modules:
            module.eval()
        with torch.inference_mode():
            logits = head(pool(frames.vectors[test], frames.times[test], frames.mask[test]))
        predicted[name] = logits.argmax(-1).numpy()
    return encoder, predicted


def _fit(
    pool: Pool,
    head: nn.Module,
    modules: list[nn.Module],
    frames: Frames,
    labels: np.ndarray,
    train: np.ndarray,
    config: TemporalConfig,
    seed: int,
) -> None:
    weights = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    rng = np.random.default_rng(seed)
    steps = config.epochs * math.ceil(len(train) / config.batch_size)
    schedule, step = learning_rate_schedule("cosine", 0, steps), 0
    for _ in ProgressBar(range(config.epochs), "temporal", unit="epoch"):
        order = rng.permutation(train)
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            vectors = frames.vectors[rows]
            vectors = vectors + config.noise * torch.randn_like(vectors)
            logits = head(pool(vectors, frames.times[rows], frames.mask[rows]))
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
            set_learning_rate(optimizer, schedule(step))
            step += 1
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
