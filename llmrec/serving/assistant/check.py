"""Whether a reply is true of the catalogue, read from its text alone.

It knows nothing of how replies are made: it finds the products that a text names, line by line, and
holds what the line says of them to their rows: prices, stock, values of closed fields. A numbered
line that names no product is a mistake as well, and so is a sum that does not add up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmrec.serving.assistant.calls import finder
from llmrec.serving.assistant.vocabulary import ShopVocabulary
from llmrec.serving.one_line import one_line

Json = dict[str, Any]
_MONEY = re.compile(r"(\d[\d,]*\.\d\d) ([A-Z]{3})\b")
_NUMBERED = re.compile(r"^\d+\. ")
_COUNTED = re.compile(r"^(\d+) x ")
_REASON = re.compile(r" \([^()]*(?:\([^()]*\)[^()]*)*\)$")
_QUOTED = re.compile(r"“[^”]*”|'[^']*'|\"[^\"]*\"")


def untrue(text: str, rows: Mapping[str, Json], vocabulary: ShopVocabulary) -> list[str]:
    """What a reply says that is not so; empty where all of it is.

    Args:
        text: of the reply.
        rows: of the whole catalogue, by identifier.
        vocabulary: its closed fields.
    """
    titles = _by_title(rows.values())
    found: list[str] = []
    total, is_cart = 0.0, False
    for line in text.splitlines():
        named = _named(line, titles)
        if _NUMBERED.match(line) and not named:
            found.append(f"no product of the catalogue: {line}")
        if not named:
            if is_cart and line.startswith("Total") and _amounts(line) != [round(total, 2)]:
                found.append(f"the lines make {total:.2f}: {line}")
            continue
        said = _without_names(line, named)
        candidates = [row for title in named for row in titles[title]]
        found += [f"{problem}: {line}" for problem in _problems(said, candidates, vocabulary)]
        counted = _COUNTED.match(line)
        if counted and _amounts(said):
            is_cart, total = True, total + int(counted[1]) * _amounts(said)[0]
    return found


def _problems(said: str, rows: list[Json], vocabulary: ShopVocabulary) -> Iterator[str]:
    """What a line says that none of the products it names has."""
    prices = {round(row["price"], 2) for row in rows if row.get("price") is not None}
    for amount in _amounts(said):
        if amount not in prices:
            yield f"no such price, {amount}"
    stocks = {row.get("in_stock") is not False for row in rows}
    if "sold out" in said and True in stocks and False not in stocks:
        yield "is in stock"
    if "in stock" in said and "sold out" not in said and stocks == {False}:
        yield "is sold out"
    has = [vocabulary.fields_of(row) for row in rows]
    for mention in finder(vocabulary).find(said):
        if not any(set(mention.values) & set(one.get(mention.field, ())) for one in has):
            # a value of another field may be written alike: "down", "boots"
            everywhere = {value for one in has for values in one.values() for value in values}
            if not set(mention.values) & everywhere:
                yield f"not {mention.words}"


def _by_title(rows: Iterable[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for row in rows:
        found.setdefault(one_line(row["title"] or row["item_id"]), []).append(row)
    return found


def _named(line: str, titles: Mapping[str, list[Json]]) -> list[str]:
    """Titles that a line speaks of, outside its reason and quotes; the longest first."""
    plain = _REASON.sub("", line)
    found: list[str] = []
    for title in sorted(titles, key=len, reverse=True):
        if title in plain and not any(title in longer for longer in found):
            found.append(title)
    return found


def _without_names(line: str, named: list[str]) -> str:
    """What a line says beside names, its reason and what it quotes."""
    line = _REASON.sub("", line)
    for title in named:
        line = line.replace(title, " ")
    return _QUOTED.sub(" ", line)


def _amounts(text: str) -> list[float]:
    return [float(amount.replace(",", "")) for amount, _ in _MONEY.findall(text)]
