"""The cascade of a bundle with a click model: candidates, click probability, re-ranking, reasons.

1. Candidate sources propose items (or the request names them) and score them; one source is the
   language model.
2. The click model reads these scores, the items, the history and the context.
3. Items are ordered by calibrated probability of a click, then re-ranked.
4. The probability is given for the rank at which an item ends up.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.errors import ArtifactError
from llmrec.ranking.ctr.model import CATEGORY, POSITION, ClickModel, at_position
from llmrec.ranking.ctr.point_in_time import MOST_POSITIVES
from llmrec.ranking.ctr.request_context import DAY, RequestContext
from llmrec.ranking.ctr.settings import STARS
from llmrec.ranking.rerank import RerankConfig, rerank
from llmrec.ranking.retrieval.candidates import Candidates, candidates, explain
from llmrec.ranking.retrieval.catalogue import Catalogue
from llmrec.ranking.retrieval.generated import Generated
from llmrec.ranking.retrieval.source import Source
from llmrec.ranking.retrieval.source_features import SourceFeatures, source_features
from llmrec.ranking.retrieval.sources import make_sources, source_names
from llmrec.serving.query import Query
from llmrec.serving.timing import timed_llm
from llmrec.types import Histories, Recommendation

if TYPE_CHECKING:
    from llmrec.serving.bundle import Bundle

_PRICE_RATIO = math.log(1.25)  # a price within a quarter of the user's mean is like it
_MIN_PRICES = 3
AT_ONCE = 16  # requests that go to the network together, while the next ones are made ready


class ClickRanker:
    """Ranks by a bundle's click model. Threads may use one at once.

    Args:
        bundle: opened.
        model: its click model, opened.

    Attributes:
        sources: of candidates, the language model without adapter among them.

    Raises:
        ArtifactError: if bundle and click model do not belong together.
    """

    def __init__(self, bundle: Bundle, model: ClickModel) -> None:
        self.bundle, self.model = bundle, model
        items, names = model.item_features, model.card.sources
        if items.n_items != len(bundle.items):
            raise ArtifactError(
                f"{model.folder}: knows {items.n_items} items, the bundle {len(bundle.items)}; "
                "run llmrec ctr and llmrec bundle again"
            )
        self._reads_llm = Generated.name in names
        self._catalogue = Catalogue(
            items.fused,
            model.retrieval,
            model=bundle.llm if self._reads_llm else None,
            available_from=np.where(
                np.isfinite(items.available_from), items.available_from, np.nan
            ),
        )
        if source_names(self._catalogue) != names:
            raise ArtifactError(
                f"{model.folder}: reads the sources {', '.join(names)}, and there are "
                f"{', '.join(source_names(self._catalogue))}; run llmrec ctr again"
            )
        self._grown = self._catalogue  # with the items that came since
        self.sources = make_sources(self._grown, model.snapshot)

    def changed(self, bundle: Bundle, model: ClickModel) -> ClickRanker:
        """The same over a changed catalogue; known vectors are not indexed again.

        Args:
            bundle: over that catalogue.
            model: over it; items may follow those that this ranker was made with, with other
                vectors each time. Known ones keep theirs.
        """
        changed = copy.copy(self)
        changed.bundle, changed.model = bundle, model
        items, known = model.item_features, self._catalogue.n_items
        catalogue = self._catalogue.with_items(items.fused[known:])
        catalogue.available_from = np.where(
            np.isfinite(items.available_from), items.available_from, np.nan
        )
        changed._grown = catalogue.with_model(bundle.llm if self._reads_llm else None)
        changed.sources = make_sources(changed._grown, model.snapshot)
        return changed

    def rank(self, query: Query) -> list[Recommendation]:
        """The first n candidates of a request in their order."""
        return self.rank_all([query])[0]

    def rank_all(self, queries: Sequence[Query]) -> list[list[Recommendation]]:
        """The same for requests of one adapter and way to search, worked out together as far as
        they have the same filter."""
        lists: list[list[Recommendation]] = [[] for _ in queries]
        groups: dict[Any, list[int]] = {}
        for row, query in enumerate(queries):
            own = query.constraints.allow, query.request.exclude_history, None
            groups.setdefault(own if query.items is None else row, []).append(row)
        parts = [
            rows[start : start + AT_ONCE]
            for rows in groups.values()
            for start in range(0, len(rows), AT_ONCE)
        ]
        begun = [self._rank_together([queries[row] for row in rows]) for rows in parts]
        for rows, some in zip(parts, begun, strict=True):
            for row, found in zip(rows, some, strict=True):
                lists[row] = found
        return lists

    def _rank_together(self, queries: Sequence[Query]) -> Iterator[list[Recommendation]]:
        """Lists of requests that search with one filter, or of one that does not search; by then
        the network has begun to score them."""
        first, watch = queries[0], queries[0].watch
        if first.items is not None and not len(first.items):
            return iter([[]])
        sources = self._sources_of(first)
        histories = Histories.concatenate([_read_events(query) for query in queries])
        with watch.step("retrieve"):
            found = [
                candidates
                if query.request.sources is None or query.items is not None
                else candidates.proposed_by(query.request.sources)
                for query, candidates in zip(
                    queries, self._candidates(sources, histories, queries), strict=True
                )
            ]
        scored = self._score(found, queries)

        def lists() -> Iterator[list[Recommendation]]:
            for query, one in zip(queries, found, strict=True):
                with watch.step("head"):
                    scores = next(scored)
                yield self._listed(query, sources, one, *scores) if len(one) else []

        return lists()

    def _listed(
        self,
        query: Query,
        sources: list[Source],
        found: Candidates,
        logits: np.ndarray,
        bias: np.ndarray,
    ) -> list[Recommendation]:
        """The list of a request whose candidates are scored."""
        with query.watch.step("head"):
            value = self._value(found, logits)
        if query.similarity is not None and not len(query.positives):
            value = query.similarity.astype(np.float64)
        if query.given_order is not None:
            value = query.given_order
        with query.watch.step("rerank"):
            rows = self._reranked(found.items, value, query)
            position = np.arange(len(rows))
            fields = self._calibration_fields(found.items[rows], position)
            at_rank = logits[rows, 0] + at_position(bias[None], position[None])[0]
            p_click = self.model.probabilities(at_rank, fields)
            reasons = self._reasons(sources, found, rows, _read_events(query).items, query)
        return [
            self._recommendation(found, int(row), rank, logits, value, p_click, reasons)
            for rank, row in enumerate(rows)
        ]

    def _sources_of(self, query: Query) -> list[Source]:
        """The sources, the language model being the one that the request names."""
        if not self._reads_llm:
            return self.sources
        options = query.request.options
        if options is not None:  # scores stay those that the click model was fitted to
            fitted = query.llm.options
            options = replace(options, normalise=fitted.normalise, temperature=fitted.temperature)
        llm = timed_llm(query.llm, query.watch, options)
        generated = Generated(self._grown.with_model(llm), self.model.snapshot)
        return [generated if source.name == Generated.name else source for source in self.sources]

    def _candidates(
        self, sources: list[Source], histories: Histories, queries: Sequence[Query]
    ) -> list[Candidates]:
        config, first = self.model.retrieval, queries[0]
        if first.items is None:
            return candidates(
                sources,
                histories,
                config.k,
                config.limit,
                [query.constraints for query in queries],
                exclude_history=first.request.exclude_history,
            )
        features = source_features(sources, histories, first.items[None], config.k)[0]
        return [Candidates(first.items, features, features.rank >= 0, np.zeros(len(first.items)))]

    def _score(
        self, found: Sequence[Candidates], queries: Sequence[Query]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each request logits ``[c, tasks]`` and the bias of positions ``[positions]``, as soon
        as they are known: a list is made while the network goes on with the next ones."""
        model, watch = self.model, queries[0].watch
        width = max(len(one) for one in found)
        if not width:
            return iter([(np.zeros((0, len(model.tasks))), np.zeros(1))] * len(found))
        items = np.full((len(found), width), -1, dtype=np.int64)
        for row, one in enumerate(found):
            items[row, : len(one)] = one.items
        with watch.step("features"):
            contexts = [
                query.events.request_context(model.history, query.now, query.context)
                for query in queries
            ]
            inputs = model.builder(
                RequestContext.concatenate(contexts),
                items,
                np.full(items.shape, -1),
                SourceFeatures.stacked([one.features for one in found]),
                model.item_features.totals[items],
            )
        scores = zip(found, model.networks.each(inputs), strict=True)
        return ((logits[: len(one)], bias) for one, (logits, bias) in scores)

    def _value(self, found: Candidates, logits: np.ndarray) -> np.ndarray:
        """What each candidate is ranked by, ``[c]``."""
        fields = self._calibration_fields(found.items, np.full(len(found), -1))
        p_click = self.model.probabilities(logits[:, 0], fields)
        llm = found.features.score[:, 0].astype(np.float64) if self._reads_llm else None
        return self.model.value(p_click, logits, llm)

    def _calibration_fields(self, items: np.ndarray, position: np.ndarray) -> dict[str, np.ndarray]:
        category = self.model.item_features.category[items].astype(np.int64)
        return {CATEGORY: category, POSITION: position}

    def _reranked(self, items: np.ndarray, value: np.ndarray, query: Query) -> np.ndarray:
        config, known = query.request.rerank, self.model.item_features
        if not isinstance(config, RerankConfig):
            usual = RerankConfig() if query.given_order is not None else self.bundle.rerank
            config = usual.overridden(config) if config else usual
        age = (query.now - known.available_from[items]) / DAY  # -inf for what was always there
        return rerank(
            config,
            value,
            query.request.n,
            vectors=known.fused[items] if config.diversity else None,
            category=known.category[items],
            age_days=np.where(np.isfinite(age), age, np.nan),
        )

    def _reasons(
        self,
        sources: list[Source],
        found: Candidates,
        rows: np.ndarray,
        history: np.ndarray,
        query: Query,
    ) -> list[str]:
        """Why each of some candidates is recommended, in a few true words."""
        close = query.request.closeness
        usual_price = self._usual_price(history)
        prices = self.model.item_features.price[found.items[rows]].tolist()
        reasons = []
        for row, price in zip(rows.tolist(), prices, strict=True):
            reason = explain(sources, found, row, history, self.bundle.quoted_title)
            if close:
                reason = close + (f"; {reason}" if reason else "")
            elif not reason:
                reason = "chosen for you" if len(history) else "chosen for this visit"
            if usual_price is not None and price > 0:  # NaN is not
                is_like = abs(math.log(price) - usual_price) <= _PRICE_RATIO
                reason += ", at a price that is usual for you" if is_like else ""
            reasons.append(reason)
        return reasons

    def _usual_price(self, history: np.ndarray) -> float | None:
        """Mean logarithm of the prices of a history, or None where too few are known."""
        prices = self.model.item_features.price[history]
        prices = prices[prices > 0]  # NaN is not
        return float(np.log(prices).mean()) if len(prices) >= _MIN_PRICES else None

    def _recommendation(
        self,
        found: Candidates,
        row: int,
        rank: int,
        logits: np.ndarray,
        value: np.ndarray,
        p_click: np.ndarray,
        reasons: list[str],
    ) -> Recommendation:
        item, tasks, p = int(found.items[row]), self.model.tasks, float(p_click[rank])
        more: dict[str, Any] = {}
        if "purchase" in tasks:
            more["p_purchase"] = p / (1 + math.exp(-logits[row, tasks.index("purchase")]))
        if "rating" in tasks:
            stars = float(logits[row, tasks.index("rating")]) + STARS
            more["expected_rating"] = min(max(stars, 1.0), 5.0)
        logp = float(found.features.score[row, 0]) if self._reads_llm else math.nan
        if math.isfinite(logp):
            more["llm_logp"] = logp
        return Recommendation(
            item_id=self.bundle.item_ids[item],
            title=self.bundle.titles[item],
            rank=rank + 1,
            score=float(value[row]),
            reason=reasons[rank],
            p_click=p,
            sources=tuple(found.sources_of(row)),
            **more,
        )


def _read_events(query: Query) -> Histories:
    """The events that sources read, as training did."""
    return query.positives.select(slice(-MOST_POSITIVES, None)).histories(query.now)
