"""What was shown together and what came of it: the examples that click probabilities learn from.

Three kinds of log give them: lists that were shown (impressions), ratings, and plain events, beside
which items are drawn that were not chosen. Everything is sorted by time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data.raw_files import files_at
from llmrec.errors import DataError
from llmrec.ranking.ctr.log import KIND, Log, is_positive
from llmrec.ranking.ctr.settings import Labels

_SAME_VISIT = 86_400.0  # seconds within which a purchase belongs to a click, without sessions
_PAUSE = 1_800.0  # seconds after which somebody who looks at an item comes anew


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of items, each shown to one person at one time; the earliest first.

    Attributes:
        user: int32 ``[lists]``, user index of the log; -1 for somebody it does not know.
        time: float64 ``[lists]``, seconds since 1970 UTC.
        items: int32 ``[lists, places]``, -1 pads.
        position: int16 ``[lists, places]``, 0 is the top; -1 unknown.
        click: float32 ``[lists, places]``, 0 or 1; NaN where padded.
        purchase: float32 ``[lists, places]``, whether it was bought after the click; NaN unknown.
        rating: float32 ``[lists, places]``; NaN where there is none.
        log_copies: float32 ``[lists, places]``, log of how many copies of such a row were taken for
            each that there was: 0 for what was really shown, less for negatives drawn thinly.
        context: what is said of the moment, by list: device, place, membership, ...
        context_of: int32 ``[lists]``, row of ``contexts``.
        contexts: the distinct contexts.
    """

    user: np.ndarray
    time: np.ndarray
    items: np.ndarray
    position: np.ndarray
    click: np.ndarray
    purchase: np.ndarray
    rating: np.ndarray
    log_copies: np.ndarray
    context_of: np.ndarray
    contexts: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.user)

    @property
    def mask(self) -> np.ndarray:
        """bool ``[lists, places]``, where an item is."""
        return self.items >= 0

    def select(self, rows: np.ndarray) -> Lists:
        """Some of the lists."""
        chosen = {
            name: getattr(self, name)[rows]
            for name in self.__dataclass_fields__
            if name != "contexts"
        }
        return Lists(**chosen, contexts=self.contexts)


def read_lists(
    labels: Labels, log: Log, log_contexts: Sequence[str | None], item_index: dict[str, int],
    seed: int = 0,
) -> Lists:  # fmt: skip
    """The examples of a shop.

    Args:
        labels: where they come from.
        log: the events.
        log_contexts: the context of each event as JSON text.
        item_index: by the shop's identifier.
        seed: of the negatives that are drawn.

    Raises:
        DataError: naming file, row and field, or when there are none.
    """
    if labels.kind == "impressions":
        assert labels.file is not None  # checked by the settings
        found = _impressions(labels.file, log, item_index)
    elif labels.kind == "ratings":
        found = _ratings(labels, log, log_contexts)
    else:
        found = _sampled(labels, log, log_contexts, len(item_index), seed)
    if not len(found):
        raise DataError(f"labels: kind {labels.kind} finds nothing to learn from in this log")
    found = found.select(np.argsort(found.time, kind="stable"))
    return _with_after_sale(found, log) if labels.kind == "impressions" else found


def _impressions(path: Path, log: Log, item_index: dict[str, int]) -> Lists:
    rows = list(_read_impressions(path))
    places = max((len(row["items"]) for row in rows), default=0)
    shape = (len(rows), places)
    items = np.full(shape, -1, dtype=np.int32)
    click = np.full(shape, np.nan, dtype=np.float32)
    contexts: dict[str, int] = {}
    context_of = np.empty(len(rows), dtype=np.int32)
    for at, row in enumerate(rows):
        known, clicked = _places(row, item_index)
        items[at, : len(known)], click[at, : len(known)] = known, clicked
        text = json.dumps(row.get("context") or {}, sort_keys=True)
        context_of[at] = contexts.setdefault(text, len(contexts))
    position = np.where(items >= 0, np.arange(places, dtype=np.int16)[None], -1)
    unknown = np.full(shape, np.nan, dtype=np.float32)
    return Lists(
        user=np.array([log.user_index.get(row["user_id"], -1) for row in rows], dtype=np.int32),
        time=np.array([row["timestamp"] for row in rows], dtype=np.float64),
        items=items,
        position=position.astype(np.int16),
        click=click,
        purchase=unknown,
        rating=unknown.copy(),
        log_copies=np.zeros(shape, dtype=np.float32),
        context_of=context_of,
        contexts=[json.loads(text) for text in contexts],
    )


def _places(row: dict[str, Any], item_index: dict[str, int]) -> tuple[list[int], list[float]]:
    """Items by place and whether each was clicked; unknown ones and repeats are left empty."""
    known = [item_index.get(item, -1) for item in row["items"]]
    clicked = [float(flag) for flag in row["clicked"]]
    first: dict[int, int] = {}
    for place, item in enumerate(known):
        if item >= 0 and first.setdefault(item, place) != place:
            clicked[first[item]] = max(clicked[first[item]], clicked[place])
            known[place] = -1
    return known, [flag if item >= 0 else np.nan for item, flag in zip(known, clicked, strict=True)]


def _read_impressions(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of JSONL files, checked."""
    for file in files_at(path):
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _checked(line, f"{file}: row {number}")


def _checked(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with user_id, timestamp, items and clicked")
    for name in ("user_id", "timestamp", "items", "clicked"):
        if name not in row:
            raise DataError(
                f"{where}: has no {name!r}; it needs user_id, timestamp, items, clicked"
            )
    items, clicked = row["items"], row["clicked"]
    if not isinstance(items, list) or not isinstance(clicked, list) or len(items) != len(clicked):
        raise DataError(f"{where}: items and clicked must be lists of the same length")
    if any(flag not in (0, 1) for flag in clicked):
        raise DataError(f"{where}: clicked: each must be 0 or 1, got {clicked}")
    time = row["timestamp"]
    if isinstance(time, bool) or not isinstance(time, int | float) or not np.isfinite(time):
        raise DataError(f"{where}: timestamp: {time!r} is not a time in seconds since 1970")
    return row


def _with_after_sale(lists: Lists, log: Log) -> Lists:
    """With what was bought and rated after a click.

    A purchase belongs to the last click of that user on that item before it, on the same day; a
    rating to the last click before it, whenever it comes.
    """
    where, place = np.nonzero(lists.click == 1)
    user, item, time = lists.user[where], lists.items[where, place], lists.time[where]
    clicked = user.astype(np.int64) * (int(lists.items.max()) + 1) + item
    order = np.lexsort((time, clicked))
    purchase = np.where(lists.click == 1, 0.0, np.nan).astype(np.float32)
    rating = np.full(lists.click.shape, np.nan, dtype=np.float32)
    bought = np.flatnonzero(log.kind == KIND["purchase"])
    rated = np.flatnonzero(~np.isnan(log.rating))
    for rows, limit in ((bought, _SAME_VISIT), (rated, np.inf)):
        key = log.user[rows].astype(np.int64) * (int(lists.items.max()) + 1) + log.item[rows]
        at = _last_before(clicked[order], time[order], key, log.time[rows], limit)
        hit = order[at[at >= 0]]
        if limit == _SAME_VISIT:
            purchase[where[hit], place[hit]] = 1.0
        else:
            rating[where[hit], place[hit]] = log.rating[rows[at >= 0]]
    return replace(lists, purchase=purchase, rating=rating)


def _last_before(
    keys: np.ndarray, times: np.ndarray, asked: np.ndarray, at: np.ndarray, limit: float
) -> np.ndarray:
    """Row of the last entry of a key not later than a time and within a limit; -1 for none.

    Args:
        keys, times: ``[entries]``, sorted by key, then time.
        asked, at: ``[asked]``.
    """
    n_asked = len(asked)
    if not len(keys):
        return np.full(n_asked, -1, dtype=np.int64)
    is_asked = np.concatenate([np.zeros(len(keys), np.int8), np.ones(n_asked, np.int8)])
    key = np.concatenate([keys, asked])
    order = np.lexsort((is_asked, np.concatenate([times, at]), key))
    last = np.maximum.accumulate(np.where(order < len(keys), np.arange(len(order)), -1))
    found = np.full(n_asked, -1, dtype=np.int64)
    rows = np.flatnonzero(order >= len(keys))
    entry = np.where(last[rows] >= 0, order[last[rows]], -1)
    fits = (entry >= 0) & (keys[entry] == key[order[rows]])
    fits &= at[order[rows] - len(keys)] - times[entry] <= limit
    found[order[rows] - len(keys)] = np.where(fits, entry, -1)
    return found


def _contexts_of(texts: Sequence[str | None]) -> tuple[np.ndarray, list[dict[str, str]]]:
    from llmrec.ranking.ctr.log import read_context

    known: dict[str | None, int] = {}
    rows = np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int32)
    return rows, [read_context(text) for text in known]


def _ratings(labels: Labels, log: Log, texts: Sequence[str | None]) -> Lists:
    """A list of one item for each rating; what was rated low was seen and not liked."""
    rows = np.flatnonzero(~np.isnan(log.rating))
    context_of, contexts = _contexts_of([texts[row] for row in rows])
    rating = log.rating[rows][:, None]
    return Lists(
        user=log.user[rows],
        time=log.time[rows],
        items=log.item[rows][:, None],
        position=np.full((len(rows), 1), -1, dtype=np.int16),
        click=(rating >= labels.min_rating).astype(np.float32),
        purchase=np.full(rating.shape, np.nan, dtype=np.float32),
        rating=rating,
        log_copies=np.zeros(rating.shape, dtype=np.float32),
        context_of=context_of,
        contexts=contexts,
    )


def visits(log: Log) -> np.ndarray:
    """When the visit to its item began that each event is of: float64 ``[events]``.

    A visit is a row of events of one person on one item, no two further apart than half an hour.
    """
    order = np.lexsort((log.time, log.item, log.user))
    user, item, time = log.user[order], log.item[order], log.time[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    new[1:] |= np.diff(time) > _PAUSE
    began = np.empty(len(order))
    began[order] = time[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return began


def _sampled(
    labels: Labels, log: Log, texts: Sequence[str | None], n_items: int, seed: int
) -> Lists:
    """Each choice beside items that were drawn.

    Of an item with draw probability ``q``, ``per_positive * q`` negatives are taken for each moment
    at which all items could have been chosen: its odds among the rows are those of the moment
    divided by that number, and ``log_copies`` holds its logarithm to undo it.

    The moment is when the person turned to the item: what was known then does not hold the view
    that led to the click. Several choices of one visit to an item are one.
    """
    began = visits(log)
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
    items[:, 1:] = rng.choice(n_items, size=(len(rows), labels.per_positive), p=q)
    drawn = np.sort(items[:, 1:], axis=1)
    drawn[:, 1:][drawn[:, 1:] == drawn[:, :-1]] = -1  # each once
    drawn[drawn == items[:, :1]] = -1  # the choice itself is no negative
    items[:, 1:] = drawn
    click = np.zeros(shape, dtype=np.float32)
    click[:, 0] = 1
    click[items < 0] = np.nan
    copies = np.log(labels.per_positive * q).astype(np.float32)
    unknown = np.full(shape, np.nan, dtype=np.float32)
    rating = unknown.copy()
    rating[:, 0] = log.rating[rows]
    context_of, contexts = _contexts_of([texts[row] for row in rows])
    return Lists(
        user=log.user[rows],
        time=began[rows],
        items=items,
        position=np.full(shape, -1, dtype=np.int16),
        click=click,
        purchase=unknown,
        rating=rating,
        log_copies=np.where(items >= 0, copies[items], 0.0).astype(np.float32),
        context_of=context_of,
        contexts=contexts,
    )
