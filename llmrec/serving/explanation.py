"""What moved a recommendation: the event of the history without which it would be less likely.

Each of the newest events is left out in turn and the recommended items are scored again, by whoever
ranked them: the event whose absence costs an item most is what moved it. With several shops it is
asked which event of another one did, and that item is named with its shop.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from llmrec.data.domains import keep_events
from llmrec.serving.item_table import ItemTable
from llmrec.types import Histories

NEWEST = 10  # events that are left out in turn


class ItemScorer(Protocol):
    """A language model, alone or with the item graph."""

    def score_items(self, histories: Histories, items: np.ndarray) -> np.ndarray:
        """float32 ``[users, candidates]``."""
        ...


def losses_without(ranker: ItemScorer, history: Histories, items: np.ndarray) -> np.ndarray:
    """How much lower every item is scored without each of the newest events.

    Args:
        history: of one user.
        items: int64 ``[n]``.

    Returns:
        float32 ``[events, n]``, of the newest :data:`NEWEST` events, oldest first; above 0 where
        the event speaks for the item.
    """
    total = len(history.items)
    places = np.arange(max(0, total - NEWEST), total)
    variants = [keep_events(history, np.arange(total) != place) for place in places]
    asked = Histories.concatenate([history, *variants])
    scores = ranker.score_items(asked, np.tile(items, (len(asked), 1)))
    return scores[:1] - scores[1:]


def cross_domain_reasons(
    ranker: ItemScorer, history: Histories, items: np.ndarray, table: ItemTable
) -> list[str]:
    """For each item, which item of another shop moved it most; empty where none did.

    Args:
        history: of one user.
        items: int64 ``[n]``.

    Returns:
        words such as ``'Rice' of food speaks for it``.
    """
    domains = table.domains
    newest = history.items[-NEWEST:]
    shops = {domains[item] for item in (*newest.tolist(), *items.tolist())}
    if len(shops) < 2:
        return [""] * len(items)
    losses = losses_without(ranker, history, items)
    reasons = []
    for item, loss in zip(items.tolist(), losses.T, strict=True):
        other = np.array([domains[one] != domains[item] for one in newest.tolist()])
        loss = np.where(other, loss, 0)
        mover = int(loss.argmax())
        if loss[mover] <= 0:
            reasons.append("")
            continue
        name = int(newest[mover])
        reasons.append(f"{table.titles[name]!r} of {domains[name]} speaks for it")
    return reasons
