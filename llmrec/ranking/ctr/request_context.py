"""What is known of a user at a request: the newest events, and the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.captions.categorical_vocabulary import FeatureIds
from llmrec.data.event_store import EventStore

DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class RequestContext:
    """Requests, with the user's events before each; the newest event first.

    Attributes:
        items: int32 ``[requests, events]``, item index; -1 pads.
        types: int8 ``[requests, events]``, position in ``EVENT_TYPES``; -1 pads.
        ages: float32 ``[requests, events]``, days before the request; NaN unknown.
        ratings: float32 ``[requests, events]``; NaN where there is none.
        now: float64 ``[requests]``, seconds since 1970 UTC; NaN unknown.
        context: int32 ``[requests, names]``, ids of the context's values: 0 none, 1 unknown.
    """

    items: np.ndarray
    types: np.ndarray
    ages: np.ndarray
    ratings: np.ndarray
    now: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return len(self.now)

    @classmethod
    def concatenate(cls, parts: Sequence[RequestContext]) -> RequestContext:
        """The requests of all parts."""
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class ContextVocabulary:
    """Ids of the values of each context variable.

    Attributes:
        values: by name, such as ``device``; ids only grow.
    """

    values: Mapping[str, FeatureIds]

    @property
    def names(self) -> list[str]:
        return list(self.values)

    @property
    def sizes(self) -> list[int]:
        """Number of ids of each."""
        return [one.size for one in self.values.values()]

    def encode(self, contexts: Sequence[Mapping[str, str]]) -> np.ndarray:
        """int32 ``[contexts, names]``; an unknown value is 1, a missing one 0."""
        rows = [
            [ids.id(str(one[name]) if one.get(name) is not None else None)
             for name, ids in self.values.items()]
            for one in contexts
        ]  # fmt: skip
        return np.array(rows, dtype=np.int32).reshape(len(contexts), len(self.values))

    def as_dict(self) -> dict[str, list[str]]:
        return {name: list(ids.values) for name, ids in self.values.items()}

    @classmethod
    def of(cls, values: Mapping[str, Sequence[str]]) -> ContextVocabulary:
        """Read what :meth:`as_dict` gave."""
        return cls({name: FeatureIds(tuple(known)) for name, known in values.items()})

    @classmethod
    def learn(cls, contexts: Sequence[Mapping[str, str]], most: int = 1000) -> ContextVocabulary:
        """The values that occur, most frequent first.

        Args:
            most: values of one name that get an id of their own.
        """
        counts: dict[str, dict[str, int]] = {}
        for context in contexts:
            for name, value in context.items():
                of_name = counts.setdefault(name, {})
                of_name[str(value)] = of_name.get(str(value), 0) + 1
        return cls({n: FeatureIds().grown(counts[n], max_values=most) for n in sorted(counts)})


def request_contexts(
    log: EventStore, users: np.ndarray, times: np.ndarray, context: np.ndarray, events: int
) -> RequestContext:
    """What the log holds of users strictly before given times.

    Args:
        users: int ``[requests]``, -1 for an unknown user.
        times: float64 ``[requests]``.
        context: int32 ``[requests, names]``.
        events: newest ones that are kept.
    """
    ends, starts = log.ends(users, times), log.starts(users)
    back = ends[:, None] - 1 - np.arange(events)[None]
    valid = back >= starts[:, None]
    rows = np.where(valid, back, 0)

    def events_of(values: np.ndarray, fill: float, dtype: type) -> np.ndarray:
        if not len(log):
            return np.full(back.shape, fill, dtype=dtype)
        return np.where(valid, values[rows], fill).astype(dtype)

    age = (times[:, None] - events_of(log.time, np.nan, np.float64)) / DAY
    return RequestContext(
        items=events_of(log.item, -1, np.int32),
        types=events_of(log.kind, -1, np.int8),
        ages=age.astype(np.float32),
        ratings=events_of(log.rating, np.nan, np.float32),
        now=times.astype(np.float64),
        context=context,
    )


def request_context(
    items: Sequence[int],
    types: Sequence[int],
    times: Sequence[float],
    ratings: Sequence[float],
    now: float,
    context: np.ndarray,
    events: int,
) -> RequestContext:
    """One request from the history that it brings, the oldest event first.

    Args:
        times: seconds since 1970 UTC; NaN where unknown.
        now: of the request; NaN where unknown.
        context: int32 ``[names]``.
    """

    def padded(values: Sequence[Any], fill: float, dtype: type) -> np.ndarray:
        newest = list(values)[::-1][:events]
        return np.array([[*newest, *[fill] * (events - len(newest))]], dtype=dtype)

    return RequestContext(
        items=padded(items, -1, np.int32),
        types=padded(types, -1, np.int8),
        ages=padded([(now - time) / DAY for time in times], np.nan, np.float32),
        ratings=padded(ratings, np.nan, np.float32),
        now=np.array([now], dtype=np.float64),
        context=context[None],
    )
