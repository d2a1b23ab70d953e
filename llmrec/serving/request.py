"""The request and the response of a recommender, the same for every way in.

The Python API, ``llmrec recommend``, chat and text completions and ``/v1/recommendations`` all make
a :class:`RecommendRequest`, :class:`~llmrec.serving.recommender.Recommender` answers it, and all
give back the fields of a :class:`RecommendResponse`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.config import shown
from llmrec.errors import CatalogError, ConfigError
from llmrec.ranking.rerank.settings import RerankConfig
from llmrec.serving.filters import EVERYTHING, CatalogFilter
from llmrec.types import Event, Recommendation

if TYPE_CHECKING:
    from llmrec.generation.beam_search import SearchOptions

History = Sequence[str | Event | Mapping[str, Any]]  # item ids or events, oldest first
Time = float | str | None  # seconds since 1970 UTC, or ISO 8601 text; None for unknown

DEFAULT_N = 10  # items of a list, where a request does not say
MAX_CANDIDATES = 1000  # items that are ranked at once
MAX_SECONDS = 1e11  # in the year 5138; milliseconds of our days are above


@dataclass(frozen=True)
class RecommendRequest:
    """One request for a ranked list.

    Attributes:
        history: item ids, or events with ``item_id``, ``type``, ``timestamp`` and ``rating``,
            oldest first; where all times are known, they decide the order. None: that of ``user``.
        n: at most so many items; fewer come back where no more are left.
        user: whose history to take where none is given.
        query: words; of the items that may be recommended, those closest in meaning are ranked.
        query_vector: float32 ``[dim]``, of length 1: a picture in the space of the search index, or
            a picture and words; the items closest to it are ranked instead of those closest to
            ``query``.
        similar_to: an item id; the items most like it are wanted, or what goes with it.
        scenario: what the list is for, one of :data:`llmrec.serving.scenarios.SCENARIOS` or of the
            bundle's own; None: the items most like ``similar_to`` where that is given, else what
            fits the person.
        cursor: of the answer to the same request, for the next page of the same list.
        candidates: item ids that are ranked as they are given, instead of a search.
        context: of the request, such as ``{"device": "mobile"}``; a click model reads it.
        where: what items must be like.
        exclude: item ids not to recommend.
        allow: item ids that alone may be recommended; None for all.
        exclude_history: leave out what is in the history.
        history_times: of the events of the history: seconds since 1970 UTC or ISO 8601 text, which
            is UTC where it names no zone; None or NaN for unknown.
        now: time of the request, likewise. None: the present for a click model, unknown to a
            language model that ranks alone.
        adapter: name of the adapter of the language model; None for the model itself.
        calibrated: let the click model rank where the bundle has one.
        rerank: settings of re-ranking instead of the bundle's, or single ones of them.
        explain: say of each item which item of another shop moved it; scores the list once more for
            each of the newest events.
        sources: names of the sources whose candidates a click model ranks; None for all of them.
        options: how the language model searches and scores; as the bundle was opened when None.
        before: leave out events that are not before this time, in seconds since 1970 UTC.

    Raises:
        CatalogError: for n below 1.
        ConfigError: for a field that makes no sense, naming it.
    """

    history: History | None = None
    n: int = DEFAULT_N
    _: KW_ONLY
    user: str | None = None
    query: str = ""
    query_vector: np.ndarray | None = field(default=None, compare=False)
    similar_to: str | None = None
    scenario: str | None = None
    cursor: str | None = None
    candidates: Sequence[str] | None = None
    context: Mapping[str, Any] | None = None
    where: CatalogFilter | Mapping[str, Any] | None = None
    exclude: Sequence[str] = ()
    allow: Sequence[str] | None = None
    exclude_history: bool = True
    history_times: Sequence[Time] | None = None
    now: Time = None
    adapter: str | None = None
    calibrated: bool = True
    rerank: RerankConfig | Mapping[str, Any] | None = None
    explain: bool = False
    sources: Sequence[str] | None = None
    options: SearchOptions | None = None
    before: float | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise CatalogError(f"n: {self.n} items were asked for; ask for at least 1")
        if isinstance(self.history, str):
            raise ConfigError(
                f"history: expected a list of item ids or events, got {self.history!r}"
            )
        for name, value in vars(self).items():
            if value is not None:
                check_text(name, value)
        times, given = self.times_in_seconds(), len(self.history or ())
        if times is not None and len(times) != given:
            raise ConfigError(f"history_times: {len(times)} are given for a history of {given}")
        self.now_in_seconds(math.nan)
        self._check_similar_to()
        self._check_candidates()
        self._check_context()

    def resolved_to(self, scenario: str) -> RecommendRequest:
        """The same with one of the known scenarios; nothing is checked again."""
        found = copy.copy(self)
        object.__setattr__(found, "scenario", scenario)
        return found

    @property
    def catalog_filter(self) -> CatalogFilter | None:
        """``where``, checked.

        Raises:
            ConfigError: for an unknown field or a value of the wrong type.
        """
        if self.where is None or isinstance(self.where, CatalogFilter):
            return self.where
        return CatalogFilter.of_dict(dict(self.where))

    @property
    def is_search(self) -> bool:
        """Whether items close to words or a picture are wanted."""
        return bool(self.query.strip()) or self.query_vector is not None

    @property
    def closeness(self) -> str:
        """Why an item is found, in words; nothing where no search is."""
        words = self.query.strip()
        quoted = shown(words) if words else ""
        if self.query_vector is not None:
            return f"close to the picture and {quoted}" if words else "close to the picture"
        return f"close in meaning to {quoted}" if words else ""

    def now_in_seconds(self, otherwise: float) -> float:
        """``now`` since 1970 UTC, or something else where it is None.

        Raises:
            ConfigError: if it is no time.
        """
        return otherwise if self.now is None else seconds("now", self.now)

    def times_in_seconds(self) -> list[float] | None:
        """``history_times`` since 1970 UTC, NaN for unknown.

        Raises:
            ConfigError: if one is no time.
        """
        if self.history_times is None:
            return None
        return [
            seconds(f"history_times[{row}]", time) for row, time in enumerate(self.history_times)
        ]

    def _check_similar_to(self) -> None:
        if self.similar_to is None:
            return
        given = {"query": self.query or self.query_vector is not None}
        for name in ("query", "candidates", "adapter"):
            if given.get(name, getattr(self, name)):
                raise ConfigError(f"similar_to: goes by the item alone; leave out {name}")

    def _check_candidates(self) -> None:
        if self.candidates is None:
            return
        where = self.catalog_filter not in (None, EVERYTHING)
        if self.is_search or self.exclude or self.allow is not None or where:
            raise ConfigError(
                "candidates: are ranked as given; leave out query, exclude, allow and where"
            )
        count = len(set(self.candidates))
        if count > MAX_CANDIDATES:
            raise ConfigError(
                f"candidates: {count} were given; at most {MAX_CANDIDATES} are ranked at once"
            )

    def _check_context(self) -> None:
        if self.context is None:
            return
        if not isinstance(self.context, Mapping):
            raise ConfigError(f"context: expected names and values, got {self.context!r}")
        for name, value in self.context.items():
            if not isinstance(value, str | int | float | None):
                raise ConfigError(f"context.{name}: {value!r} is neither text nor number")


@dataclass(frozen=True)
class RecommendResponse:
    """A ranked list and what to know about it.

    Attributes:
        recommendations: best first. Where the click model ranked, each has its probability of a
            click at that rank.
        history_given: events of the history that came with the request.
        history_read: how many of them the language model read, the newest.
        notes: what the caller should know, a sentence each.
        usage: tokens of the language model, by OpenAI's names: ``prompt_tokens`` of the history as
            it read it, ``completion_tokens`` of the items that come back, and ``total_tokens``;
            all 0 where it was not asked.
        timings_ms: by step: ``retrieve`` (candidate sources, text search), ``llm`` (the language
            model), ``features`` and ``head`` (the click model), ``rerank``, and ``total``.
        catalog_version: of the catalogue that the list is from.
        cursor: for the next page of the list; None where it ends.
    """

    recommendations: list[Recommendation]
    history_given: int
    history_read: int
    notes: list[str]
    usage: dict[str, int]
    timings_ms: dict[str, float]
    catalog_version: str = ""
    cursor: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return vars(self) | {"recommendations": [one.as_dict() for one in self.recommendations]}


def seconds(field: str, time: Any) -> float:
    """A time as seconds since 1970 UTC, NaN for unknown.

    Args:
        field: of the request, for messages.
        time: a :data:`Time`.

    Raises:
        ConfigError: if it is neither; milliseconds are found out as well.

    >>> seconds("now", "1970-01-02T02:00:00+02:00")
    86400.0
    """
    if time is None:
        return math.nan
    if isinstance(time, str):
        try:
            read = datetime.fromisoformat(time)
        except ValueError:
            raise ConfigError(
                f"{field}: {time!r} is no time; write ISO 8601, such as 2026-03-01T12:00:00Z, or "
                "seconds since 1970"
            ) from None
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise ConfigError(f"{field}: {time!r} is not a number")
    if abs(time) >= MAX_SECONDS:
        raise ConfigError(f"{field}: {time} is not a time in seconds since 1970")
    return float(time)


def check_text(field: str, value: Any) -> None:
    """Check that all texts of a value can be stored; half of a surrogate pair and NUL cannot.

    Raises:
        ConfigError: naming ``field``.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{field}: {value!r} is not text in Unicode") from None
        if "\0" in value:
            raise ConfigError(f"{field}: {value!r} holds a NUL character")
    elif isinstance(value, list | tuple):
        for one in value:
            check_text(field, one)
    elif isinstance(value, Mapping):
        for name, one in value.items():
            check_text(field, name)
            check_text(field, one)
