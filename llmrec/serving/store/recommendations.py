"""Recommendations of a store: what was shown to whom, so that events can be joined with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select

from llmrec.serving.store import exposures
from llmrec.serving.store.exposures import Explored, Exposure
from llmrec.serving.store.tables import RECOMMENDATIONS, RECOMMENDED_ITEMS
from llmrec.types import Recommendation

# statements that are made once, since to make one takes as long as to run it
_ADD_LISTS, _ADD_ITEMS = RECOMMENDATIONS.insert(), RECOMMENDED_ITEMS.insert()


@dataclass(frozen=True)
class ShownList:
    """A list as it was shown.

    Attributes:
        user_id: None where the request named nobody.
        timestamp: seconds since 1970 UTC.
        model, variant, catalog_version: who ranked which catalogue.
        exposures: one for each experiment that it is of.
        explored: how its first place came about, where that was drawn.
    """

    recommendation_id: str
    user_id: str | None
    timestamp: float
    model: str
    variant: str
    catalog_version: str
    items: Sequence[Recommendation]
    exposures: Sequence[Exposure] = ()
    explored: Explored | None = None


def add(connection: Connection, shown: Sequence[ShownList]) -> None:
    """Store lists of different ids."""
    names = ("recommendation_id", "user_id", "timestamp", "model", "variant", "catalog_version")
    rows = [{name: getattr(one, name) for name in names} for one in shown]
    items = [
        {
            "recommendation_id": one.recommendation_id,
            "rank": item.rank,
            "item_id": item.item_id,
            "score": item.score,
            "p_click": item.p_click,
        }
        for one in shown
        for item in one.items
    ]
    if rows:
        connection.execute(_ADD_LISTS, rows)
    if items:
        connection.execute(_ADD_ITEMS, items)
    exposures.add(
        connection,
        [(one.recommendation_id, exposure) for one in shown for exposure in one.exposures],
        [(one.recommendation_id, one.explored) for one in shown if one.explored is not None],
    )


def count(connection: Connection, user_id: str) -> int:
    """How many lists were shown to a user."""
    mine = select(func.count()).where(RECOMMENDATIONS.c.user_id == user_id)
    return connection.scalar(mine) or 0


def remove(connection: Connection, user_id: str) -> int:
    """Remove what was shown to a user; how many lists they were."""
    mine = delete(RECOMMENDATIONS).where(RECOMMENDATIONS.c.user_id == user_id)
    return connection.execute(mine).rowcount


def remove_before(connection: Connection, time: float) -> int:
    """Remove what was shown before a time; how many lists they were."""
    old = delete(RECOMMENDATIONS).where(RECOMMENDATIONS.c.timestamp < time)
    return connection.execute(old).rowcount
