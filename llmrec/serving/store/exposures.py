"""Exposures of a store: which lists are of which variant of an experiment, and how they began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from llmrec.serving.store.tables import (
    EVENTS,
    EXPLORED_LISTS,
    EXPOSURES,
    RECOMMENDATIONS,
    RECOMMENDED_ITEMS,
)


@dataclass(frozen=True)
class Exposure:
    """Somebody is shown a variant.

    Attributes:
        share: of the people who are: the probability of the assignment.
    """

    experiment: str
    variant: str
    share: float


@dataclass(frozen=True)
class Explored:
    """How the first place of a list came about.

    Attributes:
        places: that it was drawn from.
        chosen: rank, in the ranking, of the item that stands first.
        propensity: probability with which it does.
    """

    places: int
    chosen: int
    propensity: float


def add(
    connection: Connection,
    exposures: Sequence[tuple[str, Exposure]],
    explored: Sequence[tuple[str, Explored]],
) -> None:
    """Store what belongs to lists, by their ids, which are stored already."""
    for table, rows in ((EXPOSURES, exposures), (EXPLORED_LISTS, explored)):
        values = [{"recommendation_id": name} | vars(one) for name, one in rows]
        if values:
            connection.execute(table.insert(), values)


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """How many lists were shown, by the names of experiment and variant."""
    of = EXPOSURES.c.experiment, EXPOSURES.c.variant
    rows = connection.execute(select(*of, func.count()).group_by(*of))
    return {(experiment, variant): count for experiment, variant, count in rows}


def any_of(connection: Connection, experiment: str) -> bool:
    """Whether anything of an experiment was shown."""
    own = select(EXPOSURES.c.variant).where(EXPOSURES.c.experiment == experiment).limit(1)
    return connection.scalar(own) is not None


def lists(connection: Connection, experiment: str) -> list[Row[Any]]:
    """The lists of an experiment in the order in which they were shown: ``recommendation_id``,
    ``user_id``, ``timestamp``, ``variant`` and ``share``."""
    shown = RECOMMENDATIONS.c
    columns = select(
        shown.recommendation_id,
        shown.user_id,
        shown.timestamp,
        EXPOSURES.c.variant,
        EXPOSURES.c.share,
    )
    joined = columns.join_from(EXPOSURES, RECOMMENDATIONS)
    own = joined.where(EXPOSURES.c.experiment == experiment)
    return list(connection.execute(own.order_by(shown.timestamp, shown.recommendation_id)))


def explored_lists(connection: Connection) -> list[Row[Any]]:
    """The lists whose first place was drawn, in the order in which they were shown."""
    shown, drawn = RECOMMENDATIONS.c, EXPLORED_LISTS.c
    columns = select(
        shown.recommendation_id,
        shown.user_id,
        shown.timestamp,
        shown.variant,
        drawn.places,
        drawn.chosen,
        drawn.propensity,
    )
    joined = columns.join_from(EXPLORED_LISTS, RECOMMENDATIONS)
    return list(connection.execute(joined.order_by(shown.timestamp, shown.recommendation_id)))


def first_items(connection: Connection, most: int) -> dict[str, list[str]]:
    """The items of explored lists up to a rank, by the lists' ids, as they were shown."""
    items = RECOMMENDED_ITEMS.c
    columns = select(items.recommendation_id, items.item_id).join(
        EXPLORED_LISTS, EXPLORED_LISTS.c.recommendation_id == items.recommendation_id
    )
    found: dict[str, list[str]] = {}
    rows = columns.where(items.rank <= most).order_by(items.recommendation_id, items.rank)
    for name, item_id in connection.execute(rows):
        found.setdefault(name, []).append(item_id)
    return found


def outcomes(connection: Connection, table: Any) -> dict[str, tuple[int, int, float, int]]:
    """What people did with the items of lists, by the lists' ids.

    Args:
        table: ``EXPOSURES`` or ``EXPLORED_LISTS``, whose lists are meant.

    Returns:
        clicks, purchases, what was paid, and purchases of which that is not known.
    """

    def count(condition: Any) -> Any:
        return func.sum(case((condition, 1), else_=0))

    bought = EVENTS.c.type == "purchase"
    columns = select(
        EVENTS.c.recommendation_id,
        count(EVENTS.c.type == "click"),
        count(bought),
        func.coalesce(func.sum(case((bought, EVENTS.c.revenue), else_=0.0)), 0.0),
        count(bought & EVENTS.c.revenue.is_(None)),
    )
    in_list = (RECOMMENDED_ITEMS.c.recommendation_id == EVENTS.c.recommendation_id) & (
        RECOMMENDED_ITEMS.c.item_id == EVENTS.c.item_id
    )
    meant = EVENTS.c.recommendation_id.in_(select(table.c.recommendation_id))
    rows = columns.join_from(EVENTS, RECOMMENDED_ITEMS, in_list).where(meant)
    grouped = rows.where(EVENTS.c.type.in_(("click", "purchase")))
    return {
        row[0]: (int(row[1]), int(row[2]), float(row[3]), int(row[4]))
        for row in connection.execute(grouped.group_by(EVENTS.c.recommendation_id))
    }
