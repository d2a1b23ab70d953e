"""Answers requests with a bundle, whichever way they came in.

::

    recommender = Recommender.load("bundle", histories={"anna": ["item-17", "item-3"]})
    response = recommender.recommend(user="anna", n=5, context={"device": "mobile"})
    response.recommendations[0].item_id

What is ranked:

* ``candidates`` where the request names them;
* with a ``query``, the 100 items whose text is closest to it, of those that may be recommended;
* otherwise what the language model generates and, with a click model, further sources propose.

Who ranks: the click model wherever the bundle has one, unless the request says
``calibrated=False``; the language model otherwise. A query without a history is the one exception:
its items stay in the order of their closeness, and a click model only adds its probabilities.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from llmrec.errors import ConfigError
from llmrec.generation.constraints import Constraints
from llmrec.ranking.ctr.model import ClickModel
from llmrec.ranking.ctr.point_in_time import MOST_POSITIVES
from llmrec.recommender import top_n
from llmrec.serving.bundle import Bundle
from llmrec.serving.click_ranker import ClickRanker
from llmrec.serving.history import KnownHistories, read_history
from llmrec.serving.query import Query
from llmrec.serving.request import History, RecommendRequest, RecommendResponse
from llmrec.serving.timing import Stopwatch, timed_llm
from llmrec.types import Ranking, Recommendation

QUERY_CANDIDATES = 100  # items closest to a query that are ranked

NOT_CALIBRATED = "not calibrated: the click model was not fitted to validation data"
NO_HISTORY = "no history: what is popular and the context alone decide"
NOTHING_LEFT = "nothing in the catalogue is left to recommend"
NO_CONTEXT = "context: is read by a click model alone, and none ranks here"
OTHER_ADAPTER = "adapter: the click model was fitted to scores of the model without an adapter"


class Recommender:
    """A bundle that answers requests. Many threads may ask one at once.

    Args:
        bundle: opened.
        click_model: that of the bundle, opened; None to rank by the language model alone.
        histories: of users by name, or a function that gives one (None for an unknown user).

    Raises:
        ArtifactError: if bundle and click model do not belong together.
    """

    def __init__(
        self,
        bundle: Bundle,
        click_model: ClickModel | None = None,
        histories: KnownHistories | None = None,
    ) -> None:
        self.bundle, self.click_model, self.histories = bundle, click_model, histories
        self._click_ranker = None if click_model is None else ClickRanker(bundle, click_model)

    @classmethod
    def load(
        cls,
        bundle: str | Path | Bundle,
        *,
        histories: KnownHistories | None = None,
        beams: int = 50,
        cache_mib: int = 0,
        calibrated: bool = True,
        engine: Literal["onnx", "torch"] = "onnx",
        threads: int = 1,
    ) -> Self:
        """Open a bundle, and its click model where it has one.

        Args:
            bundle: a folder, or one that is opened already.
            histories: as for the class.
            beams, cache_mib: as for :class:`~llmrec.serving.bundle.Bundle`.
            calibrated: False leaves the click model closed.
            engine: what runs the click model's network.
            threads: of ONNX Runtime.

        Raises:
            ArtifactError: if the bundle is damaged.
            MissingExtraError: if there is a click model and ONNX Runtime is not installed.
        """
        if not isinstance(bundle, Bundle):
            bundle = Bundle(bundle, beams=beams, cache_mib=cache_mib)
        if bundle.ctr is None or not calibrated:
            return cls(bundle, None, histories)
        return cls(bundle, ClickModel.load(bundle.ctr, engine=engine, threads=threads), histories)

    def recommend(
        self, history: History | None = None, n: int = 10, **fields: Any
    ) -> RecommendResponse:
        """:meth:`answer` for the fields of a :class:`~llmrec.serving.request.RecommendRequest`."""
        return self.answer(RecommendRequest(history, n, **fields))

    def answer(self, request: RecommendRequest) -> RecommendResponse:
        """The ranked list for a request.

        Raises:
            CatalogError: for an item id that is not in the catalogue, or a name in ``where`` that
                no item has.
            ConfigError: for a field that makes no sense or that the bundle cannot serve.
        """
        ranker = self._click_ranker if request.calibrated else None
        query, notes = self._read(request, ranker)
        found = self._rank_by_llm(query) if ranker is None else ranker.rank(query)
        most = query.llm.max_events if ranker is None else min(MOST_POSITIVES, query.llm.max_events)
        read = min(len(query.positives), most)
        notes += _notes(len(query.positives), read, request.n, len(found))
        return RecommendResponse(found, len(query.events), read, notes, query.watch.timings_ms())

    def _read(
        self, request: RecommendRequest, ranker: ClickRanker | None
    ) -> tuple[Query, list[str]]:
        """A request as the rankers read it, and notes on what they cannot use of it."""
        watch, items = Stopwatch(), self.bundle.items
        llm = self.bundle.llm_of(request.adapter)
        now, context, notes = math.nan, np.zeros(0, dtype=np.int32), list[str]()
        if ranker is not None:
            now = time.time()
            context, notes = _read_context(request.context or {}, ranker.model)
            if request.adapter is not None:
                notes.append(OTHER_ADAPTER)
        elif request.rerank:
            raise ConfigError(
                "rerank: only the list of a click model is re-ranked; none ranks here"
            )
        elif request.context:
            notes.append(NO_CONTEXT)
        now = now if request.now is None else request.now
        config = None if ranker is None else ranker.model.history
        usual_type = "click" if config is None else config.types[0]
        before = math.nan if ranker is None else now  # click models are fitted to what came before
        events, left_out = read_history(request, self.histories, items, before, usual_type)
        notes = [*left_out, *notes]
        if ranker is not None and not ranker.model.calibrated:
            notes.insert(0, NOT_CALIBRATED)
        if ranker is not None and not len(events):
            notes.append(NO_HISTORY)
        positives = events.positives(config)
        constraints = items.constraints(request)
        if request.exclude_history:
            constraints = constraints.excluding(positives.items)
        chosen, similarity = self._chosen(request, constraints, watch)
        query = Query(
            request, events, positives, now, context, constraints, chosen, similarity, llm, watch
        )
        return query, notes

    def _chosen(
        self, request: RecommendRequest, constraints: Constraints, watch: Stopwatch
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The items to rank and their similarity to the query, where the request has any."""
        if request.candidates is not None:
            return np.unique(self.bundle.items.rows("candidates", request.candidates)), None
        words = request.query.strip()
        if not words:
            return None, None
        with watch.step("retrieve"):
            similarity = self.bundle.text_similarity(words)[None]
            similarity[0, ~constraints.passes(len(self.bundle.items))] = -np.inf
            count = max(QUERY_CANDIDATES, min(request.n, len(self.bundle.items)))
            closest = top_n(similarity, count)
        there = closest.items[0] >= 0
        return closest.items[0][there], closest.scores[0][there]

    def _rank_by_llm(self, query: Query) -> list[Recommendation]:
        """The list of the language model alone."""
        request, llm = query.request, timed_llm(query.llm, query.watch)
        histories = query.positives.histories(query.now)
        n = min(request.n, len(self.bundle.items))
        words, history = request.query.strip(), query.positives.items
        if query.items is None:
            ranking = llm.recommend(
                histories,
                n,
                exclude_history=False,
                constraints=[query.constraints],
                options=request.options,
            )
        elif query.similarity is not None and not len(history):
            ranking = Ranking(query.items[None], query.similarity[None])
        else:
            scores = llm.score_items(histories, query.items[None], options=request.options)
            found = top_n(scores, len(query.items))
            ranking = Ranking(query.items[found.items], found.scores)
        if words:
            likely = " and likely after this history" if len(history) else ""
            reason = f"close in meaning to {words!r}{likely}"
        elif len(history):
            reason = f"likely to follow {self.bundle.titles[history[-1]]!r}"
        else:
            reason = "popular with everyone; there is no history to go by"
        return self.bundle.items.named(ranking, n, reason)


def _read_context(context: Mapping[str, Any], model: ClickModel) -> tuple[np.ndarray, list[str]]:
    """A request's context, int32 ``[names]``, and notes on names that the model does not read."""
    known = model.context
    there = ", ".join(known.names) or "none"
    notes = [
        f"context: {name!r} is not read by the click model; it reads {there}"
        for name in context
        if name not in known.values
    ]
    values = {name: str(value) for name, value in context.items() if value is not None}
    return known.encode([values])[0], notes


def _notes(given: int, read: int, n: int, found: int) -> list[str]:
    """Notes on a history that was not read whole and on a list that is not full."""
    notes = []
    if read < given:
        notes.append(
            f"the model reads the newest {read} events of a history; the oldest {given - read} "
            f"of {given} were left out"
        )
    if found == 0:
        notes.append(NOTHING_LEFT)
    elif found < n:
        notes.append(f"only {found} of {n} items: no more are left to recommend")
    return notes
