"""What a bundle is asked and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from llmrec.errors import CatalogError, ConfigError
from llmrec.types import Recommendation

if TYPE_CHECKING:
    from llmrec.generation.beam_search import SearchOptions
    from llmrec.serving.filters import CatalogFilter

LAST_SECOND = 1e11  # in the year 5138; milliseconds of our days are above


@dataclass(frozen=True)
class Question:
    """What one person may want next.

    Attributes:
        history: item ids, oldest first.
        n: at most so many items; fewer come back where no more are left.
        exclude_history: leave out what is in the history.
        exclude: item ids to leave out as well.
        allow: item ids that alone may be recommended; None for all.
        where: what items must be like.
        query: words; of the items that may be recommended, those closest to them in meaning are
            ranked by the model.
        history_times: when each of the history happened, seconds since 1970 UTC; a model trained
            with time tokens ranks better with them.
        now: time of the request, seconds since 1970 UTC.
        adapter: name of the adapter that ranks; None for the model itself.
        options: how to search and score; the bundle's own way when not given.

    Raises:
        CatalogError: for n below 1.
        ConfigError: if times do not fit the history, or are none.
    """

    history: Sequence[str]
    n: int = 10
    _: KW_ONLY
    exclude_history: bool = True
    exclude: Sequence[str] = ()
    allow: Sequence[str] | None = None
    where: CatalogFilter | None = None
    query: str = ""
    history_times: Sequence[float] | None = None
    now: float | None = None
    adapter: str | None = None
    options: SearchOptions | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise CatalogError(f"n: {self.n} items were asked for; ask for at least 1")
        times = self.history_times
        if times is not None and len(times) != len(self.history):
            raise ConfigError(
                f"history_times: {len(times)} are given for a history of {len(self.history)}"
            )
        check_times("history_times", () if times is None else times)
        check_times("now", () if self.now is None else (self.now,))


@dataclass(frozen=True)
class Answer:
    """What one request is answered with.

    Attributes:
        recommendations: best first.
        history_given: events of the history that came with the request.
        history_read: how many of them the model read, the newest.
        notes: what the caller should know, a sentence each.
    """

    recommendations: list[Recommendation]
    history_given: int
    history_read: int
    notes: list[str]

    @classmethod
    def to(cls, question: Question, found: list[Recommendation], most_read: int) -> Answer:
        """The answer with its notes.

        Args:
            found: what is recommended.
            most_read: events of a history that the model reads.
        """
        given = len(question.history)
        read = min(given, most_read)
        return cls(found, given, read, _notes(given, read, question.n, len(found)))


def _notes(given: int, read: int, asked: int, found: int) -> list[str]:
    """What to say of a history that was not read whole and of an answer that is not full."""
    notes = []
    if read < given:
        notes.append(
            f"the model reads the newest {read} events of a history; the oldest {given - read} "
            f"of {given} were left out"
        )
    if found == 0:
        notes.append("nothing in the catalogue is left to recommend")
    elif found < asked:
        notes.append(f"only {found} of {asked} items: no more are left to recommend")
    return notes


def check_times(field: str, times: Sequence[float]) -> None:
    """Check that all are seconds since 1970, or NaN for one that is unknown.

    Raises:
        ConfigError: if one is not; milliseconds are found out as well.
    """
    for time in times:
        if abs(time) >= LAST_SECOND:
            raise ConfigError(f"{field}: {time} is not a time in seconds since 1970")
