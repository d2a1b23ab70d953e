"""From requests to answers that are logged: what runs behind the routes, outside the event loop."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest, RecommendResponse
from llmrec.serving.store.database import StoreError
from llmrec.serving.store.recommendations import ShownList

LOG = logging.getLogger(__name__)
NOT_LOGGED = "recommendation_id: the store cannot be written now, so the list has none"


@dataclass(frozen=True)
class Asked:
    """A request that came in.

    Attributes:
        model: name of the model or adapter that was asked.
        logged: whether what is shown is kept in the store, under a ``recommendation_id``.
    """

    request: RecommendRequest
    model: str
    logged: bool = False


@dataclass(frozen=True)
class Answered:
    """The answer to it.

    Attributes:
        recommendation_id: None where it is not kept.
        variant: who ranked, or what the service was started with.
    """

    response: RecommendResponse
    recommendation_id: str | None
    variant: str


class Answering:
    """Answers requests and keeps what is shown.

    Args:
        recommender: ranks.
        live: keeps the lists; None keeps none.
        variant: what answers call it; who ranked, where it is empty.
        observe: is told each list.
    """

    def __init__(
        self,
        recommender: Recommender,
        live: LiveHistories | None,
        variant: str,
        observe: Callable[[RecommendResponse], None] = lambda _response: None,
    ) -> None:
        self._recommender, self._live, self._variant = recommender, live, variant
        self._observe = observe

    def __call__(self, asked: Sequence[Asked]) -> list[Answered | Exception]:
        """For each its answer, or what went wrong with it."""
        responses = self._recommender.answer_each([one.request for one in asked])
        for response in responses:
            if not isinstance(response, Exception):
                self._observe(response)
        answers = [
            response
            if isinstance(response, Exception)
            else Answered(response, self._id(one), self._variant_of(one))
            for one, response in zip(asked, responses, strict=True)
        ]
        try:
            self._log(asked, answers)
        except StoreError as error:  # a list is worth more than its log
            LOG.error("%s", error)
            return [_without_id(answer) for answer in answers]
        return answers

    def _id(self, asked: Asked) -> str | None:
        return f"rec-{uuid.uuid4().hex}" if asked.logged and self._live is not None else None

    def _variant_of(self, asked: Asked) -> str:
        return self._variant or self._recommender.ranked_by(asked.request)

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
            )
            for one, answer in zip(asked, answers, strict=True)
            if isinstance(answer, Answered) and answer.recommendation_id is not None
        ]
        if shown and self._live is not None:
            self._live.log(shown)


def _without_id(answer: Answered | Exception) -> Answered | Exception:
    if isinstance(answer, Exception) or answer.recommendation_id is None:
        return answer
    answer.response.notes.append(NOT_LOGGED)
    return Answered(answer.response, None, answer.variant)


def as_json(answered: Answered) -> dict[str, Any]:
    """The answer of ``/v1/recommendations``, without its head."""
    own = {"recommendation_id": answered.recommendation_id, "variant": answered.variant}
    return own | answered.response.as_dict()
