"""What is known of a person at a moment: the newest events, and the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.captions.categorical_vocabulary import Values
from llmrec.ranking.ctr.log import Log

DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments, and what came before each; the newest event first.

    Attributes:
        items: int32 ``[moments, events]``, item index; -1 pads.
        kinds: int8 ``[moments, events]``, position in ``EVENT_TYPES``; -1 pads.
        ages: float32 ``[moments, events]``, days before the moment; NaN unknown.
        ratings: float32 ``[moments, events]``; NaN where there is none.
        now: float64 ``[moments]``, seconds since 1970 UTC; NaN unknown.
        context: int32 ``[moments, names]``, ids of what is said of it: 0 nothing, 1 unknown.
    """

    items: np.ndarray
    kinds: np.ndarray
    ages: np.ndarray
    ratings: np.ndarray
    now: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return len(self.now)

    def select(self, rows: np.ndarray | slice) -> Moments:
        """Some of the moments."""
        return Moments(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class ContextIds:
    """Which integer stands for which value of each thing that is said of a moment.

    Attributes:
        values: by name, such as ``device``; ids only grow.
    """

    values: Mapping[str, Values]

    @property
    def names(self) -> list[str]:
        return list(self.values)

    @property
    def sizes(self) -> list[int]:
        """Ids of each."""
        return [one.size for one in self.values.values()]

    def encode(self, contexts: Sequence[Mapping[str, str]]) -> np.ndarray:
        """int32 ``[contexts, names]``; a value never seen is 1, one that is not given 0."""
        rows = [
            [ids.id(str(told[name]) if told.get(name) is not None else None)
             for name, ids in self.values.items()]
            for told in contexts
        ]  # fmt: skip
        return np.array(rows, dtype=np.int32).reshape(len(contexts), len(self.values))

    def as_dict(self) -> dict[str, list[str]]:
        return {name: list(ids.values) for name, ids in self.values.items()}

    @classmethod
    def of(cls, told: Mapping[str, Sequence[str]]) -> ContextIds:
        return cls({name: Values(tuple(values)) for name, values in told.items()})

    @classmethod
    def learn(cls, contexts: Sequence[Mapping[str, str]], most: int = 1000) -> ContextIds:
        """The values that occur, most frequent first.

        Args:
            most: values of one name that get an id of their own.
        """
        counts: dict[str, dict[str, int]] = {}
        for told in contexts:
            for name, value in told.items():
                of_name = counts.setdefault(name, {})
                of_name[str(value)] = of_name.get(str(value), 0) + 1
        return cls({n: Values().grown(counts[n], max_values=most) for n in sorted(counts)})


def moments_of(
    log: Log, users: np.ndarray, times: np.ndarray, context: np.ndarray, events: int
) -> Moments:
    """What the log knows of people strictly before given times.

    Args:
        users: int ``[moments]``, -1 for nobody.
        times: float64 ``[moments]``.
        context: int32 ``[moments, names]``.
        events: newest ones that are kept.
    """
    ends, starts = log.ends(users, times), log.starts(users)
    back = ends[:, None] - 1 - np.arange(events)[None]
    there = back >= starts[:, None]
    if not len(log):
        empty = np.full(back.shape, -1)
        nothing = np.full(back.shape, np.nan, dtype=np.float32)
        return Moments(
            empty.astype(np.int32), empty.astype(np.int8), nothing, nothing, times, context
        )
    rows = np.where(there, back, 0)
    age = (times[:, None] - log.time[rows]) / DAY
    return Moments(
        items=np.where(there, log.item[rows], -1).astype(np.int32),
        kinds=np.where(there, log.kind[rows], -1).astype(np.int8),
        ages=np.where(there, age, np.nan).astype(np.float32),
        ratings=np.where(there, log.rating[rows], np.nan).astype(np.float32),
        now=times.astype(np.float64),
        context=context,
    )


def moment_of_events(
    items: Sequence[int],
    kinds: Sequence[int],
    times: Sequence[float],
    ratings: Sequence[float],
    now: float,
    context: np.ndarray,
    events: int,
) -> Moments:
    """One moment from a request's history, the oldest event first.

    Args:
        times: seconds since 1970 UTC; NaN where unknown.
        now: of the request; NaN where unknown.
        context: int32 ``[names]``.
    """

    def padded(values: Sequence[Any], fill: float, dtype: type) -> np.ndarray:
        newest = list(values)[::-1][:events]
        return np.array([[*newest, *[fill] * (events - len(newest))]], dtype=dtype)

    age = [(now - time) / DAY for time in times]
    return Moments(
        items=padded(items, -1, np.int32),
        kinds=padded(kinds, -1, np.int8),
        ages=padded(age, np.nan, np.float32),
        ratings=padded(ratings, np.nan, np.float32),
        now=np.array([now], dtype=np.float64),
        context=context[None],
    )
