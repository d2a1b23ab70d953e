"""Queries made from the catalogue, and the items that answer them.

A query is a few neighbouring words of a title, or the name of a category. Its answer is the
items that match, best known first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

import numpy as np

ANSWERS = 3  # items a query is answered with
LONGEST = 3  # words of a query
_WORD = re.compile(r"\w+")


class Queries:
    """Makes and answers queries; looks through the catalogue once, when it is first asked.

    Args:
        titles: of every item; None or empty where it has none.
        categories: of every item; None where the catalogue has none at all.
        popularity: int64 ``[items]``, how well known each is.
    """

    def __init__(
        self,
        titles: Sequence[str | None],
        categories: Sequence[Sequence[str] | None] | None,
        popularity: np.ndarray,
    ) -> None:
        self._titles, self._categories = titles, categories
        # a stable sort: items that are equally well known stay in the catalogue's order
        self._best_first = np.argsort(-popularity, kind="stable")

    def ask(self, item: int, rng: np.random.Generator) -> tuple[str, np.ndarray]:
        """A query that the item matches, and the items that answer it, int64."""
        categories = (self._categories[item] or []) if self._categories else []
        if categories and (not self._words(item) or rng.random() < 0.5):
            category = str(rng.choice(categories))
            return category, self._by_category[category]
        query = self.words(item, rng)
        return query, self.matching(query)

    def words(self, item: int, rng: np.random.Generator) -> str:
        """One to three neighbouring words of a title; the whole title if it has no word."""
        words = self._words(item)
        if not words:
            return " ".join((self._titles[item] or "").split())
        length = int(rng.integers(1, min(LONGEST, len(words)) + 1))
        start = int(rng.integers(len(words) - length + 1))
        return " ".join(words[start : start + length])

    def matching(self, query: str) -> np.ndarray:
        """The items whose titles have all words of a query, best known first."""
        places = [self._by_word.get(word) for word in set(_WORD.findall(query.lower()))]
        if not places or any(place is None for place in places):
            return self._by_title(query)
        known = sorted((p for p in places if p is not None), key=len)
        found = known[0]
        for other in known[1:]:
            found = found[np.isin(found, other)]
        # places in the order of popularity, so the first are the best known
        return self._best_first[np.sort(found)[:ANSWERS]]

    def _by_title(self, query: str) -> np.ndarray:
        same = [i for i in self._best_first.tolist() if self._titles[i] == query]
        return np.array(same[:ANSWERS], dtype=np.int64)

    def _words(self, item: int) -> list[str]:
        return _WORD.findall((self._titles[item] or "").lower())

    @cached_property
    def _by_word(self) -> dict[str, np.ndarray]:
        """Word -> places in the order of popularity."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(self._best_first.tolist()):
            for word in set(self._words(item)):
                found[word].append(place)
        return {word: np.asarray(places, dtype=np.int64) for word, places in found.items()}

    @cached_property
    def _by_category(self) -> dict[str, np.ndarray]:
        """Category -> its best known items."""
        found: dict[str, list[int]] = defaultdict(list)
        for item in self._best_first.tolist():
            for category in (self._categories or [])[item] or ():
                if len(found[category]) < ANSWERS:
                    found[category].append(item)
        return {name: np.asarray(items, dtype=np.int64) for name, items in found.items()}
