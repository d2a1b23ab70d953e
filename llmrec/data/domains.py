"""Domains of a catalogue: several shops or departments whose customers are the same people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.types import Histories


@dataclass(frozen=True, eq=False)
class Domains:
    """Which domain every item belongs to.

    Attributes:
        names: of the domains, sorted.
        of_item: int64 ``[n_items]``, numbers of domains.
    """

    names: tuple[str, ...]
    of_item: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Those of a dataset.

        Raises:
            DataError: for an item without a domain.
        """
        column = dataset.item_domains
        if "" in column:
            row = column.index("")
            raise DataError(
                f"{dataset.folder}: item {dataset.item_ids[row]!r} has no domain; give every item "
                "one, in a column `domain` of the item file or by `domains:` of llmrec ingest"
            )
        names, of_item = np.unique(np.array(column, dtype=object), return_inverse=True)
        return cls(tuple(names.tolist()), of_item.astype(np.int64))

    def number(self, name: str) -> int:
        """The number of a domain.

        Raises:
            ConfigError: if there is none of that name.
        """
        if name not in self.names:
            raise ConfigError(f"domain: {name!r} is not one of {', '.join(self.names)}")
        return self.names.index(name)

    def items(self, domain: int) -> np.ndarray:
        """int64, indices of the items of a domain, ascending."""
        return np.flatnonzero(self.of_item == domain)

    def only(self, histories: Histories, domain: int) -> Histories:
        """Histories without the events of other domains."""
        return keep_events(histories, self.of_item[histories.items] == domain)

    def without(self, histories: Histories, domain: int) -> Histories:
        """Histories without the events of a domain."""
        return keep_events(histories, self.of_item[histories.items] != domain)

    def events_in(self, histories: Histories, domain: int) -> np.ndarray:
        """int64 ``[users]``, events of each history in a domain."""
        return self.only(histories, domain).lengths().astype(np.int64)


def keep_events(histories: Histories, keep: np.ndarray) -> Histories:
    """Histories with some of their events; a history may become empty.

    Args:
        keep: bool ``[events]``.

    >>> kept = keep_events(Histories.from_lists([[3, 1], [2], []]), np.array([False, True, False]))
    >>> [row.tolist() for row in kept]
    [[1], [], []]
    """
    before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    times = None if histories.timestamps is None else histories.timestamps[keep]
    return Histories(histories.items[keep], before[histories.offsets], times, histories.now)
