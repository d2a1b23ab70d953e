"""A request between :mod:`~llmrec.serving.recommender` and the ranker that answers it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.generation.constraints import Constraints
from llmrec.generation.llm import Llm
from llmrec.generation.vllm_adapters import AdaptedVllm
from llmrec.serving.history import UserEvents
from llmrec.serving.request import RecommendRequest
from llmrec.serving.timing import Stopwatch


@dataclass(frozen=True, eq=False)
class Query:
    """A request as the rankers read it.

    Attributes:
        events: the history; positives: those of it that language models are trained on.
        now: seconds since 1970 UTC; NaN for unknown.
        context: int32 ``[names]``, as the click model reads it; empty without one.
        constraints: what may be recommended.
        items: int64 ``[c]``, the items to rank; None to search for them.
        similarity: float32 ``[c]``, cosine of each and the query; None without a query.
        given_order: float64 ``[c]``, that the items are ranked by, whatever models say; None
            lets models rank.
        llm: the language model with the adapter that was named.
        watch: measures the steps.
    """

    request: RecommendRequest
    events: UserEvents
    positives: UserEvents
    now: float
    context: np.ndarray
    constraints: Constraints
    items: np.ndarray | None
    similarity: np.ndarray | None
    given_order: np.ndarray | None
    llm: Llm | AdaptedVllm
    watch: Stopwatch
