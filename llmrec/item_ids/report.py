"""How well a set of semantic IDs uses its codes, as numbers, as text and as a picture."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.item_ids.quantizer import ResidualQuantizer, relative_mse
from llmrec.metrics.plots import drawing


def code_use(codes: np.ndarray, size: int) -> dict[str, float]:
    """Use of one level's codes.

    Args:
        codes: int ``[n]``.
        size: codes the level has.

    Returns:
        ``used`` codes, ``usage`` = used / size, and ``perplexity`` = exp of the entropy: how
        many evenly used codes carry as much information.

    >>> code_use(np.array([0, 0, 3, 3]), 4)
    {'size': 4, 'used': 2, 'usage': 0.5, 'perplexity': 2.0}
    """
    counts = np.bincount(codes, minlength=size)
    share = counts[counts > 0] / max(len(codes), 1)
    used = int((counts > 0).sum())
    return {
        "size": size,
        "used": used,
        "usage": round(used / size, 4),
        "perplexity": round(float(np.exp(-(share * np.log(share)).sum())), 2),
    }


def level_report(
    quantizer: ResidualQuantizer, latents: np.ndarray, codes: np.ndarray
) -> list[dict[str, float]]:
    """:func:`code_use` of every level, and ``relative_mse``: what the levels so far leave.

    The error is measured in the quantizer's own latent space, so it does not compare between
    RQ-KMeans and RQ-VAE; the report's overall ``relative_mse`` does.
    """
    levels: list[dict[str, float]] = []
    for level, residual in enumerate(quantizer.residuals(latents, codes)):
        entry = code_use(codes[:, level], quantizer.level_sizes[level])
        entry["relative_mse"] = round(relative_mse(residual, latents), 4)
        levels.append(entry)
    return levels


def format_report(report: dict[str, Any]) -> str:
    """The report as lines for a terminal."""
    if "known" in report:
        return (
            f"{report['items']:,} items, {report['kind']} ids: {report['known']:,} as they were, "
            f"{report['new']:,} new"
        )
    lines = [f"{report['items']:,} items, {report['kind']} ids, {report['tokens']:,} item tokens"]
    if "spare" in report:
        return f"{lines[0]}, {report['spare']:,} of them spare"
    if report["codebook_size"] < report["codebook_size_wanted"]:
        lines.append(
            f"codebook_size lowered from {report['codebook_size_wanted']} to "
            f"{report['codebook_size']}: there are no more items"
        )
    lines.append("level   size   used  usage  perplexity  relative mse")
    for level, entry in enumerate(report["levels"]):
        lines.append(
            f"{string.ascii_lowercase[level]:>5}{entry['size']:>7}{entry['used']:>7}"
            f"{entry['usage']:>7.0%}{entry['perplexity']:>12.1f}{entry['relative_mse']:>14.4f}"
        )
    lines.append(f"relative mse of the rebuilt content vectors: {report['relative_mse']:.4f}")
    lines.append(
        f"items sharing an ID: {report['collisions_before']:,} before, "
        f"{report['collisions_after']:,} after {report['collisions']} "
        f"({report['moved']:,} moved, {report['left_prefix']:,} of them to another prefix)"
    )
    lines.append(f"items without content: {report['without_content']:,}")
    return "\n".join(lines)


def plot_code_use(codes: np.ndarray, sizes: tuple[int, ...], path: Path) -> None:
    """Draw how many items each code has, sorted, one panel a level.

    Args:
        codes: int ``[n, levels]``.
        sizes: codes a level.
        path: the PNG to write.
    """
    figsize = 3.2 * len(sizes), 2.8
    with drawing(path, 1, len(sizes), figsize=figsize, squeeze=False) as panels:
        for level, (panel, size) in enumerate(zip(panels[0], sizes, strict=True)):
            counts = np.sort(np.bincount(codes[:, level], minlength=size))[::-1]
            panel.fill_between(np.arange(size), counts, step="mid")
            panel.axhline(len(codes) / size, color="grey", linewidth=0.8, linestyle="--")
            letter = string.ascii_lowercase[level]
            panel.set_title(f"level {letter}: {(counts > 0).sum()} of {size}")
            panel.set_xlabel("codes, most used first")
        panels[0][0].set_ylabel("items")
