"""From a request to the query that rankers answer: its history, its context, the items to rank."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.errors import ConfigError
from llmrec.generation.constraints import Constraints
from llmrec.ranking.ctr.model import ClickModel
from llmrec.recommender import top_n
from llmrec.serving.bundle import Bundle
from llmrec.serving.click_ranker import ClickRanker
from llmrec.serving.history import KnownAttributes, KnownHistories, read_history
from llmrec.serving.query import Query
from llmrec.serving.request import RecommendRequest
from llmrec.serving.timing import Stopwatch

if TYPE_CHECKING:
    from llmrec.serving.item_search import ItemSearch

QUERY_CANDIDATES = 100  # items closest to a query that are ranked

NOT_CALIBRATED = "not calibrated: the click model was not fitted to validation data"
NO_HISTORY = "no history: what is popular and the context alone decide"
NO_CONTEXT = "context: is read by a click model alone, and none ranks here"
NOT_EXPLAINED = "explain: names what moved the language model; a click model ranks here"
OTHER_ADAPTER = "adapter: the click model was fitted to scores of the model without an adapter"


class QueryReader:
    """Reads requests. Many threads may use one at once.

    Args:
        bundle: opened.
        histories, attributes, search: as of :class:`~llmrec.serving.recommender.Recommender`.
    """

    def __init__(
        self,
        bundle: Bundle,
        histories: KnownHistories | None,
        attributes: KnownAttributes | None,
        search: ItemSearch | None,
    ) -> None:
        self._bundle = bundle
        self._histories, self._attributes, self._search = histories, attributes, search

    def read(
        self, request: RecommendRequest, ranker: ClickRanker | None, watch: Stopwatch
    ) -> tuple[Query, list[str]]:
        """A request as the rankers read it, and notes on what they cannot use of it."""
        items = self._bundle.items
        llm = self._bundle.llm_of(request.adapter)
        now, context, notes = math.nan, np.zeros(0, dtype=np.int32), list[str]()
        if ranker is not None:
            now = time.time() if request.before is None else request.before
            known = self._attributes(request.user) if self._attributes and request.user else {}
            context, notes = _read_context(request.context or {}, known, ranker.model)
            if request.adapter is not None:
                notes.append(OTHER_ADAPTER)
        elif request.rerank:
            raise ConfigError(
                "rerank: only the list of a click model is re-ranked; none ranks here"
            )
        elif request.sources is not None:
            raise ConfigError("sources: only a click model has any; none ranks here")
        elif request.context:
            notes.append(NO_CONTEXT)
        if request.explain and ranker is not None:
            notes.append(NOT_EXPLAINED)
        now = request.now_in_seconds(now)
        config = None if ranker is None else ranker.model.history
        usual_type = "click" if config is None else config.types[0]
        # click models are fitted to what came before
        latest = math.nan if ranker is None else now
        before = float(np.fmin(latest, math.nan if request.before is None else request.before))
        events, left_out = read_history(request, self._histories, items, before, usual_type)
        notes = [*left_out, *notes]
        if ranker is not None and not ranker.model.calibrated:
            notes.insert(0, NOT_CALIBRATED)
        if ranker is not None and not len(events):
            notes.append(NO_HISTORY)
        positives = events.positives(config)
        constraints, unknown = items.constraints(request)
        notes += unknown
        if request.exclude_history:
            constraints = constraints.excluding(positives.items)
        chosen, similarity = self._chosen(request, constraints, watch, notes)
        query = Query(
            request, events, positives, now, context, constraints, chosen, similarity, None, llm,
            watch,
        )  # fmt: skip
        return query, notes

    def _chosen(
        self,
        request: RecommendRequest,
        constraints: Constraints,
        watch: Stopwatch,
        notes: list[str],
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The items to rank and their similarity to the query, where the request has any; adds a
        note on candidates that are not in the catalogue."""
        if request.candidates is not None:
            rows, unknown = self._bundle.items.find_some("candidates", request.candidates)
            notes += unknown
            return np.unique(rows), None
        if not request.is_search:
            return None, None
        count = max(QUERY_CANDIDATES, min(request.n, len(self._bundle.items)))
        with watch.step("retrieve"):
            return self._closest(request, constraints.passes(len(self._bundle.items)), count)

    def _closest(
        self, request: RecommendRequest, passes: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The items closest to the words or the picture of a request, and how close they are.

        Words are compared with the items' texts; with their pictures where a picture was sent, too,
        or the bundle has no texts.
        """
        vector = request.query_vector
        if vector is None and self._search is not None and not self._bundle.has_texts:
            vector = self._search.embed([], request.query)
        if vector is not None:
            if self._search is None:
                raise ConfigError("query_vector: there is no search index to compare it with")
            return self._search.nearest(vector, passes, count)
        similarity = self._bundle.text_similarity(request.query.strip())[None]
        similarity[0, ~passes] = -np.inf
        closest = top_n(similarity, count)
        there = closest.items[0] >= 0
        return closest.items[0][there], closest.scores[0][there]


def _read_context(
    context: Mapping[str, Any], attributes: Mapping[str, str], model: ClickModel
) -> tuple[np.ndarray, list[str]]:
    """A request's context, int32 ``[names]``, and notes on names that the model does not read.

    Args:
        attributes: of the user, where the context does not say otherwise.
    """
    known = model.context
    there = ", ".join(known.names) or "none"
    notes = [
        f"context: {name!r} is not read by the click model; it reads {there}"
        for name in context
        if name not in known.values
    ]
    given = {name: str(value) for name, value in context.items() if value is not None}
    return known.encode([{**attributes, **given}])[0], notes
