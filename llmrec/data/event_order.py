"""The order of a user's events where times do not say it, and which events are one basket."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmrec.data import splitting
from llmrec.data.catalogue import CatalogueWriter
from llmrec.data.event_table import EventTable
from llmrec.data.settings import IngestConfig
from llmrec.errors import DataError


def order_events(
    events: EventTable,
    times_known: bool,
    order: str | None,
    rank: Callable[[], np.ndarray],
    seed: int,
) -> tuple[str, list[str]]:
    """Put the events of a user in order that no time orders.

    Args:
        order: ``file``, ``random``, or None: shuffled at equal times, else as in the file.
        rank: place of each item in the order of the items' names.

    Returns:
        how events are ordered, and what looks odd about it.
    """
    tied = np.ones(len(events), dtype=bool)
    if times_known:
        tied, _ = splitting.ties(events.user, events.time)
    share = None
    if tied.any():
        share = splitting.ascending_share(events.user, rank()[events.item], tied)
    by_name = share is not None and not 0.1 < share < 0.9
    odd = []
    if times_known:
        if by_name and events.basket is None:  # in a basket nothing comes last
            odd.append(
                "events of one user at one time stand in the order of their items' names: times "
                "are too coarse to say what came last"
            )
        if order == "file":
            return "by time; events of one user at one time as in the file", odd
        events.take(splitting.shuffle_ties(events.user, events.time, seed))
        return "by time; events of one user at one time are shuffled", odd
    if order == "random":
        events.take(splitting.shuffle_ties(events.user, np.zeros(len(events)), seed))
        return "no times in the data: events of one user are shuffled", odd
    if order is None:
        odd.append(
            "no event has a time, so the order of the file is taken for the order of time; say so "
            "with order: file, or else set order: random"
        )
    if by_name:
        odd.append(
            "events of one user stand in the order of their items' names: what came last is not "
            "known, and a model will learn the alphabet; set order: random"
        )
    return "no times in the data: the order of the file was kept", odd


def name_ranks(catalogue: CatalogueWriter, item_codes: np.ndarray) -> np.ndarray:
    """int64 ``[items]``, place of each item in the order of names."""
    return splitting.name_ranks(np.array(list(catalogue.index))[item_codes].tolist())


def take_baskets(
    events: EventTable, when: np.ndarray, times_known: bool, config: IngestConfig
) -> tuple[np.ndarray, int, list[str]]:
    """Put the events of a basket side by side, and number baskets in their order.

    Args:
        when: float64 ``[n]``, time or place of each event.

    Returns:
        the same of the last event of each event's basket; the number of baskets; what looks odd.

    Raises:
        DataError: if nothing says which events are a basket.
    """
    assert events.basket is not None
    if config.basket == "session" and (events.basket < 0).all():
        raise DataError(
            f"{config.events}: basket: session, but no event names one; set event_columns: "
            "{session: ...} to the column of orders, or basket: time"
        )
    if not times_known and (events.basket < 0).any():
        raise DataError(
            f"{config.events}: without times only sessions say what is a basket; set basket: "
            "session and event_columns: {session: ...}, on every row"
        )
    basket, ends = splitting.baskets(events.user, when, events.basket)
    events.basket = basket
    order = np.argsort(basket, kind="stable")
    events.take(order)
    odd, number = [], int(basket.max()) + 1
    if number == len(events):
        odd.append(
            "every basket has one event, so the next basket is the next item; set basket, or "
            "split: leave-one-out"
        )
    return ends[order], number, odd
