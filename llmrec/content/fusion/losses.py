"""Contrastive losses: items liked by one user are close, and so are an item's modalities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def behaviour_loss(
    left: Tensor,
    right: Tensor,
    left_items: Tensor,
    right_items: Tensor,
    log_q: Tensor,
    temperature: float,
) -> Tensor:
    """InfoNCE of pairs, both ways, with the other pairs of the batch as negatives.

    A popular item is a negative more often than another; taking the log of that chance from its
    logit makes the loss an estimate of the softmax over the whole catalogue (Yi et al. 2019,
    "Sampling-bias-corrected neural modeling"). A negative that is the positive, or the query
    itself, is left out.

    Args:
        left, right: unit rows float ``[pairs, dim]``.
        left_items, right_items: int64 ``[pairs]``.
        log_q: float ``[items]``, log of the chance to be drawn.
    """
    one_way = _one_way(left, right, left_items, right_items, log_q, temperature)
    other_way = _one_way(right, left, right_items, left_items, log_q, temperature)
    return (one_way + other_way) / 2


def _one_way(
    queries: Tensor,
    keys: Tensor,
    query_items: Tensor,
    key_items: Tensor,
    log_q: Tensor,
    temperature: float,
) -> Tensor:
    logits = queries @ keys.T / temperature - log_q[key_items]
    same_key = key_items[:, None] == key_items[None, :]
    itself = query_items[:, None] == key_items[None, :]
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    logits = logits.masked_fill((same_key | itself) & ~own, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(queries), device=queries.device))


def contrast_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """InfoNCE of two views of each item, both ways, with the batch's other items as negatives.

    Args:
        first, second: unit rows float ``[items, dim]``, row i of both of the same item; no item
            twice.
    """
    logits = first @ second.T / temperature
    own = torch.arange(len(first), device=first.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
