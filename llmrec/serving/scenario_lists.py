"""The lists of each scenario but ``home``: which items, in which order, and why.

What the bundle learned stands in where the store has counted nothing yet: the co-occurrence and
popularity of its click model or, without one, the edges of its item graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmrec.data.event_store import EVENT_CODES
from llmrec.errors import ConfigError, require
from llmrec.serving import scenarios
from llmrec.serving.history import RETURN
from llmrec.serving.item_list import ItemList, best_first
from llmrec.serving.query import Query
from llmrec.serving.similar import SimilarItems
from llmrec.serving.statistics import DAY, StoreStatistics

if TYPE_CHECKING:
    from llmrec.serving.bundle import Bundle
    from llmrec.serving.click_ranker import ClickRanker

AT_LEAST = 100  # items that are listed, where there are so many, for re-ranking to choose from
CART = 10  # newest items of a history that something is bought beside
NEED_HALF_LIFE = 90 * DAY  # after which a purchase says half as much of a need
NEW_HALF_LIFE = 30 * DAY
PURCHASE, VIEWS = EVENT_CODES["purchase"], (EVENT_CODES["view"], EVENT_CODES["click"])

NO_COUNTS = "nothing was counted yet that this list could go by"
NO_PURCHASES = "no purchases are known; what was chosen before stands for them"
NO_VIEWS = "no views are known; what was chosen before stands for them"
NO_TIMES = "no item says since when it is there (available_from)"


@dataclass(frozen=True, eq=False)
class ScenarioLists:
    """Makes lists over one version of a catalogue. Threads may use one at once.

    Attributes:
        bundle: opened.
        ranker: of its click model, or None without one.
        similar: compares items.
    """

    bundle: Bundle
    ranker: ClickRanker | None
    similar: SimilarItems

    def make(self, query: Query, statistics: StoreStatistics | None) -> ItemList:
        """The list that a request asks for.

        Args:
            query: its request names the scenario.
            statistics: of the store; None without one.

        Raises:
            ConfigError: if the bundle holds nothing to go by.
            StoreError: if the store cannot be read.
        """
        allowed = query.constraints.passes(len(self.bundle.items))
        most = max(AT_LEAST, query.request.n)
        return _MAKERS[str(query.request.scenario)](self, query, statistics, allowed, most)

    def _similar(self, query: Query, *_: object) -> ItemList:
        item_id = query.request.similar_to
        (item,), _notes = self.bundle.items.find_some("similar_to", [str(item_id)])
        most = max(AT_LEAST, query.request.n)
        return self.similar.rank(int(item), most, query.now, query.constraints)

    def _together(
        self, query: Query, statistics: StoreStatistics | None, allowed: np.ndarray, most: int
    ) -> ItemList:
        anchors = self._anchors(query)
        allowed[anchors] = False
        ids = self.bundle.item_ids
        known = {} if statistics is None else statistics.bought_with([ids[a] for a in anchors])
        people = self._by_item(known)
        scores = people + _below_one(self._co_occurrence(anchors))
        rows = best_first(scores, allowed, most)
        title = "these"
        if len(anchors) == 1:
            title = self.bundle.quoted_title(int(anchors[0]))
        reasons = [
            f"bought together with {title}" if people[row] else f"often chosen with {title}"
            for row in rows
        ]
        return self._list(rows, scores, reasons, scenarios.TOGETHER)

    def _anchors(self, query: Query) -> np.ndarray:
        """Items that something is wanted beside."""
        if query.request.similar_to is not None:
            found, _ = self.bundle.items.find_some("similar_to", [query.request.similar_to])
            return found
        if not len(query.events):
            raise ConfigError(
                "similar_to: nothing is known that something could be bought with; name an item, "
                "or give a history"
            )
        return np.unique(query.events.items[-CART:])

    def _again(self, query: Query, _statistics: object, allowed: np.ndarray, most: int) -> ItemList:
        events, notes = query.events, list[str]()
        returned = events.types == EVENT_CODES[RETURN]
        bought = events.types == PURCHASE
        if not bought.any() and len(events):
            bought, notes = ~returned, [NO_PURCHASES]
        now = time.time() if np.isnan(query.now) else query.now
        scores, reasons = np.zeros(len(allowed)), dict[int, str]()
        for item in np.unique(events.items[bought]).tolist():
            own = events.items == item
            if returned[own & (bought | returned)][-1]:
                continue
            times = events.times[own & bought]
            scores[item], reasons[item] = _need(times, now)
        rows = best_first(scores, allowed, most)
        return self._list(rows, scores, [reasons[row] for row in rows], scenarios.AGAIN, notes)

    def _viewed(
        self, query: Query, _statistics: object, allowed: np.ndarray, most: int
    ) -> ItemList:
        events, notes = query.events, list[str]()
        viewed = np.isin(events.types, VIEWS)
        if not viewed.any() and len(events):
            viewed, notes = np.ones(len(events), dtype=bool), [NO_VIEWS]
        newest_first = events.items[viewed][::-1]
        scores = np.zeros(len(allowed))
        items, first = np.unique(newest_first, return_index=True)
        scores[items] = 1.0 / (1.0 + first)
        rows = best_first(scores, allowed, most)
        reasons = ["you looked at it lately"] * len(rows)
        return self._list(rows, scores, reasons, scenarios.VIEWED, notes)

    def _trending(
        self, query: Query, statistics: StoreStatistics | None, allowed: np.ndarray, most: int
    ) -> ItemList:
        now = time.time() if np.isnan(query.now) else query.now
        trends = {} if statistics is None else statistics.trends(now)
        weights = self._by_item({item_id: one.weight for item_id, one in trends.items()})
        scores = weights + _below_one(self._popularity())
        rows = best_first(scores, allowed, most)
        counts = [trends.get(self.bundle.item_ids[row]) for row in rows]
        reasons = ["popular" if one is None else f"chosen lately: {one.count}" for one in counts]
        notes = [] if scores.any() else [NO_COUNTS]
        return self._list(rows, scores, reasons, scenarios.TRENDING, notes)

    def _new(self, query: Query, _statistics: object, allowed: np.ndarray, most: int) -> ItemList:
        now = time.time() if np.isnan(query.now) else query.now
        age = now - self.bundle.items.available_from
        there = age >= 0  # False for NaN
        scores = np.where(there, np.exp2(-np.where(there, age, 0) / NEW_HALF_LIFE), 0.0)
        scores = np.where(there, np.maximum(scores, np.finfo(float).tiny), 0.0)
        order = np.lexsort((np.arange(len(age)), np.where(there, age, np.inf)))
        rows = order[(allowed & there)[order]][:most]
        notes = [] if there.any() else [NO_TIMES]
        return self._list(rows, scores, ["new"] * len(rows), scenarios.NEW, notes)

    def _list(
        self,
        rows: np.ndarray,
        scores: np.ndarray,
        reasons: list[str],
        name: str,
        notes: list[str] | None = None,
    ) -> ItemList:
        return ItemList(rows, scores[rows], reasons, [(name,)] * len(rows), notes or [])

    def _by_item(self, values: dict[str, int] | dict[str, float]) -> np.ndarray:
        """float64 ``[items]`` of values by identifier; 0 for the others."""
        found, index = np.zeros(len(self.bundle.items)), self.bundle.items.index
        for item_id, value in values.items():
            if item_id in index:
                found[index[item_id]] = value
        return found

    def _co_occurrence(self, anchors: np.ndarray) -> np.ndarray:
        """How much items are chosen with others, as the bundle learned: float64 ``[items]``."""
        n_items = len(self.bundle.items)
        if self.ranker is not None:
            similarity = self.ranker.model.snapshot.similarity(n_items)
            return np.asarray(similarity[anchors].sum(axis=0), dtype=np.float64).ravel()
        if self.bundle.prior is None:
            return np.zeros(n_items)
        ends = np.zeros(len(anchors), np.int64), anchors
        shape = (1, n_items)
        start = require("scipy.sparse", "eval").csr_matrix((np.ones(len(anchors)), ends), shape)
        found: np.ndarray = self.bundle.prior.scorer.graph.propagate(start).toarray()[0]
        return found

    def _popularity(self) -> np.ndarray:
        """How much items are chosen, as the bundle learned: float64 ``[items]``."""
        found = np.zeros(len(self.bundle.items))
        if self.ranker is not None:
            known = self.ranker.model.snapshot.popularity
            found[: len(known)] = known
        elif self.bundle.prior is not None:
            found[:] = self.bundle.prior.scorer.graph.out_weight
        return found


_Maker = Callable[[ScenarioLists, Query, StoreStatistics | None, np.ndarray, int], ItemList]
_MAKERS: dict[str, _Maker] = {
    scenarios.SIMILAR: ScenarioLists._similar,
    scenarios.TOGETHER: ScenarioLists._together,
    scenarios.AGAIN: ScenarioLists._again,
    scenarios.VIEWED: ScenarioLists._viewed,
    scenarios.TRENDING: ScenarioLists._trending,
    scenarios.NEW: ScenarioLists._new,
}


def _below_one(values: np.ndarray) -> np.ndarray:
    """Values from 0 on in [0, 1), in the same order."""
    return values / (1.0 + values.max(initial=0.0))


def _need(times: np.ndarray, now: float) -> tuple[float, str]:
    """How much something is needed again that was bought at some times, and why.

    Each purchase counts half as much for every :data:`NEED_HALF_LIFE`. Who bought it before a usual
    interval has passed needs it less.

    Args:
        times: float64 ``[purchases]``, ascending; NaN for unknown.

    >>> _need(np.array([0.0, 10 * DAY]), 20 * DAY)[1]
    'bought 2 times, about every 10 days'
    """
    count = len(times)
    bought = "bought before" if count == 1 else f"bought {count} times"
    known = times[~np.isnan(times)]
    if len(known) < count:
        return float(count), bought
    ages = np.maximum(now - known, 0.0)
    score = float(np.exp2(-ages / NEED_HALF_LIFE).sum())
    if count == 1 or known[-1] - known[0] < DAY:
        return max(score, 1e-9), bought
    interval = (known[-1] - known[0]) / (count - 1)
    due = min(1.0, (ages[-1] + DAY / 24) / interval)
    return max(score * due, 1e-9), f"{bought}, about every {max(1, round(interval / DAY))} days"
