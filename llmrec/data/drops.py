"""What ``ingest`` dropped, and whether it was too much to go on without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WARN_ABOVE = 0.05  # share of the events
MOST_EXAMPLES = 20_000  # distinct values a reason that are counted at a time
_KEPT, _SHOWN = 1_000, 5
# what no setting asked for: most often the settings do not fit the file
UNASKED = {
    "unreadable": "that cannot be read",
    "no_user": "without a user",
    "no_item": "without an item",
    "unknown_type": "of a type that is not known",
    "unknown_item": "of an item that is not in the item file",
    "no_time": "without a time",
    "duplicate": "equal to another in user, item, type, time and rating",
}
ASKED = {
    "low_rating": "rated below min_rating",
    "repeated_item": "of an item that their user had before",
    "outside_core": "outside the k-core",
    "not_in_catalogue": "of a type that is not learned from, and an item outside the catalogue",
}


class Drops:
    """Events that were dropped.

    Attributes:
        counts: by reason, a key of :data:`UNASKED` or :data:`ASKED`.
        values: the commonest values that were the reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.values: dict[str, Counter[str]] = {}

    def count(self, reason: str, dropped: np.ndarray, values: pa.Array | None = None) -> None:
        """Count the events of a bool mask.

        Args:
            values: ``[n]``, of which those of the dropped ones are the reason.
        """
        n = int(dropped.sum())
        self.counts[reason] += n
        if not n or values is None:
            return
        known = self.values.setdefault(reason, Counter())
        for found in pc.value_counts(values.filter(pa.array(dropped))).to_pylist():
            known[str(found["values"] or "")] += found["counts"]
        if len(known) > MOST_EXAMPLES:
            self.values[reason] = Counter(dict(known.most_common(_KEPT)))

    @property
    def unasked(self) -> int:
        """How many were dropped that no setting asked to drop."""
        return sum(self.counts[reason] for reason in UNASKED)

    def lines(self, fixes: Mapping[str, str]) -> list[str]:
        """A line for each reason.

        Args:
            fixes: what to do, by reason.
        """
        found = []
        for reason, what in {**UNASKED, **ASKED}.items():
            if self.counts[reason]:
                values = self.values.get(reason, Counter()).most_common(_SHOWN)
                shown = ", ".join(f"{value[:40]!r} {n:,}" for value, n in values)
                line = f"{self.counts[reason]:,} {what}" + (f" ({shown})" if shown else "")
                found.append(line + (f"; {fixes[reason]}" if reason in fixes else ""))
        return found

    def by_reason(self) -> dict[str, Any]:
        """The counts above zero, as the manifest has them."""
        return {reason: n for reason, n in self.counts.items() if n}
