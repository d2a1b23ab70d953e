"""Why an item is shown, in a few plain words that are true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.ranking.ctr.shelf import Shelf
from llmrec.ranking.retrieval.candidates import Candidates
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.ranking.retrieval.snapshot import Snapshot

_USUAL = np.log(1.25)  # a price within a quarter of the usual one is like it
_LEAST_PRICES = 3
_LONGEST = 60  # letters of a title


@dataclass(frozen=True, eq=False)
class Reasons:
    """Says why.

    Attributes:
        titles: by item index.
        shelf, snapshot, retrieval: what the sources knew.
    """

    titles: list[str]
    shelf: Shelf
    snapshot: Snapshot
    retrieval: RetrievalConfig

    def __call__(self, found: Candidates, rows: np.ndarray, history: np.ndarray) -> list[str]:
        """A reason for each of some candidates.

        Args:
            rows: int64, of the candidates.
            history: int ``[events]``, choices, oldest first.
        """
        usual = self._usual_price(history)
        return [self._one(found, int(row), history, usual) for row in rows]

    def _one(self, found: Candidates, row: int, history: np.ndarray, usual: float | None) -> str:
        item = int(found.items[row])
        said = self._from_source(found, row, item, history)
        price = float(self.shelf.price[item])
        if usual is not None and price > 0 and abs(np.log(price) - usual) <= _USUAL:
            said += ", at a price that is usual for you"
        return said

    def _from_source(self, found: Candidates, row: int, item: int, history: np.ndarray) -> str:
        """What the source that ranks it highest has to say."""
        rank = found.described.rank[row]
        places = {
            name: int(rank[at]) if rank[at] >= 0 else self.retrieval.k
            for at, name in enumerate(found.sources)
            if found.proposed[row, at]
        }
        order = ("together", "nearest", "generated", "cold", "popular")
        for name in sorted(places, key=lambda name: (places[name], order.index(name))):
            said = self._of(name, item, history)
            if said:
                return said
        return "chosen for you" if len(history) else "chosen for this moment"

    def _of(self, source: str, item: int, history: np.ndarray) -> str:
        if source == "together":
            other = self._taken_with(item, history)
            return "" if other is None else f"often chosen together with {self._title(other)}"
        if source == "nearest":
            other = self._like(item, history)
            return "" if other is None else f"close to {self._title(other)}"
        if source == "generated":
            if not len(history):
                return "what many begin with"
            return f"likely to follow {self._title(int(history[-1]))}"
        if source == "cold":
            return "new and close to what you chose" if len(history) else "new"
        return "popular lately"

    def _taken_with(self, item: int, history: np.ndarray) -> int | None:
        """The item of the history that it is most often taken together with."""
        known, best, found = self.snapshot, 0.0, None
        for other in history[-self.retrieval.together_events :]:
            if other >= known.n_items:
                continue
            begin, end = known.starts[other], known.starts[other + 1]
            at = begin + int(np.searchsorted(known.neighbours[begin:end], item))
            if at < end and known.neighbours[at] == item and known.cosines[at] >= best:
                best, found = float(known.cosines[at]), int(other)
        return found

    def _like(self, item: int, history: np.ndarray) -> int | None:
        """The item of the history that it is most like."""
        recent = history[-self.retrieval.events :]
        if not len(recent):
            return None
        closeness = self.shelf.fused[recent] @ self.shelf.fused[item]
        best = int(np.argmax(closeness))
        return int(recent[best]) if closeness[best] > 0 else None

    def _usual_price(self, history: np.ndarray) -> float | None:
        """Mean logarithm of the prices of a history, or None where too few are known."""
        prices = self.shelf.price[history]
        prices = prices[prices > 0]  # NaN is not
        return float(np.log(prices).mean()) if len(prices) >= _LEAST_PRICES else None

    def _title(self, item: int) -> str:
        title = self.titles[item]
        short = title if len(title) <= _LONGEST else title[: _LONGEST - 1].rstrip() + "…"
        return repr(short)
