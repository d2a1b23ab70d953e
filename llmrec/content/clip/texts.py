"""The texts that pictures are trained with, and which other pictures each text matches as well.

A text names some fields of an item ("red mug") or is its title. In a batch it matches every picture
whose item has these values, so that two red mugs are no negatives of each other (as in UniCL, Yang
et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_FREE, _UNKNOWN = -1, -2


class Texts:
    """Draws texts for items.

    Args:
        titles: one an item; may be empty.
        known: the values of fields that are known of each item.
        fields: the fields that texts name, in this order.
        title_share: share of texts that are titles.
    """

    def __init__(
        self,
        titles: Sequence[str],
        known: Sequence[dict[str, str]],
        fields: Sequence[str],
        title_share: float,
    ) -> None:
        # a field without a value in the catalogue gives no text
        self.fields = [name for name in fields if any(name in row for row in known)]
        self.title_share = title_share
        self._titles = list(titles)
        self.values: list[list[str]] = [
            sorted({row[name] for row in known if name in row}) for name in self.fields
        ]
        columns = [_codes([row.get(name) for row in known]) for name in self.fields]
        titled = _codes([title or None for title in titles])
        self._codes = np.stack([*columns, titled], axis=1)  # [items, fields + 1]
        self._known = [dict(row) for row in known]

    @property
    def described(self) -> np.ndarray:
        """Items that have a text: bool ``[items]``."""
        return (self._codes != _UNKNOWN).any(1)

    def codes(self, rows: np.ndarray, column: int) -> np.ndarray:
        """Which of a field's :attr:`values` each item has: int ``[n]``, below 0 where unknown."""
        return self._codes[rows, column]

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """A text for each of some items.

        Args:
            rows: item indices, int ``[n]``, of items that :attr:`described` marks.

        Returns:
            The texts, and which items of ``rows`` each matches: bool ``[n texts, n items]``.
        """
        named = np.full((len(rows), self._codes.shape[1]), _FREE)
        texts = []
        for place, row in enumerate(rows):
            columns = self._chosen(self._codes[row], rng)
            named[place, columns] = self._codes[row, columns]
            texts.append(self._text(int(row), columns))
        own = self._codes[rows]
        matches = (named[:, None, :] == _FREE) | (named[:, None, :] == own[None, :, :])
        return texts, matches.all(-1)

    def _chosen(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The columns that one text names: the title, or any subset of the known fields."""
        known = np.flatnonzero(codes[:-1] != _UNKNOWN)
        has_title = codes[-1] != _UNKNOWN
        if has_title and (not len(known) or rng.random() < self.title_share):
            return np.array([len(codes) - 1])
        count = rng.integers(1, len(known) + 1)
        return np.sort(rng.choice(known, count, replace=False))

    def _text(self, row: int, columns: np.ndarray) -> str:
        if columns[0] == len(self.fields):
            return self._titles[row]
        return " ".join(self._known[row][self.fields[column]] for column in columns)


def _codes(values: Sequence[str | None]) -> np.ndarray:
    """A number for each distinct value: int ``[n]``."""
    numbers = {value: number for number, value in enumerate(sorted({v for v in values if v}))}
    return np.array([numbers[value] if value else _UNKNOWN for value in values])
