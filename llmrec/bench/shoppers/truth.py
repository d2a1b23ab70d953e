"""Whether replies are true of the catalogue, in two ways that know nothing of each other.

One is the assistant's own check (:mod:`llmrec.serving.assistant.check`). The other, here, reads a
reply as its customer does: the numbered lines are the cards below it, in their order; an amount is
a price of the product on its line, or what the customer said, or a sum; a brand is that product's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmrec.serving.assistant.check import untrue
from llmrec.serving.assistant.mentions import numbers_of
from llmrec.serving.assistant.vocabulary import ShopVocabulary

Json = dict[str, Any]
_AMOUNT = re.compile(r"\d[\d,]*\.\d\d(?=\s+[A-Z]{3}\b)")
_LINE = re.compile(r"^(\d+)\. (.*)$")
_COUNT = re.compile(r"^(\d+) x (.*)$")
_QUOTED = re.compile(r"“[^”]*”")
_SPACE = re.compile(r"\s+")


class Truth:
    """What is so.

    Args:
        rows: of the catalogue, by identifier.
        vocabulary: its closed fields.
    """

    def __init__(self, rows: Mapping[str, Json], vocabulary: ShopVocabulary) -> None:
        self._rows, self._vocabulary = rows, vocabulary
        self._titles: dict[str, list[str]] = {}
        for item_id, row in rows.items():
            self._titles.setdefault(_plain(row["title"] or item_id), []).append(item_id)
        by_length = sorted(self._titles, key=len, reverse=True)
        self._any_title = re.compile("|".join(map(re.escape, by_length)) or r"(?!)")
        brands = sorted({row["brand"] for row in rows.values() if row.get("brand")})
        self._any_brand = re.compile(rf"\b({'|'.join(map(re.escape, brands)) or '(?!)'})\b")

    def problems(self, text: str, shown: Sequence[str], said: Sequence[str]) -> list[str]:
        """What a reply says that is not so.

        Args:
            text: of the reply.
            shown: products on the cards, in their order.
            said: messages of the customer so far.
        """
        theirs = untrue(text, self._rows, self._vocabulary)
        return list(dict.fromkeys([*theirs, *self._own(text, shown, said)]))

    def titles_in(self, text: str) -> list[str]:
        """Titles of the catalogue that a text has."""
        return self._any_title.findall(_plain(text))

    def _own(self, text: str, shown: Sequence[str], said: Sequence[str]) -> Iterable[str]:
        numbers = {round(n, 2) for message in said for n in numbers_of(message)}
        # "cheaper" is a bound beside a price that was shown
        prices = [row["price"] for row in self._rows.values() if row.get("price") is not None]
        known = numbers | {round(price, 2) for price in prices}
        total = 0.0
        for raw in text.splitlines():
            line = _plain(raw)
            match, counted = _LINE.match(line), _COUNT.match(line)
            named = self._any_title.findall(line)
            if match and shown and int(match[1]) <= len(shown):
                title = _plain(self._rows[shown[int(match[1]) - 1]]["title"])
                if not match[2].startswith(title):
                    yield f"line {match[1]} is not the card there: {line}"
            yield from self._of_line(line, named, known, total)
            if counted and named and (costs := self._prices(named[:1])):
                total += int(counted[1]) * min(costs)

    def _of_line(
        self, line: str, named: Sequence[str], known: set[float], total: float
    ) -> Iterable[str]:
        amounts = [round(float(one.replace(",", "")), 2) for one in _AMOUNT.findall(line)]
        allowed = self._prices(named) if named else {*known, round(total, 2)}
        for amount in amounts:
            if named and amount not in allowed:
                yield f"{amount} is not its price: {line}"
            elif not named and not any(abs(amount - one) < 0.011 for one in allowed):
                middles = {round((a + b) / 2, 2) for a in allowed for b in allowed}
                if not any(abs(amount - one) < 0.011 for one in middles):
                    yield f"{amount} is no price: {line}"
        if named:
            rest = _QUOTED.sub(" ", self._any_title.sub(" ", line.partition(" (")[0]))
            brands = {self._rows[one]["brand"] for title in named for one in self._titles[title]}
            for brand in self._any_brand.findall(rest):
                if brand not in brands:
                    yield f"{brand} is not its brand: {line}"

    def _prices(self, titles: Sequence[str]) -> set[float]:
        ids = [item_id for title in titles for item_id in self._titles[title]]
        prices = [self._rows[item_id]["price"] for item_id in ids]
        return {round(price, 2) for price in prices if price is not None}


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip()
