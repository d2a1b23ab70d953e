"""A catalogue as the assistant sees it: what there is of a wish, and what to ask about it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from llmrec.errors import CatalogError, ConfigError
from llmrec.serving.assistant.calls import ShownItem, TurnView
from llmrec.serving.assistant.outcome import Question
from llmrec.serving.assistant.state import DialogueState, Wish
from llmrec.serving.assistant.vocabulary import ShopVocabulary, policy_topics
from llmrec.serving.item_table import ItemTable
from llmrec.serving.recommender import Recommender

Json = dict[str, Any]
Rows = Callable[[Sequence[str]], Mapping[str, Json]]
OFFERED = 4  # values of a question
LOOKED_AT = 5000  # about so many items say what to ask
_WORD = re.compile(r"[^\W\d_]{3,}")
_PLAIN = re.compile(r"[^\d_]+")  # a value that is a word: "in_use" is none


class Shop:
    """What there is. Many threads may ask one at once.

    Args:
        recommender: of the catalogue, which may change.
        rows: of items, as they are now.
        topics: of the shop's policy, beside the usual ones.
    """

    def __init__(self, recommender: Recommender, rows: Rows, topics: Iterable[str] = ()) -> None:
        self._recommender, self.rows = recommender, rows
        self._topics = tuple(dict.fromkeys((*topics, *policy_topics())))
        self._known: tuple[str, ShopVocabulary, dict[str, set[str]], set[str]] | None = None

    @property
    def items(self) -> ItemTable:
        """The catalogue as it is now."""
        return self._recommender.bundle.items

    @property
    def has_prices(self) -> bool:
        """Whether anything has a price."""
        return "price" in self.items.catalogue.column_names

    @property
    def vocabulary(self) -> ShopVocabulary:
        """The values that its items have now."""
        return self._now()[1]

    def narrower(self, categories: Sequence[str]) -> set[str]:
        """Categories within others, in lower case."""
        known = self._now()[2]
        return set().union(*(known.get(one.lower(), ()) for one in categories))

    def knows_words(self, words: str) -> bool:
        """Whether a text has a word that the catalogue has: a title, a category, an attribute."""
        known = self._now()[3]
        said = _WORD.findall(words.lower())
        return not said or any(form in known for one in said for form in _forms(one))

    def matching(self, wish: Wish) -> np.ndarray:
        """Rows of the catalogue that pass the hard filters of a wish, int64.

        Raises:
            CatalogError: for a value that no item has.
            ConfigError: for a field that the catalogue does not have.
        """
        items = self.items
        found = items.filter(wish.where(), None)
        return np.arange(len(items)) if found is None else found.mask(len(items)).nonzero()[0]

    def question(self, wish: Wish) -> Question | None:
        """The question whose answer divides what fits a wish best; None where there is none."""
        try:
            matching = self.matching(wish)
        except (CatalogError, ConfigError):
            return None
        step = max(1, len(matching) // LOOKED_AT)
        catalogue = self.items.catalogue.take(matching[::step])
        best, most = None, 0.0
        for name, counts in self._counts(catalogue, wish):
            values = [(value, count) for value, count in counts.most_common(OFFERED)]
            bits = _bits([count for _, count in values], catalogue.num_rows)
            if len(values) > 1 and bits > most:
                best, most = Question(name, tuple(value for value, _ in values)), bits
            if name == "category" and best is not None and not wish.categories:
                return best  # whatever else: what kind of thing comes first
        return best

    def view(self, state: DialogueState) -> TurnView:
        """What is on the screen, as a language model is told."""
        rows = self.rows(state.shown)
        fields_of = self.vocabulary.fields_of
        shown = tuple(
            ShownItem(fields_of(rows[one]), rows[one].get("price"))
            if one in rows
            else ShownItem({})  # gone since; the others keep their places
            for one in state.shown
        )
        return TurnView(shown, state.focus, state.asked or None)

    def _counts(self, catalogue: Any, wish: Wish) -> Iterable[tuple[str, Counter[str]]]:
        """Items by value, of each field that could be asked about."""
        fields = self.vocabulary.fields
        if "categories" in catalogue.column_names:
            paths = [
                [entry.lower() for entry in path or ()]
                for path in catalogue["categories"].to_pylist()
            ]
            inner = [self._below(path, wish.categories) for path in paths]
            yield "category", Counter(path[0] for path in inner if path)
        has_attributes = "attributes" in catalogue.column_names
        pairs = catalogue["attributes"].to_pylist() if has_attributes else []
        found: dict[str, Counter[str]] = {}
        for row in pairs:
            for pair in row or ():
                name, _, value = pair.partition("=")
                value = value.strip().lower()
                if name in fields and name not in wish.attributes and value in fields[name]:
                    found.setdefault(name, Counter())[value] += 1
        for name, counts in found.items():
            if all(_PLAIN.fullmatch(value) for value in counts):
                yield name, counts

    @staticmethod
    def _below(path: list[str], categories: Sequence[str]) -> list[str]:
        """What of a path lies within some categories."""
        if not categories:
            return path
        last = max((n for n, one in enumerate(path) if one in categories), default=len(path))
        return path[last + 1 :]

    def _now(self) -> tuple[str, ShopVocabulary, dict[str, set[str]], set[str]]:
        version, known = self._recommender.bundle.catalog_version, self._known
        if known is None or known[0] != version:
            table = self.items.catalogue
            vocabulary = ShopVocabulary.of_items(table, self._topics)
            known = self._known = (version, vocabulary, _narrower(table), self._words())
        return known

    def _words(self) -> set[str]:
        """Words of the catalogue, in lower case."""
        words = {word for title in self.items.titles for word in _WORD.findall(title.lower())}
        table = self.items.catalogue
        for name in ("categories", "attributes", "brand"):
            if name in table.column_names:
                column = table[name]
                texts = column if name == "brand" else pc.list_flatten(column)
                for text in pc.unique(texts).drop_null().to_pylist():
                    words.update(_WORD.findall(text.lower()))
        return words


def _narrower(table: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    if "categories" in table.column_names:
        for path in table["categories"].to_pylist():
            lower = [entry.lower() for entry in path or ()]
            for at, entry in enumerate(lower):
                found.setdefault(entry, set()).update(lower[at + 1 :])
    return found


def _forms(word: str) -> list[str]:
    """A word, and its singular and plural, roughly."""
    return [word, f"{word}s", f"{word}es", word.removesuffix("s"), word.removesuffix("es")]


def _bits(counts: list[int], total: int) -> float:
    """Entropy of an answer that is one of some values, or another."""
    parts = [*counts, total - sum(counts)]
    return -sum(n / total * math.log2(n / total) for n in parts if n > 0) if total else 0.0
