"""What is learned of what was shown: a click, a purchase after it, a rating."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llmrec.ranking.ctr.lists import Lists
from llmrec.ranking.ctr.settings import STARS, Fit


@dataclass(frozen=True, eq=False)
class Targets:
    """What is learned of the items of :class:`Inputs`; all float32 ``[moments, places]``.

    Attributes:
        click: 0 or 1; NaN where nothing is known.
        purchase, rating: NaN where nothing is known.
        log_copies: as in :class:`~llmrec.ranking.ctr.lists.Lists`.
    """

    click: np.ndarray
    purchase: np.ndarray
    rating: np.ndarray
    log_copies: np.ndarray

    @classmethod
    def of(cls, lists: Lists) -> Targets:
        return cls(lists.click, lists.purchase, lists.rating, lists.log_copies)

    def select(self, rows: np.ndarray) -> Targets:
        return Targets(*(value[rows] for value in vars(self).values()))

    @property
    def tasks(self) -> tuple[str, ...]:
        """What there is something to learn of."""
        known = {
            "purchase": np.nansum(self.purchase) > 0,
            "rating": not np.isnan(self.rating).all(),
        }
        return ("click", *(name for name, there in known.items() if there))


def loss_of(tasks: tuple[str, ...], logits: Tensor, targets: Targets, fit: Fit) -> Tensor:
    """The sum of the losses of what is known.

    Args:
        tasks: what the last axis of the logits ``[moments, places, tasks]`` is of.
    """
    click = torch.from_numpy(targets.click)
    known = ~torch.isnan(click)
    of_click = logits[..., 0]
    corrected = (of_click - torch.from_numpy(targets.log_copies))[known]
    loss = F.binary_cross_entropy_with_logits(corrected, click[known])
    if "purchase" in tasks:
        # over all that was shown (Ma et al. 2018): bought = clicked and then bought
        bought = torch.nan_to_num(torch.from_numpy(targets.purchase))[known]
        # what is learned of purchases leaves the probability of a click alone
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
            # over all that was shown: few are rated, and a mean over one would drown the clicks
            loss = loss + fit.rating_weight * (error**2).sum() / known.sum()
    return loss
