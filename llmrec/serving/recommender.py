"""The cascade, step by step: sources, candidates, LLM score, click probability, order, re-ranking.

::

    recommender = Recommender.load("bundle", histories={"anna": ["item-17", "item-3"]})
    answer = recommender.recommend("anna", n=5, context={"device": "mobile"})
    answer.recommendations[0].p_click
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from llmrec.errors import ArtifactError, CatalogError
from llmrec.generation.constraints import Constraints
from llmrec.ranking.ctr.features import Signals
from llmrec.ranking.ctr.model import CATEGORY, POSITION, ClickModel, at_place
from llmrec.ranking.ctr.moments import DAY
from llmrec.ranking.ctr.settings import STARS
from llmrec.ranking.rerank import RerankConfig, rerank
from llmrec.ranking.retrieval.candidates import Candidates, candidates
from llmrec.ranking.retrieval.standard import StandardSources
from llmrec.serving.answer import Shown, Stopwatch
from llmrec.serving.bundle import Bundle
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.history import (
    Happened,
    HistoriesOf,
    History,
    history_of,
    moment_now,
    read_context,
    read_filter,
    read_history,
)
from llmrec.serving.reasons import Reasons
from llmrec.serving.timed import timed
from llmrec.types import Recommendation

NOT_CALIBRATED = "not calibrated: the click model was not fitted to validation data"
NO_HISTORY = "no history: what is popular and the context alone decide"
NOTHING_LEFT = "nothing in the catalogue is left to recommend"
GENERATED = "generated"


class Recommender:
    """A bundle with a click model: a person in, a list with click probabilities out.

    Many threads may ask one recommender at once.

    Args:
        bundle: opened.
        model: its click model, opened.
        histories: what is known of people by name, or a function that says it (None for nobody).

    Raises:
        ArtifactError: if bundle and click model do not belong together.
    """

    def __init__(
        self, bundle: Bundle, model: ClickModel, histories: HistoriesOf | None = None
    ) -> None:
        self.bundle, self.model, self.histories = bundle, model, histories
        shelf, names = model.shelf, model.card.sources
        if shelf.n_items != len(bundle.item_ids):
            raise ArtifactError(
                f"{model.folder}: knows {shelf.n_items} items, the bundle "
                f"{len(bundle.item_ids)}; run llmrec ctr and llmrec bundle again"
            )
        llm = timed(bundle.recommender) if GENERATED in names else None
        made = StandardSources(
            shelf.fused,
            model.retrieval,
            model=llm,
            first_seen=np.where(np.isfinite(shelf.arrived), shelf.arrived, np.nan),
        )
        if made.names != names:
            raise ArtifactError(
                f"{model.folder}: reads the sources {', '.join(names)}, and there are "
                f"{', '.join(made.names)}; run llmrec ctr again"
            )
        self._llm, self._sources = llm, made(model.snapshot)
        self._reasons = Reasons(bundle.titles, shelf, model.snapshot, model.retrieval)

    @classmethod
    def load(
        cls,
        bundle: str | Path | Bundle,
        *,
        histories: HistoriesOf | None = None,
        beams: int = 50,
        cache_mib: int = 0,
        engine: Literal["onnx", "torch"] = "onnx",
        threads: int = 1,
    ) -> Self:
        """Open a bundle that holds a click model.

        Args:
            bundle: a folder, or one that is opened already.
            beams, cache_mib: as for :class:`~llmrec.serving.bundle.Bundle`.
            engine: what runs the click model's network.
            threads: of ONNX Runtime.

        Raises:
            ArtifactError: if the bundle has no click model, or is damaged.
            MissingExtraError: if ONNX Runtime is not installed.
        """
        if not isinstance(bundle, Bundle):
            bundle = Bundle(bundle, beams=beams, cache_mib=cache_mib)
        if bundle.ctr is None:
            raise ArtifactError(
                f"{bundle.folder}: holds no click model; make it again with llmrec bundle --ctr DIR"
            )
        return cls(bundle, ClickModel.load(bundle.ctr, engine=engine, threads=threads), histories)

    def recommend(
        self,
        user: str | None = None,
        history: History | None = None,
        n: int = 10,
        context: Mapping[str, Any] | None = None,
        filters: CatalogFilter | Mapping[str, Any] | None = None,
        *,
        exclude: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        rerank: RerankConfig | Mapping[str, Any] | None = None,
        now: float | None = None,
    ) -> Shown:
        """The list to show to a person.

        Args:
            user: whose history to take, where none is given.
            history: item ids or events, oldest first. Chosen items are not recommended again.
            n: at most so many items.
            context: what is said of the moment, such as the device; unknown values are taken as
                such.
            filters: what items must be like.
            exclude, allow: item ids not to recommend, and those that alone may be.
            rerank: settings instead of the bundle's, or single ones of them.
            now: seconds since 1970 UTC; None for the present, NaN for unknown.

        Raises:
            CatalogError: for an item id that is not in the catalogue, or n below 1.
            ConfigError: for a field that makes no sense, naming it.
        """
        if n < 1:
            raise CatalogError(f"n: {n} items were asked for; ask for at least 1")
        watch = Stopwatch()
        order = self._order(rerank)
        notes = [] if self.model.calibrated else [NOT_CALIBRATED]
        if history is None:
            history, said = history_of(user, self.histories)
            notes += said
        happened = read_history(history, self.bundle.items, self.model.past)
        now, happened, said = moment_now(now, happened)
        told, unread = read_context(context, self.model.context)
        notes += [*said, *unread]
        if not len(happened):
            notes.append(NO_HISTORY)
        passing = self._passing(read_filter(filters), exclude, allow)
        found, choices = self._candidates(happened, now, passing, watch)
        if not len(found):
            return Shown([], [*notes, NOTHING_LEFT], watch.done())
        shown = self._ranked(found, happened, choices, now, told, order, n, watch)
        if len(shown) < n:
            notes.append(f"only {len(shown)} of {n} items: no more are left to recommend")
        return Shown(shown, notes, watch.done())

    def _order(self, given: RerankConfig | Mapping[str, Any] | None) -> RerankConfig:
        if isinstance(given, RerankConfig):
            return given
        return self.bundle.rerank.overridden({} if given is None else given)

    def _passing(
        self, where: CatalogFilter | None, exclude: Sequence[str], allow: Sequence[str] | None
    ) -> np.ndarray | None:
        """bool ``[items]``, what may be recommended; None for all."""
        items = self.bundle.items
        chosen = items.filter(where)
        if chosen is None and not len(exclude) and allow is None:
            return None
        limits = Constraints(
            exclude=items.rows("exclude", exclude),
            allow=None if allow is None else items.rows("allow", allow),
            where=chosen,
        )
        return items.passing(limits)

    def _candidates(
        self, happened: Happened, now: float, passing: np.ndarray | None, watch: Stopwatch
    ) -> tuple[Candidates, np.ndarray]:
        """The candidates, and the choices that they follow."""
        histories = happened.choices(self.model.past, now)
        config = self.model.retrieval
        spent = self._llm.spent_ms() if self._llm else 0.0
        with watch.step("retrieve"):
            found = candidates(self._sources, histories, config.k, config.limit, passing=passing)[0]
        llm = self._llm.spent_ms() - spent if self._llm else 0.0
        watch.timings["llm"] = llm
        watch.timings["retrieve"] -= llm
        return found, histories.items

    def _ranked(
        self,
        found: Candidates,
        happened: Happened,
        choices: np.ndarray,
        now: float,
        context: np.ndarray,
        order: RerankConfig,
        n: int,
        watch: Stopwatch,
    ) -> list[Recommendation]:
        """The first n candidates in the order in which they are shown."""
        model, items = self.model, found.items
        with watch.step("features"):
            moments = happened.moment(model.past, now, context)
            inputs = model.inputs(
                moments, items[None], np.full((1, len(items)), -1), self._signals(found)
            )
        with watch.step("head"):
            logits, added = model.heads.run(inputs)
            logits = logits[0]
            fields = {
                CATEGORY: model.shelf.category[items].astype(np.int64),
                POSITION: np.full(len(items), -1),
            }
            p = model.probabilities(logits[:, 0], fields)
            llm = found.described.score[:, 0].astype(np.float64) if self._llm else None
            value = model.value(p, logits, llm)
        with watch.step("rerank"):
            rows = self._reranked(order, items, value, now, n)
            place = np.arange(len(rows))
            at = logits[rows, 0] + at_place(added, place[None])[0]
            p = model.probabilities(at, {CATEGORY: fields[CATEGORY][rows], POSITION: place})
            reasons = self._reasons(found, rows, choices)
        return [
            self._named(
                found, int(row), number, p[number], value[row], logits[row], reasons[number]
            )
            for number, row in enumerate(rows)
        ]

    def _signals(self, found: Candidates) -> Signals:
        described = found.described
        return Signals(
            found.sources,
            described.rank[None],
            described.score[None],
            self.model.shelf.totals[found.items][None],
        )

    def _reranked(
        self, order: RerankConfig, items: np.ndarray, value: np.ndarray, now: float, n: int
    ) -> np.ndarray:
        shelf = self.model.shelf
        age = (now - shelf.arrived[items]) / DAY  # -inf for what never arrived
        return rerank(
            order,
            value,
            n,
            vectors=shelf.fused[items] if order.diversity else None,
            category=shelf.category[items],
            age_days=np.where(np.isfinite(age), age, np.nan),
        )

    def _named(
        self,
        found: Candidates,
        row: int,
        number: int,
        p: float,
        value: float,
        logits: np.ndarray,
        reason: str,
    ) -> Recommendation:
        item, tasks = int(found.items[row]), self.model.tasks
        bought = stars = llm = None
        if "purchase" in tasks:
            bought = float(p / (1 + np.exp(-logits[tasks.index("purchase")])))
        if "rating" in tasks:
            stars = float(np.clip(logits[tasks.index("rating")] + STARS, 1.0, 5.0))
        if self._llm and np.isfinite(found.described.score[row, 0]):
            llm = float(found.described.score[row, 0])
        return Recommendation(
            item_id=self.bundle.item_ids[item],
            title=self.bundle.titles[item],
            rank=number + 1,
            score=float(value),
            reason=reason,
            p_click=float(p),
            p_purchase=bought,
            expected_rating=stars,
            llm_logp=llm,
            sources=tuple(found.sources_of(row)),
        )
