"""Synthetic search queries of the catalogue, and the items that match them.

A query is a few neighbouring words of a title, or the name of a category. Its answer is the
items that match, most popular first.
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
    """Makes and answers queries; indexes the catalogue once, at the first query.

    Args:
        titles: of every item; None or empty where it has none.
        categories: of every item; None where the catalogue has none at all.
        popularity: int64 ``[items]``, training events of each.
    """

    def __init__(
        self,
        titles: Sequence[str | None],
        categories: Sequence[Sequence[str] | None] | None,
        popularity: np.ndarray,
    ) -> None:
        self._titles, self._categories = titles, categories
        # a stable sort: items of equal popularity stay in the catalogue's order
        self._by_popularity = np.argsort(-popularity, kind="stable")

    def sample(self, item: int, rng: np.random.Generator) -> tuple[str, np.ndarray]:
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
        """The items whose titles have all words of a query, most popular first."""
        ranks = [self._by_word.get(word) for word in set(_WORD.findall(query.lower()))]
        if not ranks or any(rank is None for rank in ranks):
            same = [i for i in self._by_popularity.tolist() if self._titles[i] == query]
            return np.array(same[:ANSWERS], dtype=np.int64)
        known = sorted((p for p in ranks if p is not None), key=len)
        found = known[0]
        for other in known[1:]:
            found = found[np.isin(found, other)]
        # ranks in the order of popularity, so the first are the most popular
        return self._by_popularity[np.sort(found)[:ANSWERS]]

    def _words(self, item: int) -> list[str]:
        return _WORD.findall((self._titles[item] or "").lower())

    @cached_property
    def _by_word(self) -> dict[str, np.ndarray]:
        """Word -> ranks in the order of popularity."""
        found: dict[str, list[int]] = defaultdict(list)
        for rank, item in enumerate(self._by_popularity.tolist()):
            for word in set(self._words(item)):
                found[word].append(rank)
        return {word: np.asarray(ranks, dtype=np.int64) for word, ranks in found.items()}

    @cached_property
    def _by_category(self) -> dict[str, np.ndarray]:
        """Category -> its most popular items."""
        found: dict[str, list[int]] = defaultdict(list)
        for item in self._by_popularity.tolist():
            for category in (self._categories or [])[item] or ():
                if len(found[category]) < ANSWERS:
                    found[category].append(item)
        return {name: np.asarray(items, dtype=np.int64) for name, items in found.items()}
