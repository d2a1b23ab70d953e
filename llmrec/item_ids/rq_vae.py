"""RQ-VAE: an autoencoder whose bottleneck is quantized residually (TIGER, arXiv 2305.05065).

Loss as in the paper: reconstruction, plus per level the codebook term and ``commitment`` times
the commitment term; gradients pass straight through. Three departures keep the codebooks from
collapsing: the autoencoder first trains unquantized, codebooks then start from k-means of
its latents, and codes that no item used since the last look restart from random residuals.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from llmrec.content.features.models import pick_device
from llmrec.item_ids.quantizer import FittedQuantizer, ResidualQuantizer, nearest, relative_mse
from llmrec.item_ids.rq_kmeans import kmeans
from llmrec.item_ids.rq_vae_settings import RqVaeConfig
from llmrec.loop.bars import ProgressBar
from llmrec.loop.schedule import learning_rate_schedule, set_learning_rate

# What one level quantized: residuals [n, latent_dim] and their codes [n].
Level = tuple[torch.Tensor, torch.Tensor]


class RqVae(nn.Module):
    """Encoder, one codebook a level, decoder."""

    def __init__(self, dim: int, sizes: tuple[int, ...], settings: RqVaeConfig) -> None:
        super().__init__()
        widths = (dim, *settings.hidden, settings.latent_dim)
        self.encoder = _mlp(widths)
        self.decoder = _mlp(widths[::-1])
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(size, settings.latent_dim)) for size in sizes
        )
        self.commitment = settings.commitment

    def quantize(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[Level]]:
        """The quantized latents ``[n, latent_dim]``, the codebook terms (a scalar), the levels."""
        residual, total = latent, torch.zeros_like(latent)
        loss = latent.new_zeros(())
        levels = []
        for book in self.codebooks:
            codes = torch.cdist(residual.detach(), book.detach()).argmin(dim=1)
            levels.append((residual.detach(), codes))
            chosen = book[codes]
            loss = loss + F.mse_loss(chosen, residual.detach())
            loss = loss + self.commitment * F.mse_loss(residual, chosen.detach())
            total = total + chosen
            residual = residual - chosen.detach()
        return latent + (total - latent).detach(), loss, levels

    def forward(self, batch: torch.Tensor, quantized: bool) -> tuple[torch.Tensor, list[Level]]:
        """The loss (a scalar) of one batch, and what was quantized at every level."""
        latent = self.encoder(batch)
        if not quantized:
            return F.mse_loss(self.decoder(latent), batch), []
        rounded, loss, levels = self.quantize(latent)
        return F.mse_loss(self.decoder(rounded), batch) + loss, levels


def fit_rq_vae(
    vectors: np.ndarray, sizes: tuple[int, ...], settings: RqVaeConfig, *, seed: int = 0
) -> FittedQuantizer:
    """Train an RQ-VAE and quantize the vectors with it.

    Args:
        vectors: float32 ``[n, dim]``, finite.
        sizes: codes a level, none more than ``n``.
        seed: decides weights, batches and restarts; torch's global state is left alone.
    """
    device = pick_device(settings.device)
    mean, scale = vectors.mean(axis=0), max(float(vectors.std(axis=0).mean()), 1e-8)
    data = torch.from_numpy((vectors - mean) / scale).to(device)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        model = RqVae(vectors.shape[1], sizes, settings).to(device)
        _train(model, data, settings, seed)
    quantizer = _export(model, mean, scale)
    latents = quantizer.latents(vectors)
    codes = quantizer.codes(latents)
    rebuilt = sum(book[codes[:, level]] for level, book in enumerate(quantizer.codebooks))
    with torch.no_grad():
        output = model.decoder(torch.as_tensor(rebuilt).to(device)).cpu().numpy()
    error = relative_mse(vectors - (output * scale + mean), vectors)
    return FittedQuantizer(quantizer, latents, codes, error)


def _train(model: RqVae, data: torch.Tensor, settings: RqVaeConfig, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = learning_rate_schedule("cosine", warmup=0, total=settings.steps)
    warmup = int(settings.warmup * settings.steps)
    last_restart = int(0.9 * settings.steps)  # restarted codes need time to settle
    used = [torch.zeros(len(book), dtype=torch.bool) for book in model.codebooks]
    for step in ProgressBar(range(settings.steps), desc="rq-vae", unit="step"):
        if step == warmup:
            _start_codebooks(model, data, generator, seed)
        rows = torch.randint(len(data), (min(settings.batch_size, len(data)),), generator=generator)
        loss, levels = model(data[rows.to(data.device)], quantized=step >= warmup)
        optimizer.zero_grad()
        loss.backward()
        set_learning_rate(optimizer, schedule(step))
        optimizer.step()
        for in_use, (_, codes) in zip(used, levels, strict=False):
            in_use[codes.cpu()] = True
        if levels and (step - warmup + 1) % settings.restart_every == 0 and step < last_restart:
            _restart_unused(model, optimizer, levels, used, generator)


@torch.no_grad()
def _start_codebooks(
    model: RqVae, data: torch.Tensor, generator: torch.Generator, seed: int
) -> None:
    """k-means of the latents (a sample of 256 a code), level by level."""
    sample = torch.randperm(len(data), generator=generator)
    sample = sample[: 256 * max(map(len, model.codebooks))].to(data.device)
    residual = model.encoder(data[sample]).cpu().numpy()
    for level, book in enumerate(model.codebooks):
        size = min(len(book), len(residual))
        centroids = kmeans(residual, size, seed=seed + level)
        book[:size] = torch.from_numpy(centroids).to(book.device)
        residual = residual - centroids[nearest(residual, centroids)]


@torch.no_grad()
def _restart_unused(
    model: RqVae,
    optimizer: torch.optim.Optimizer,
    levels: list[Level],
    used: list[torch.Tensor],
    generator: torch.Generator,
) -> None:
    """Move unused codewords onto random residuals and forget their optimizer state."""
    for book, (residual, _), in_use in zip(model.codebooks, levels, used, strict=True):
        dead = torch.nonzero(~in_use).flatten().to(book.device)
        rows = torch.randint(len(residual), (len(dead),), generator=generator)
        book[dead] = residual[rows.to(residual.device)]
        for name in ("exp_avg", "exp_avg_sq"):
            optimizer.state[book][name][dead] = 0
        in_use.zero_()


def _export(model: RqVae, mean: np.ndarray, scale: float) -> ResidualQuantizer:
    """The encoder and codebooks as NumPy arrays, with the input scaling folded in."""
    layers = [
        (layer.weight.detach().cpu().numpy().T, layer.bias.detach().cpu().numpy())
        for layer in model.encoder
        if isinstance(layer, nn.Linear)
    ]
    weight, bias = layers[0]
    layers[0] = (weight / scale, (bias - (mean / scale) @ weight).astype(np.float32))
    layers = [(np.ascontiguousarray(w, np.float32), b) for w, b in layers]
    books = tuple(book.detach().cpu().numpy().copy() for book in model.codebooks)
    return ResidualQuantizer(books, tuple(layers))


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
