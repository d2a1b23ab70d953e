"""Frame vectors of videos, and the training of a temporal encoder and its baseline on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from llmrec.content.features.media_work import Encoders, prefetched
from llmrec.content.features.temporal import TemporalEncoder, TemporalShape, mean_pool
from llmrec.content.media.errors import MediaError

if TYPE_CHECKING:
    from llmrec.content.clip.temporal_settings import TemporalConfig

Pool = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Frames:
    """What the temporal encoder reads of each video.

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


def frame_vectors(encoders: Encoders, videos: list[Any], store: Path) -> Frames:
    """Look at the frames of videos, or read what an earlier call stored.

    Args:
        encoders: the CLIP, and where files come from.
        videos: what the catalogue says of each.
        store: file to keep the vectors in.
    """
    count, dim = encoders.config.frames, encoders.image.dim
    reasons = store.with_suffix(".reasons")
    if store.is_file():
        kept = load_file(store)
        lines = [line for line in reasons.read_text(encoding="utf-8").split("\n") if line]
        skipped = {int(row): why for row, why in (line.split("\t", 1) for line in lines)}
        return Frames(kept["vectors"], kept["times"], kept["mask"].bool(), skipped)
    vectors = torch.zeros(len(videos), count, dim)
    times, mask = torch.zeros(len(videos), count), torch.zeros(len(videos), count).bool()

    skipped = {}
    progress = tqdm(videos, "videos", unit="video", disable=None)
    made_ahead = prefetched(encoders.prepare_clip, progress, encoders.config.workers)
    for row, made in enumerate(made_ahead):
        if isinstance(made, MediaError):
            skipped[row] = str(made)
            continue
        found, when, there = (tensor[0].cpu() for tensor in encoders.video.frame_vectors([made]))
        size = len(when)
        vectors[row, :size], times[row, :size], mask[row, :size] = found, when, there
    text = "".join(f"{row}\t{why}\n" for row, why in skipped.items())
    reasons.write_text(text, encoding="utf-8")
    save_file({"vectors": vectors, "times": times, "mask": mask.to(torch.uint8)}, store)
    return Frames(vectors, times, mask, skipped)


def train_and_tell(
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
        train, test: rows to learn from, and to tell.

    Returns:
        The temporal encoder, and what each pooling tells of ``test``: by ``temporal`` and
        ``mean``, int ``[len(test)]``.
    """
    dim = frames.vectors.shape[-1]
    torch.manual_seed(seed)
    encoder = TemporalEncoder(TemporalShape(dim, config.width, config.layers, config.heads))
    pools: dict[str, tuple[Pool, list[nn.Module]]] = {
        "temporal": (encoder, [encoder]),
        "mean": (lambda vectors, times, mask: mean_pool(vectors, mask), []),
    }
    found = {}
    for name, (pool, modules) in pools.items():
        torch.manual_seed(seed)
        head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, n_values))
        _fit(pool, head, [*modules, head], frames, labels, train, config, seed)
        for module in modules:
            module.eval()
        with torch.inference_mode():
            logits = head(pool(frames.vectors[test], frames.times[test], frames.mask[test]))
        found[name] = logits.argmax(-1).numpy()
    return encoder, found


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
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in tqdm(range(config.epochs), "temporal", unit="epoch", disable=None):
        order = rng.permutation(train)
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            vectors = frames.vectors[rows]
            vectors = vectors + config.noise * torch.randn_like(vectors)
            logits = head(pool(vectors, frames.times[rows], frames.mask[rows]))
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
