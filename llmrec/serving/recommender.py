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
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from llmrec.errors import LlmrecError
from llmrec.ranking.ctr.model import ClickModel
from llmrec.ranking.ctr.point_in_time import MOST_POSITIVES
from llmrec.serving.bundle import Bundle
from llmrec.serving.click_ranker import ClickRanker
from llmrec.serving.history import KnownAttributes, KnownHistories
from llmrec.serving.item_list import ItemList
from llmrec.serving.language_ranker import HYBRID, LANGUAGE_MODEL, LanguageRanker
from llmrec.serving.paging import Page, read_cursor
from llmrec.serving.query import Query
from llmrec.serving.query_reader import NO_HISTORY, QueryReader
from llmrec.serving.request import DEFAULT_N, History, RecommendRequest, RecommendResponse
from llmrec.serving.scenario_lists import ScenarioLists
from llmrec.serving.scenarios import HOME, SIMILAR, resolved
from llmrec.serving.similar import SimilarItems
from llmrec.serving.statistics import StoreStatistics
from llmrec.serving.timing import Stopwatch
from llmrec.types import Recommendation

if TYPE_CHECKING:
    from llmrec.serving.item_search import ItemSearch

LOG = logging.getLogger(__name__)
CLICK_MODEL = "click_model"
MOST_THREADS = 16  # that rank side by side

NOTHING_LEFT = "nothing in the catalogue is left to recommend"


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

    @cached_property
    def language_ranker(self) -> LanguageRanker:
        """Ranks where the click model does not."""
        return LanguageRanker(self.bundle)


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

    @property
    def _reader(self) -> QueryReader:
        return QueryReader(self.bundle, self.histories, self.attributes, self.search)

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
            if self._ranked_by(inner) in (CLICK_MODEL, HYBRID, LANGUAGE_MODEL):
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
        return self.version.language_ranker.name

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
        read = [self._reader.read(request, ranker, watch) for request in requests]
        queries = [query for query, _ in read]
        lists = (ranker or self.version.language_ranker).rank_all(queries)
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
        query, notes = self._reader.read(request, ranker, watch)
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
        prompt_tokens = query.llm.encoder.prompt_tokens(given)
        item_tokens = len(found) * query.llm.ids.levels
    notes = notes + _notes(given, read, n, len(found))
    usage = _usage(prompt_tokens, item_tokens)
    return RecommendResponse(found, len(query.events), read, notes, usage, timings, version)


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


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
