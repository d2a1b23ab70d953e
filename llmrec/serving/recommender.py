"""Answers requests with a bundle, whichever way they came in.

::

    recommender = Recommender.load("bundle", histories={"anna": ["item-17", "item-3"]})
    response = recommender.recommend(user="anna", n=5, context={"device": "mobile"})
    response.recommendations[0].item_id

What is ranked:

* ``candidates`` where the request names them;
* with a ``query``, the 100 items whose text is closest to it, of those that may be recommended;
  with a picture, those that look like it;
* otherwise what the language model generates, or an item graph beside it leads to, and what, with
  a click model, further sources propose.

Who ranks: the click model wherever the bundle has one, unless the request says
``calibrated=False``; otherwise the language model, with the item graph where the bundle has one. A
query without a history is the one exception: its items stay in the order of their closeness, and a
click model only adds its probabilities.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from llmrec.errors import ConfigError, LlmrecError
from llmrec.generation.constraints import Constraints
from llmrec.ranking.ctr.model import ClickModel
from llmrec.ranking.ctr.point_in_time import MOST_POSITIVES
from llmrec.recommender import top_n
from llmrec.serving.bundle import Bundle
from llmrec.serving.click_ranker import ClickRanker
from llmrec.serving.explanation import cross_domain_reasons
from llmrec.serving.history import KnownAttributes, KnownHistories, read_history
from llmrec.serving.item_list import ItemList
from llmrec.serving.paging import Page, read_cursor
from llmrec.serving.query import Query
from llmrec.serving.request import DEFAULT_N, History, RecommendRequest, RecommendResponse
from llmrec.serving.scenario_lists import ScenarioLists
from llmrec.serving.scenarios import HOME, SIMILAR, resolved
from llmrec.serving.similar import SimilarItems
from llmrec.serving.statistics import StoreStatistics
from llmrec.serving.timing import Stopwatch, timed_llm
from llmrec.types import Histories, Ranking, Recommendation

if TYPE_CHECKING:
    from llmrec.generation.llm import Llm
    from llmrec.generation.vllm_adapters import AdaptedVllm
    from llmrec.ranking.hybrid.recommender import HybridLlm
    from llmrec.serving.item_search import ItemSearch

LOG = logging.getLogger(__name__)
CLICK_MODEL, LANGUAGE_MODEL = "click_model", "language_model"
MOST_THREADS = 16  # that rank side by side
QUERY_CANDIDATES = 100  # items closest to a query that are ranked

NOT_CALIBRATED = "not calibrated: the click model was not fitted to validation data"
NO_HISTORY = "no history: what is popular and the context alone decide"
NOTHING_LEFT = "nothing in the catalogue is left to recommend"
NO_CONTEXT = "context: is read by a click model alone, and none ranks here"
NOT_EXPLAINED = "explain: names what moved the language model; a click model ranks here"
OTHER_ADAPTER = "adapter: the click model was fitted to scores of the model without an adapter"


@dataclass(frozen=True, eq=False)
class Version:
    """All that ranks one version of a catalogue; it never changes."""

    bundle: Bundle
    click_ranker: ClickRanker | None

    @cached_property
    def lists(self) -> ScenarioLists:
        """Makes the lists of scenarios."""
        similar = SimilarItems(self.bundle, self.click_ranker)
        return ScenarioLists(self.bundle, self.click_ranker, similar)


class Recommender:
    """A bundle that answers requests. Many threads may ask one at once.

    Its catalogue may change while it answers: each request is answered with the version that it
    began with.

    Args:
        bundle: opened.
        click_model: that of the bundle, opened; None to rank by the language model alone.
        histories: of users by name, or a function that gives one (None for an unknown user).
        attributes: what is known of a user by name, such as ``{"membership": "gold"}``; a click
            model reads it beside the context of a request.
        statistics: what people do lately; None goes by what the bundle learned.
        search: what finds items by a picture; None to find them by words alone.

    Raises:
        ArtifactError: if bundle and click model do not belong together.
    """

    def __init__(
        self,
        bundle: Bundle,
        click_model: ClickModel | None = None,
        histories: KnownHistories | None = None,
        attributes: KnownAttributes | None = None,
        statistics: StoreStatistics | None = None,
        search: ItemSearch | None = None,
    ) -> None:
        self.search = search
        self.histories, self.attributes = histories, attributes
        self.statistics = statistics
        ranker = None if click_model is None else ClickRanker(bundle, click_model)
        self.version = Version(bundle, ranker)
        threads = min(MOST_THREADS, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(threads, "llmrec-ranking")

    @property
    def bundle(self) -> Bundle:
        """As its catalogue is now."""
        return self.version.bundle

    @property
    def click_model(self) -> ClickModel | None:
        """As its items are now; None where none ranks."""
        ranker = self._click_ranker
        return None if ranker is None else ranker.model

    @property
    def _click_ranker(self) -> ClickRanker | None:
        return self.version.click_ranker

    def pinned(self) -> Self:
        """The same over the catalogue as it is now, whatever becomes of it."""
        return copy.copy(self)

    @classmethod
    def load(
        cls,
        bundle: str | Path | Bundle,
        *,
        histories: KnownHistories | None = None,
        attributes: KnownAttributes | None = None,
        statistics: StoreStatistics | None = None,
        search: str | Path | None = None,
        beams: int = 50,
        cache_mib: int = 0,
        calibrated: bool = True,
        engine: Literal["onnx", "torch"] = "onnx",
        threads: int = 1,
        verify: bool = True,
    ) -> Self:
        """Open a bundle, and its click model where it has one.

        Args:
            bundle: a folder, or one that is opened already.
            histories, attributes, statistics: as for the class.
            search: folder of ``llmrec search index``, of the same items; None for none.
            beams, cache_mib, verify: as for :class:`~llmrec.serving.bundle.Bundle`.
            calibrated: False leaves the click model closed.
            engine: what runs the click model's network.
            threads: of ONNX Runtime.

        Raises:
            ArtifactError: if the bundle is damaged.
            MissingExtraError: if there is a click model and ONNX Runtime is not installed.
        """
        if not isinstance(bundle, Bundle):
            bundle = Bundle(bundle, beams=beams, cache_mib=cache_mib, verify=verify)
        click_model = None
        if bundle.ctr is not None and calibrated:
            click_model = ClickModel.load(bundle.ctr, engine=engine, threads=threads)
        found = None
        if search is not None:
            from llmrec.serving.item_search import ItemSearch

            found = ItemSearch.load(Path(search), bundle.items)
        return cls(bundle, click_model, histories, attributes, statistics, found)

    def recommend(
        self, history: History | None = None, n: int = DEFAULT_N, **fields: Any
    ) -> RecommendResponse:
        """:meth:`answer` for the fields of a :class:`~llmrec.serving.request.RecommendRequest`."""
        return self.answer(RecommendRequest(history, n, **fields))

    def similar(self, item_id: str, n: int = DEFAULT_N, **fields: Any) -> RecommendResponse:
        """The items most like one: :meth:`answer` for a request of ``similar_to``."""
        return self.answer(RecommendRequest(None, n, similar_to=item_id, **fields))

    def answer(self, request: RecommendRequest) -> RecommendResponse:
        """The ranked list for a request.

        Raises:
            CatalogError: if none of the items of a list is in the catalogue, or for a name in
                ``where`` that no item has.
            ConfigError: for a field that makes no sense or that the bundle cannot serve.
        """
        pinned = self.pinned()
        page, inner = pinned._begin(request)
        return pinned._end(request, page, pinned._answer_one(inner))

    def answer_all(
        self, request: RecommendRequest, users: Sequence[str]
    ) -> list[RecommendResponse]:
        """The lists of several users for the same request, worked out together.

        Args:
            users: whose histories to take, in place of the request's own.

        Raises:
            CatalogError, ConfigError: as for :meth:`answer`.
        """
        pinned = self.pinned()
        request = resolved(request, pinned.bundle.scenarios)
        own = [replace(request, history=None, user=user) for user in users]
        if request.scenario != HOME:
            return [pinned._answer_one(one) for one in own]
        return pinned._answer(own)

    def answer_each(
        self, requests: Sequence[RecommendRequest]
    ) -> list[RecommendResponse | Exception]:
        """The answers to any requests at once, worked out together as far as they are alike;
        those of ``similar_to`` side by side.

        Returns:
            for each its response, or what :meth:`answer` would have raised.
        """
        return self.pinned()._answer_each(requests)

    def _answer_each(
        self, requests: Sequence[RecommendRequest]
    ) -> list[RecommendResponse | Exception]:
        found: dict[int, RecommendResponse | Exception] = {}
        begun: dict[int, tuple[Page, RecommendRequest]] = {}
        groups: dict[Any, list[int]] = {}
        alone: list[int] = []
        for row, request in enumerate(requests):
            try:
                begun[row] = self._begin(request)
            except LlmrecError as error:
                found[row] = error
                continue
            inner = begun[row][1]
            if self._ranked_by(inner) in (CLICK_MODEL, "hybrid", LANGUAGE_MODEL):
                groups.setdefault(self._group(inner), []).append(row)
            else:
                alone.append(row)
        side_by_side = self._threads.map(self._answer_or_error, [begun[row][1] for row in alone])
        found |= zip(alone, side_by_side, strict=True)
        for rows in groups.values():
            found |= zip(rows, self._answer_group([begun[row][1] for row in rows]), strict=True)
        for row, (page, _) in begun.items():
            answer = found[row]
            if not isinstance(answer, Exception):
                found[row] = self._end(requests[row], page, answer)
        return [found[row] for row in range(len(requests))]

    def _begin(self, request: RecommendRequest) -> tuple[Page, RecommendRequest]:
        """The page that a request asks for, and the request of the list that it is part of."""
        bundle = self.bundle
        if request.cursor is None:
            page, inner = Page(np.zeros(0, np.int64), time.time()), request
        else:
            page = read_cursor(request, request.cursor, len(bundle.items), bundle.lineage)
            inner = page.widened(request)
        return page, resolved(inner, bundle.scenarios)

    def _end(
        self, request: RecommendRequest, page: Page, response: RecommendResponse
    ) -> RecommendResponse:
        """The page out of its list."""
        return page.cut(request, response, self.bundle.items.index, self.bundle.lineage)

    def _answer_one(self, request: RecommendRequest) -> RecommendResponse:
        """The answer to a request whose scenario is resolved."""
        return self._answer([request])[0] if request.scenario == HOME else self._listed(request)

    def ranked_by(self, request: RecommendRequest) -> str:
        """Who ranks the list of a request: a model, or the scenario where it has an order of its
        own."""
        return self._ranked_by(resolved(request, self.bundle.scenarios))

    def _ranked_by(self, request: RecommendRequest) -> str:
        if request.scenario != HOME:
            return str(request.scenario)
        if self._click_ranker is not None and request.calibrated:
            return CLICK_MODEL
        return LANGUAGE_MODEL if self.bundle.prior is None else "hybrid"

    @property
    def sources(self) -> list[str]:
        """Names of the sources of candidates; none without a click model."""
        ranker = self._click_ranker
        return [] if ranker is None else [source.name for source in ranker.sources]

    def _group(self, request: RecommendRequest) -> Any:
        """What requests must have in common to be answered together."""
        if self._ranked_by(request) == CLICK_MODEL:
            return CLICK_MODEL, request.adapter, request.options
        # a request for more items than there are beams has a wider search of its own
        wide = request.n if request.n > self.bundle.llm.options.beams else 0
        searches = request.candidates is None and not request.is_search
        return request.adapter, request.options, wide, searches

    def _answer_group(
        self, requests: list[RecommendRequest]
    ) -> list[RecommendResponse | Exception]:
        """Answers to one group; what goes wrong with a request stays with it."""
        if len(requests) > 1:
            try:
                return list(self._answer(requests))
            except Exception:  # each for itself says which it was
                LOG.debug("a batch of %d requests failed", len(requests), exc_info=True)
        return [self._answer_or_error(request) for request in requests]

    def _answer_or_error(self, request: RecommendRequest) -> RecommendResponse | Exception:
        try:
            return self._answer_one(request)
        except Exception as error:
            return error

    def _answer(self, requests: list[RecommendRequest]) -> list[RecommendResponse]:
        """Answers to requests of one group."""
        ranker, watch = self._click_ranker if requests[0].calibrated else None, Stopwatch()
        read = [self._read(request, ranker, watch) for request in requests]
        queries = [query for query, _ in read]
        lists = self._rank_by_llm(queries) if ranker is None else ranker.rank_all(queries)
        most = queries[0].llm.max_events
        most = most if ranker is None else min(MOST_POSITIVES, most)
        timings = watch.timings_ms()
        return [
            _response(query, found, notes, most, timings, self.bundle.catalog_version)
            for (query, notes), found in zip(read, lists, strict=True)
        ]

    def _listed(self, request: RecommendRequest) -> RecommendResponse:
        """The answer to a request whose scenario has an order of its own; a click model adds its
        probabilities."""
        ranker, watch = self._click_ranker if request.calibrated else None, Stopwatch()
        query, notes = self._read(request, ranker, watch)
        with watch.step("retrieve"):
            listed = self.version.lists.make(query, self.statistics)
        if ranker is None:
            found = self.bundle.items.listed(listed, request.n)
        else:
            found = self._with_probabilities(ranker, query, listed)
        notes = [note for note in notes if note != NO_HISTORY] + listed.notes
        if len(found) < request.n:
            why = "no more are known to be like it" if request.scenario == SIMILAR else "it ends"
            notes.append(f"only {len(found)} of {request.n} items: {why}")
        timings, version = watch.timings_ms(), self.bundle.catalog_version
        given = len(query.events)
        return RecommendResponse(found, given, 0, notes, _usage(0, 0), timings, version)

    def _with_probabilities(
        self, ranker: ClickRanker, query: Query, listed: ItemList
    ) -> list[Recommendation]:
        scored = replace(query, items=listed.items, given_order=listed.scores)
        place = {self.bundle.item_ids[item]: at for at, item in enumerate(listed.items.tolist())}
        return [
            replace(
                one, reason=listed.reasons[place[one.item_id]],
                sources=tuple(listed.sources[place[one.item_id]]),
            )
            for one in ranker.rank(scored)
        ]  # fmt: skip

    def _read(
        self, request: RecommendRequest, ranker: ClickRanker | None, watch: Stopwatch
    ) -> tuple[Query, list[str]]:
        """A request as the rankers read it, and notes on what they cannot use of it."""
        items = self.bundle.items
        llm = self.bundle.llm_of(request.adapter)
        now, context, notes = math.nan, np.zeros(0, dtype=np.int32), list[str]()
        if ranker is not None:
            now = time.time() if request.before is None else request.before
            known = self.attributes(request.user) if self.attributes and request.user else {}
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
        events, left_out = read_history(request, self.histories, items, before, usual_type)
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
            rows, unknown = self.bundle.items.find_some("candidates", request.candidates)
            notes += unknown
            return np.unique(rows), None
        if not request.is_search:
            return None, None
        count = max(QUERY_CANDIDATES, min(request.n, len(self.bundle.items)))
        with watch.step("retrieve"):
            return self._closest(request, constraints.passes(len(self.bundle.items)), count)

    def _closest(
        self, request: RecommendRequest, passes: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The items closest to the words or the picture of a request, and how close they are.

        Words are compared with the items' texts; with their pictures where a picture was sent, too,
        or the bundle has no texts.
        """
        vector = request.query_vector
        if vector is None and self.search is not None and not self.bundle.has_texts:
            vector = self.search.embed([], request.query)
        if vector is not None:
            if self.search is None:
                raise ConfigError("query_vector: there is no search index to compare it with")
            return self.search.nearest(vector, passes, count)
        similarity = self.bundle.text_similarity(request.query.strip())[None]
        similarity[0, ~passes] = -np.inf
        closest = top_n(similarity, count)
        there = closest.items[0] >= 0
        return closest.items[0][there], closest.scores[0][there]

    def _rank_by_llm(self, queries: list[Query]) -> list[list[Recommendation]]:
        """The lists of the language model alone."""
        if queries[0].items is None:
            rankings = self._search(queries)
        else:
            rankings = [self._order(query) for query in queries]
        lists = [
            self.bundle.items.named(
                ranking, query.request.n, self._reason(query), (self._ranked_by(query.request),)
            )
            for query, ranking in zip(queries, rankings, strict=True)
        ]
        return [
            self._explained(query, found) if query.request.explain else found
            for query, found in zip(queries, lists, strict=True)
        ]

    def _explained(self, query: Query, found: list[Recommendation]) -> list[Recommendation]:
        """A list whose reasons also name the item of another shop that moved each item."""
        if not found or not len(query.positives):
            return found
        table = self.bundle.items
        items = np.array([table.index[one.item_id] for one in found])
        histories = query.positives.histories(query.now)
        moved = cross_domain_reasons(self._ranker_of(query), histories, items, table)
        return [
            replace(one, reason=f"{one.reason}; {more}") if more else one
            for one, more in zip(found, moved, strict=True)
        ]

    def _search(self, queries: list[Query]) -> list[Ranking]:
        """What the language model finds in the catalogue."""
        first = queries[0]
        found = self._ranker_of(first).recommend(
            Histories.concatenate([query.positives.histories(query.now) for query in queries]),
            min(max(query.request.n for query in queries), len(self.bundle.items)),
            exclude_history=False,
            constraints=[query.constraints for query in queries],
            options=first.request.options,
        )
        return [
            Ranking(found.items[row : row + 1], found.scores[row : row + 1])
            for row in range(len(queries))
        ]

    def _order(self, query: Query) -> Ranking:
        """The items of a query, ranked."""
        items = query.items
        assert items is not None
        if query.similarity is not None and not len(query.positives):
            return Ranking(items[None], query.similarity[None])
        histories = query.positives.histories(query.now)
        scores = self._ranker_of(query).score_items(
            histories, items[None], options=query.request.options
        )
        found = top_n(scores, len(items))
        return Ranking(items[found.items], found.scores)

    def _ranker_of(self, query: Query) -> Llm | AdaptedVllm | HybridLlm:
        """The language model of a query, with the item graph where the bundle has one."""
        llm = timed_llm(query.llm, query.watch)
        if self.bundle.prior is None:
            return llm
        from llmrec.ranking.hybrid.recommender import with_prior

        return with_prior(llm, self.bundle.prior)

    def _reason(self, query: Query) -> str:
        """Why the language model's items are recommended."""
        close, history = query.request.closeness, query.positives.items
        if close:
            return close + (" and likely after this history" if len(history) else "")
        if len(history):
            return f"likely to follow {self.bundle.titles[history[-1]]!r}"
        return "popular with everyone; there is no history to go by"


def _response(
    query: Query,
    found: list[Recommendation],
    notes: list[str],
    most: int,
    timings: dict[str, float],
    version: str,
) -> RecommendResponse:
    """The answer to a query.

    Args:
        most: events that the model reads.
        timings: milliseconds by step.
        version: of the catalogue.
    """
    given, n, prompt_tokens, item_tokens = len(query.positives), query.request.n, 0, 0
    read = min(given, most)
    if "llm" in timings:
        (prompt,) = query.llm.prompts(query.positives.histories(query.now))
        prompt_tokens, item_tokens = len(prompt), len(found) * query.llm.ids.levels
    notes = notes + _notes(given, read, n, len(found))
    usage = _usage(prompt_tokens, item_tokens)
    return RecommendResponse(found, len(query.events), read, notes, usage, timings, version)


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


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
