"""Lists that a service showed, with what people did with them: clicks, purchases, revenue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.serving.experiments.settings import METRICS, Experiment
from llmrec.serving.store import exposures
from llmrec.serving.store.database import Store
from llmrec.serving.store.tables import EXPOSURES

_NOTHING = (0, 0, 0.0, 0)


@dataclass(frozen=True)
class ShownLists:
    """The lists of one experiment, in the order in which they were shown.

    Attributes:
        variants: names, those of the file first.
        variant: int ``[lists]``, numbers of ``variants``.
        share: float ``[lists]``, probability of the assignment when it was shown.
        person: int ``[lists]``, numbers of persons.
        time: float ``[lists]``, seconds since 1970 UTC.
        outcome: float ``[lists]`` by metric: 1 where something of it was clicked, or bought; what
            was paid.
        unpriced: purchases of which the revenue is not known.
        moved: persons who were left out, because they saw several variants.
    """

    variants: list[str]
    variant: np.ndarray
    share: np.ndarray
    person: np.ndarray
    time: np.ndarray
    outcome: dict[str, np.ndarray]
    unpriced: int
    moved: int

    def __len__(self) -> int:
        return len(self.variant)

    def persons(self, variant: int) -> int:
        """How many saw a variant."""
        return len(np.unique(self.person[self.variant == variant]))

    def first(self, lists: int) -> ShownLists:
        """The first of the lists."""
        some = slice(lists)
        return self._select(some, self.moved)

    def _select(self, rows: Any, moved: int) -> ShownLists:
        outcome = {name: values[rows] for name, values in self.outcome.items()}
        of = self.variant[rows], self.share[rows], self.person[rows], self.time[rows]
        return ShownLists(self.variants, *of, outcome, self.unpriced, moved)

    def without_moved(self) -> ShownLists:
        """Without persons who saw several variants, as a change of shares makes them."""
        persons = int(self.person.max(initial=-1)) + 1
        seen = np.zeros((persons, max(1, len(self.variants))), dtype=bool)
        seen[self.person, self.variant] = True
        moved = seen.sum(axis=1) > 1
        return self._select(~moved[self.person], int(moved.sum()))


def read_lists(store: Store, experiment: Experiment) -> ShownLists:
    """The lists of an experiment.

    Raises:
        StoreError: if the store cannot be read.
    """
    with store.read() as connection:
        rows = exposures.lists(connection, experiment.name)
        found = exposures.outcomes(connection, EXPOSURES)
    names = list(dict.fromkeys([*experiment.variants, *(row.variant for row in rows)]))
    number = {name: at for at, name in enumerate(names)}
    person: dict[str, int] = {}
    results = [found.get(row.recommendation_id, _NOTHING) for row in rows]
    return ShownLists(
        names,
        np.array([number[row.variant] for row in rows], dtype=np.int64),
        np.array([row.share for row in rows], dtype=np.float64),
        np.array([person.setdefault(row.user_id, len(person)) for row in rows], dtype=np.int64),
        np.array([row.timestamp for row in rows], dtype=np.float64),
        by_metric(results),
        sum(result[3] for result in results),
        0,
    ).without_moved()


def by_metric(results: Sequence[tuple[int, int, float, int]]) -> dict[str, np.ndarray]:
    """What came of lists, float ``[lists]`` by metric.

    Args:
        results: as :func:`llmrec.serving.store.exposures.outcomes` has them.
    """
    table = np.array([result[:3] for result in results], dtype=np.float64).reshape(-1, 3)
    table[:, :2] = table[:, :2] > 0
    return {name: table[:, column] for column, name in enumerate(METRICS)}
