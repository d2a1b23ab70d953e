"""Targets and loss of the click network: a click, a purchase after it, a rating."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llmrec.ranking.ctr.impressions import Impressions
from llmrec.ranking.ctr.settings import STARS, FitConfig


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels of candidates; all float32 ``[requests, candidates]``.

    Attributes:
        click: 0 or 1; NaN where padded.
        purchase, rating: NaN where unknown.
        log_sampling_rate: as in :class:`~llmrec.ranking.ctr.impressions.Impressions`.
    """

    click: np.ndarray
    purchase: np.ndarray
    rating: np.ndarray
    log_sampling_rate: np.ndarray

    @classmethod
    def of(cls, impressions: Impressions) -> Targets:
        return cls(*(getattr(impressions, name) for name in cls.__dataclass_fields__))

    def select(self, rows: np.ndarray) -> Targets:
        return Targets(*(value[rows] for value in vars(self).values()))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that there are labels of."""
        known = {
            "purchase": np.nansum(self.purchase) > 0,
            "rating": not np.isnan(self.rating).all(),
        }
        return ("click", *(name for name, there in known.items() if there))


def click_loss(tasks: tuple[str, ...], logits: Tensor, targets: Targets, fit: FitConfig) -> Tensor:
    """The sum of the losses of all tasks, where labels are known.

    Args:
        tasks: of the last axis of the logits ``[requests, candidates, tasks]``.
    """
    click = torch.from_numpy(targets.click)
    known = ~torch.isnan(click)
    of_click = logits[..., 0]
    corrected = (of_click - torch.from_numpy(targets.log_sampling_rate))[known]
    loss = F.binary_cross_entropy_with_logits(corrected, click[known])
    if "purchase" in tasks:
        # ESMM (Ma et al. 2018): over all impressions, bought = clicked and then bought
        bought = torch.nan_to_num(torch.from_numpy(targets.purchase))[known]
        # the purchase loss leaves the probability of a click alone
        log_p = F.logsigmoid(corrected.detach()) + F.logsigmoid(
            logits[..., tasks.index("purchase")][known]
        )
        log_not = torch.log1p(-torch.exp(log_p.clamp(max=-1e-6)))
        loss = loss - fit.purchase_weight * (bought * log_p + (1 - bought) * log_not).mean()
    if "rating" in tasks:
        rating = torch.from_numpy(targets.rating)
        rated = ~torch.isnan(rating)
        if rated.any():
            error = logits[..., tasks.index("rating")][rated] + STARS - rating[rated]
            # over all impressions: few are rated, a mean over these alone would drown the clicks
            loss = loss + fit.rating_weight * (error**2).sum() / known.sum()
    return loss
