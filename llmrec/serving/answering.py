"""From requests to answers that are logged: what runs behind the routes, outside the event loop."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmrec.serving.experiments.variants import Treatment, Variants
from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest, RecommendResponse
from llmrec.serving.store.database import StoreError
from llmrec.serving.store.exposures import Explored, Exposure
from llmrec.serving.store.recommendations import ShownList

LOG = logging.getLogger(__name__)
NOT_LOGGED = "recommendation_id: the store cannot be written now, so the list has none"


@dataclass(frozen=True)
class Asked:
    """A request that came in.

    Attributes:
        model: name of the model or adapter that was asked.
    """

    request: RecommendRequest
    model: str


@dataclass(frozen=True)
class Answered:
    """The answer to it.

    Attributes:
        recommendation_id: None where it is not kept.
        variant: of an experiment; otherwise who ranked, or what the service was started with.
        exposures: one for each experiment that the request took part in.
        explored: how the first place came about, where that was drawn.
    """

    response: RecommendResponse
    recommendation_id: str | None
    variant: str
    exposures: tuple[Exposure, ...] = ()
    explored: Explored | None = None


class Answering:
    """Answers requests and keeps what is shown.

    Args:
        recommender: ranks.
        live: keeps the lists; None keeps none.
        variant: what answers call it outside of experiments; who ranked, where it is empty.
        observe: is told each list.
        variants: of experiments; None for none.
    """

    def __init__(
        self,
        recommender: Recommender,
        live: LiveHistories | None,
        variant: str,
        observe: Callable[[RecommendResponse], None] = lambda _response: None,
        variants: Variants | None = None,
    ) -> None:
        self._recommender, self._live, self._variant = recommender, live, variant
        self._observe, self._variants = observe, variants

    def __call__(self, asked: Sequence[Asked]) -> list[Answered | Exception]:
        """For each its answer, or what went wrong with it."""
        treatments = [self._treat(one.request) for one in asked]
        responses = _responses(treatments)
        for response in responses:
            if not isinstance(response, Exception):
                self._observe(response)
        answers = [
            response
            if isinstance(response, Exception)
            else self._answered(one, treatment, response)
            for one, treatment, response in zip(asked, treatments, responses, strict=True)
        ]
        try:
            self._log(asked, answers)
        except StoreError as error:  # a list is worth more than its log
            LOG.error("%s", error)
            return [_without_id(answer) for answer in answers]
        return answers

    def _id(self) -> str | None:
        return None if self._live is None else f"rec-{uuid.uuid4().hex}"

    def _treat(self, request: RecommendRequest) -> Treatment:
        if self._variants is None:
            return Treatment(self._recommender, request)
        return self._variants.treat(request)

    def _answered(
        self, asked: Asked, treatment: Treatment, response: RecommendResponse
    ) -> Answered:
        name, explored = self._id(), None
        if name is not None and self._variants is not None:
            items, explored = self._variants.show(treatment.request, response.recommendations)
            response = replace(response, recommendations=items)
        ranked_by = treatment.recommender.ranked_by(treatment.request)
        variant = treatment.name or self._variant or ranked_by
        return Answered(response, name, variant, treatment.exposures, explored)

    def _log(self, asked: Sequence[Asked], answers: Sequence[Answered | Exception]) -> None:
        now = time.time()
        shown = [
            ShownList(
                answer.recommendation_id,
                one.request.user,
                now,
                one.model,
                answer.variant,
                answer.response.catalog_version,
                answer.response.recommendations,
                answer.exposures,
                answer.explored,
            )
            for one, answer in zip(asked, answers, strict=True)
            if isinstance(answer, Answered) and answer.recommendation_id is not None
        ]
        if shown and self._live is not None:
            self._live.log(shown)


def _responses(treatments: Sequence[Treatment]) -> list[RecommendResponse | Exception]:
    """For each its response, or what went wrong; each recommender works out its own together."""
    rows_of: dict[int, list[int]] = {}
    for row, treatment in enumerate(treatments):
        rows_of.setdefault(id(treatment.recommender), []).append(row)
    found: dict[int, RecommendResponse | Exception] = {}
    for rows in rows_of.values():
        requests = [treatments[row].request for row in rows]
        answers = treatments[rows[0]].recommender.answer_each(requests)
        found |= zip(rows, answers, strict=True)
    return [found[row] for row in range(len(treatments))]


def _without_id(answer: Answered | Exception) -> Answered | Exception:
    if isinstance(answer, Exception) or answer.recommendation_id is None:
        return answer
    answer.response.notes.append(NOT_LOGGED)
    return replace(answer, recommendation_id=None)


def as_json(answered: Answered) -> dict[str, Any]:
    """The answer of ``/v1/recommendations``, without its head."""
    own = {"recommendation_id": answered.recommendation_id, "variant": answered.variant}
    return own | answered.response.as_dict()
