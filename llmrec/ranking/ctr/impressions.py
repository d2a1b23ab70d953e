"""Impressions and their labels: the examples that click probabilities are learned from.

Three kinds of log give them: logged impressions, ratings, and plain events with sampled negatives.
Everything is sorted by time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from llmrec.data.event_store import (
    EVENT_CODES,
    EventStore,
    is_positive,
    read_context,
    rows_before,
)
from llmrec.data.impression_reader import ShownLists, read_shown
from llmrec.errors import DataError
from llmrec.ranking.ctr.settings import LabelConfig

_PURCHASE_WINDOW = 86_400.0  # seconds after a click within which a purchase is attributed to it
_VISIT_PAUSE = 1_800.0  # seconds: events of a user on an item further apart are two visits


@dataclass(frozen=True, eq=False)
class Impressions:
    """Lists of items, each shown to one user at one time; the earliest first.

    Attributes:
        user: int32 ``[impressions]``, user index of the log; -1 for an unknown user.
        time: float64 ``[impressions]``, seconds since 1970 UTC.
        items: int32 ``[impressions, positions]``, -1 pads.
        position: int16 ``[impressions, positions]``, 0 is the top; -1 unknown.
        click: float32 ``[impressions, positions]``, 0 or 1; NaN where padded.
        purchase: float32 ``[impressions, positions]``, bought after the click; NaN unknown.
        rating: float32 ``[impressions, positions]``; NaN where there is none.
        log_sampling_rate: float32 ``[impressions, positions]``, log of the probability that
            such a row is in the sample (logQ): 0 for logged ones, less for sampled negatives.
        context_index: int32 ``[impressions]``, row of ``contexts``.
        contexts: the distinct request contexts: device, place, membership, ...
        counts, notes: what a log of lists held, and what of it was not known.
    """

    user: np.ndarray
    time: np.ndarray
    items: np.ndarray
    position: np.ndarray
    click: np.ndarray
    purchase: np.ndarray
    rating: np.ndarray
    log_sampling_rate: np.ndarray
    context_index: np.ndarray
    contexts: list[dict[str, str]]
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        user: np.ndarray,
        time: np.ndarray,
        items: np.ndarray,
        click: np.ndarray,
        contexts: Sequence[str | None],
        **known: np.ndarray,
    ) -> Impressions:
        """Impressions of which nothing else is known but what is given.

        Args:
            contexts: of each impression, as JSON text.
        """
        ids: dict[str | None, int] = {}
        unknown = np.full(items.shape, np.nan, dtype=np.float32)
        columns: dict[str, Any] = {
            "position": np.full(items.shape, -1, dtype=np.int16),
            "purchase": unknown,
            "rating": unknown,
            "log_sampling_rate": np.zeros(items.shape, dtype=np.float32),
            "context_index": np.array(
                [ids.setdefault(text, len(ids)) for text in contexts], dtype=np.int32
            ),
        }
        columns |= known
        distinct = [read_context(text) for text in ids]
        return cls(user, time, items, click=click, contexts=distinct, **columns)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def mask(self) -> np.ndarray:
        """bool ``[impressions, positions]``, where an item is."""
        return self.items >= 0

    def with_user_attributes(self, attributes: Sequence[Mapping[str, str]]) -> Impressions:
        """With what is known of users in their contexts; what a request says itself counts.

        Args:
            attributes: by user index.
        """
        if not any(attributes):
            return self
        known = [*attributes, {}]  # the last is of unknown users, whose index is -1
        pairs = np.stack([self.user, self.context_index])
        distinct, index = np.unique(pairs, axis=1, return_inverse=True)
        contexts = [{**known[user], **self.contexts[at]} for user, at in distinct.T.tolist()]
        return replace(self, context_index=index.astype(np.int32), contexts=contexts)

    def select(self, rows: np.ndarray) -> Impressions:
        """Some of the impressions."""
        whole = {name: getattr(self, name) for name in ("contexts", "counts", "notes")}
        arrays = {name: values[rows] for name, values in vars(self).items() if name not in whole}
        return Impressions(**arrays, **whole)


def read_impressions(
    labels: LabelConfig, log: EventStore, log_contexts: Sequence[str | None],
    item_index: dict[str, int], seed: int = 0,
) -> Impressions:  # fmt: skip
    """The examples of a log.

    Args:
        labels: where they come from.
        log: the events.
        log_contexts: the context of each event as JSON text.
        item_index: by the shop's identifier.
        seed: of the negatives that are sampled.

    Raises:
        DataError: naming file, row and field, or when there are none.
    """
    if labels.kind == "impressions":
        found = _logged(labels, log, item_index)
    elif labels.kind == "ratings":
        found = _rated(labels, log, log_contexts)
    else:
        found = _sampled(labels, log, log_contexts, len(item_index), seed)
    if not len(found):
        raise DataError(f"labels: kind {labels.kind} finds nothing to learn from in this log")
    found = found.select(np.argsort(found.time, kind="stable"))
    return _with_conversions(found, log) if labels.kind == "impressions" else found


def _logged(labels: LabelConfig, log: EventStore, item_index: dict[str, int]) -> Impressions:
    """Lists that were shown. A place whose item is not known or stands there again is empty."""
    assert labels.file is not None  # checked by the settings
    lists = read_shown(labels.file, log.user_index, item_index, labels.log_format)
    _refuse_unknown(labels, lists, log, item_index)
    lengths = np.diff(lists.offsets)
    row = np.repeat(np.arange(len(lists)), lengths)
    column = np.arange(len(row)) - np.repeat(lists.offsets[:-1], lengths)
    known = lists.item >= 0
    shape = (len(lists), int(lengths.max(initial=0)))

    def placed(values: np.ndarray, empty: float, dtype: type) -> np.ndarray:
        places: np.ndarray = np.full(shape, empty, dtype=dtype)
        places[row[known], column[known]] = values[known]
        return places

    found = Impressions.of(
        lists.user,
        lists.time,
        placed(lists.item, -1, np.int32),
        placed(lists.clicked, np.nan, np.float32),
        lists.contexts,
        position=placed(lists.position, -1, np.int16),
    )
    timeless = np.isnan(lists.time)
    counts, notes = lists.counts | {"lists_without_time": int(timeless.sum())}, lists.notes()
    if timeless.any():
        notes.append(f"{counts['lists_without_time']:,} lists have no time and are left out")
    return replace(found, counts=counts, notes=notes).select(~timeless)


def _refuse_unknown(
    labels: LabelConfig, lists: ShownLists, log: EventStore, item_index: dict[str, int]
) -> None:
    """Stop where a log is of other users or items than the dataset.

    Raises:
        DataError: with an identifier of either.
    """
    users, items = lists.unknown_users, lists.unknown_items
    if items.total() > labels.max_unknown * len(lists.item):
        problem = f"{items.total():,} of {len(lists.item):,} shown items are not in the catalogue"
        theirs, ours = items, list(item_index)
    elif labels.max_unknown < 1 and any(users) and users.total() == len(lists):
        problem, theirs, ours = "no user is in the dataset", users, log.user_ids
    else:
        return
    raise DataError(
        f"{labels.file}: {problem}: it has {theirs.most_common(1)[0][0]!r}, the dataset "
        f"{ours[0]!r}; check labels.columns, or set labels.max_unknown: 1 if it is meant so"
    )


def _with_conversions(impressions: Impressions, log: EventStore) -> Impressions:
    """With what was bought and rated after a click.

    A purchase is attributed to the user's last click on the item in the day before it, a rating to
    the last click before it, whenever that was.
    """
    clicked = impressions.click == 1
    where, column = np.nonzero(clicked)
    n_items = int(impressions.items.max()) + 1
    key = impressions.user[where].astype(np.int64) * n_items + impressions.items[where, column]
    order = np.lexsort((impressions.time[where], key))
    where, column, key = where[order], column[order], key[order]
    purchase = np.where(clicked, 0.0, np.nan).astype(np.float32)
    rating = np.full(clicked.shape, np.nan, dtype=np.float32)

    def last_click(rows: np.ndarray, window: float) -> np.ndarray:
        """The click that each event is attributed to, -1 for none."""
        event_key = log.user[rows].astype(np.int64) * n_items + log.item[rows]
        inclusive = np.nextafter(log.time[rows], np.inf)
        found = rows_before(key, impressions.time[where], event_key, inclusive) - 1
        if not len(key):
            return found
        recent = log.time[rows] - impressions.time[where[found]] <= window
        return np.where((found >= 0) & (key[found] == event_key) & recent, found, -1)

    click = last_click(np.flatnonzero(log.kind == EVENT_CODES["purchase"]), _PURCHASE_WINDOW)
    click = click[click >= 0]
    purchase[where[click], column[click]] = 1.0
    rated = np.flatnonzero(~np.isnan(log.rating))
    click = last_click(rated, np.inf)
    rated, click = rated[click >= 0], click[click >= 0]
    rating[where[click], column[click]] = log.rating[rated]
    return replace(impressions, purchase=purchase, rating=rating)


def _rated(labels: LabelConfig, log: EventStore, texts: Sequence[str | None]) -> Impressions:
    """An impression of one item for each rating; a low one is a negative."""
    rows = np.flatnonzero(~np.isnan(log.rating))
    rating = log.rating[rows][:, None]
    return Impressions.of(
        log.user[rows],
        log.time[rows],
        log.item[rows][:, None],
        (rating >= labels.min_rating).astype(np.float32),
        [texts[row] for row in rows],
        rating=rating,
    )


def visit_starts(log: EventStore) -> np.ndarray:
    """When the visit began that each event belongs to: float64 ``[events]``.

    A visit is a run of events of one user on one item, no two further apart than half an hour.
    """
    order = np.lexsort((log.time, log.item, log.user))
    user, item, time = log.user[order], log.item[order], log.time[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    new[1:] |= np.diff(time) > _VISIT_PAUSE
    began = np.empty(len(order))
    began[order] = time[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return began


def _sampled(
    labels: LabelConfig, log: EventStore, texts: Sequence[str | None], n_items: int, seed: int
) -> Impressions:
    """Each positive event with sampled negatives.

    An item with proposal probability ``q`` is among ``m`` draws with probability ``1 - (1 - q)^m``:
    its odds in the sample are its true odds divided by that, and ``log_sampling_rate`` holds its
    logarithm to undo it (logQ correction).

    The time is when the user's visit to the item began: what was known then does not hold the view
    that led to the click. Several positive events of one visit are one.
    """
    began = visit_starts(log)
    rows = np.flatnonzero(is_positive(log.kind, log.rating, labels.types, None))
    visit = np.stack([log.user[rows], log.item[rows], began[rows]], axis=1)
    rows = np.sort(rows[np.unique(visit, axis=0, return_index=True)[1]])
    rng = np.random.default_rng(seed)
    q = np.full(n_items, 1.0 / n_items)
    if labels.draw == "popularity" and len(rows):
        q = (np.bincount(log.item[rows], minlength=n_items) + 1.0) ** 0.75
        q /= q.sum()
    shape = (len(rows), 1 + labels.per_positive)
    items = np.empty(shape, dtype=np.int32)
    items[:, 0] = log.item[rows]
    negatives = rng.choice(n_items, size=(len(rows), labels.per_positive), p=q).astype(np.int32)
    negatives.sort(axis=1)
    negatives[:, 1:][negatives[:, 1:] == negatives[:, :-1]] = -1  # each once
    negatives[negatives == items[:, :1]] = -1  # the positive itself is no negative
    items[:, 1:] = negatives
    click = np.zeros(shape, dtype=np.float32)
    click[:, 0] = 1
    click[items < 0] = np.nan
    log_rate = np.log(1 - (1 - q) ** labels.per_positive).astype(np.float32)
    rating = np.full(shape, np.nan, dtype=np.float32)
    rating[:, 0] = log.rating[rows]
    return Impressions.of(
        log.user[rows],
        began[rows],
        items,
        click,
        [texts[row] for row in rows],
        rating=rating,
        log_sampling_rate=np.where(items >= 0, log_rate[items], 0.0).astype(np.float32),
    )
