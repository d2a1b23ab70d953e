"""First values of a language model's new rows: item tokens by content, the others near the mean.

A pretrained model expects its input rows, and the rows its output is compared with, to lie
where its own rows lie. So a new row starts there:

    row = mean + SPREAD * root * (content part + NOISE * random part)

``mean`` is that of the base's own rows, ``root`` a square root of their covariance (as Hewitt 2021
draws new rows); input and output table each have theirs. A row with the base's spread in each
dimension, but not its covariance, is too loud: a pretrained model's rows vary least in the
directions that its states share, and a state finds likely what varies there as it does elsewhere.

The content part of an item token is its content vector under a random projection with
orthonormal rows, which keeps the angles between items and favours no dimension of the model;
content wider than the model is reduced to its principal components first. Each level of an item
ID is then brought to mean 0 and standard deviation 1 in every dimension, so that after the formula
above item rows lie as the base's do, whatever the unit of content, and so that the deeper levels of
semantic IDs, whose content differs little, differ clearly too.

Tokens without content (spare ones, codes that no item has, time tokens) have no content part: they
start at the mean, where the model's view of them is an average word's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmrec.training.next_item.item_content import principal_components

SPREAD = 0.5  # of the base's rows: many new rows must not take what is likely from its words
NOISE = 0.05  # of the spread; makes tokens of the same content differ
_JITTER = 1e-6  # of the mean variance; the rows of a small base may not span all dimensions


def content_part(
    content: torch.Tensor, level_sizes: Sequence[int], width: int, generator: torch.Generator
) -> torch.Tensor:
    """Content of item tokens as directions of the model, mean 0 and deviation 1 a dimension.

    Args:
        content: float ``[item tokens, c]``, all zero in the rows of tokens without content.
        level_sizes: item tokens a level.
        width: of the language model.
        generator: of the projection.

    Returns:
        float32 ``[item tokens, width]``; zero where there is no content, or where a level has too
        little of it to differ.
    """
    projection = orthogonal(min(content.shape[1], width), width, generator)
    parts = []
    for level in content.float().split(list(level_sizes)):
        known = level.ne(0).any(1)
        part = torch.zeros(len(level), width)
        if known.sum() > 1:
            centred = level[known] - level[known].mean(0)
            if centred.shape[1] > width:
                centred = torch.from_numpy(principal_components(centred.numpy(), width))
            projected = centred @ projection
            spread = projected.std(0, correction=0)
            part[known] = projected / spread.clamp(min=1e-6 * max(float(spread.max()), 1e-6))
        parts.append(part)
    return torch.cat(parts)


def orthogonal(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """A random float32 ``[rows, columns]`` matrix with orthonormal rows; ``rows <= columns``."""
    basis, _ = torch.linalg.qr(torch.randn(columns, rows, generator=generator))
    return basis.T


@torch.no_grad()
def initialise_rows(
    table: torch.Tensor,
    n_known: int,
    item_offset: int,
    items: torch.Tensor,
    generator: torch.Generator,
) -> None:
    """Fill the new rows of an embedding table or an output layer, in place.

    Args:
        table: ``[vocabulary, width]``; its first ``n_known`` rows are the base's and stay.
        n_known: rows the base had.
        item_offset: first row of the item tokens; the rows before it, from ``n_known`` on, are
            time tokens.
        items: float32 ``[item tokens, width]`` of :func:`content_part`.
    """
    known = table[:n_known].float()
    mean, covariance = known.mean(0), torch.cov(known.T, correction=0)
    covariance.diagonal().add_(_JITTER * covariance.diagonal().mean() + 1e-12)
    root = torch.linalg.cholesky(covariance)
    new = torch.randn(len(table) - n_known, table.shape[1], generator=generator) * NOISE
    first = item_offset - n_known
    new[first : first + len(items)] += items
    table[n_known:] = (mean + SPREAD * new @ root.T).to(table.dtype)
