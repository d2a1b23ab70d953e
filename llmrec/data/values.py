"""What cells hold: amounts of money, lists and attributes, in the forms that files have them."""

from __future__ import annotations

import ast
import itertools
import json
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from llmrec.errors import DataError
from llmrec.parsing import MAX_DEPTH, parse_json

Mark = Literal["auto", ".", ","]

_SYMBOL = r"(?:[A-Z]{1,3}\s?)?[$€£¥₹₽₩₺₫₪฿₴₦₱₲₵₸]"
_CURRENCY = rf"(?:{_SYMBOL}|[A-Z]{{3}}|kr\.?|zł|Kč|Ft|lei|Rs\.?|Fr\.?)"
_APART = r"[\s'\u2019]"  # between thousands, beside . and ,
_DIGITS = rf"\d+(?:{_APART}\d{{3}})*(?:[.,]\d+)*(?:[eE][+-]?\d+)?|[.,]\d+"
_AMOUNT = re.compile(rf"({_CURRENCY})?\s*({_DIGITS})\s*({_CURRENCY})?")
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_ENDS = {"[": "]", "{": "}", "(": ")"}
_NAME_KEYS = ("name", "key", "attribute", "property", "label", "k")
_VALUE_KEYS = ("value", "val", "v")


def amount(text: str) -> tuple[str, str] | None:
    """The digits of a price and its currency, each as written; None if it is no single amount.

    >>> amount("€ 1.234,50"), amount("12.99 USD"), amount("from 12.99"), amount("$3 - $5")
    (('1.234,50', '€'), ('12.99', 'USD'), None, None)
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        return None
    before, digits, after = match.groups()
    return re.sub(_APART, "", digits), (after or before or "").strip()


def decimal_mark(digits: str) -> str:
    """What the digits say of the mark of decimals: ``.``, ``,``, nothing, or ``?``: it is either.

    >>> [decimal_mark(text) for text in ("12,99", "1,234.5", "1.234.567", "1200", "1.234", "0.125")]
    [',', '.', ',', '', '?', '.']
    """
    marks = re.findall(r"[.,]", digits)
    if not marks:
        return ""
    mark, other = marks[0], "," if marks[0] == "." else "."
    if len(marks) > 1:
        return other  # it parts thousands
    whole, fraction = digits.split(mark)
    is_group = len(fraction) == 3 and 1 <= len(whole) <= 3 and whole[0] != "0"
    return "?" if is_group else mark


def number(digits: str, mark: str) -> float | None:
    """The number, with ``mark`` before its decimals and the other mark between thousands.

    >>> number("1.234,50", ","), number("1,234", "."), number("12,99", ".")
    (1234.5, 1234.0, None)
    """
    group = "." if mark == "," else ","
    whole, point, fraction = digits.partition(mark)
    is_grouped = group not in whole or re.fullmatch(r"\d{1,3}(\D\d{3})+", whole)
    if not is_grouped or re.search("[.,]", fraction):
        return None
    found = float(whole.replace(group, "") + ("." + fraction if point else ""))
    return found if math.isfinite(found) else None


class DecimalMark:
    """The mark of decimals of a column, which its values tell.

    A value such as ``1.234`` tells nothing; where no other does, it cannot be read.
    """

    def __init__(self, column: str, given: Mark = "auto") -> None:
        self._column, self._given = column, given
        self._first: dict[str, str] = {}

    def see(self, digits: str, place: str) -> None:
        """Take note of one value.

        Args:
            place: its file and row.
        """
        mark = decimal_mark(digits)
        if mark:
            self._first.setdefault(mark, f"{place}: {self._column} {digits!r}")

    def decide(self) -> str:
        """``.`` or ``,``.

        Raises:
            DataError: if the values seen so far have both marks, or can be read in two ways.
        """
        if self._given != "auto":
            return self._given
        fix = "set the option decimal to '.' or ','"
        point, comma = self._first.get("."), self._first.get(",")
        if point and comma:
            raise DataError(f"{comma} has a decimal comma, but {point} a decimal point; {fix}")
        if "?" in self._first and not (point or comma):
            raise DataError(
                f"{self._first['?']} has three digits behind its mark, so it may part thousands "
                f"or decimals, as all others do; {fix}"
            )
        return "," if comma else "."


def to_list(value: Any, separator: str) -> list[str]:
    """A list of distinct texts out of a list, nested lists, a written list or separated text.

    Raises:
        ValueError: for a text in brackets that is no list.

    >>> to_list([["Beauty", "Hair"], ["Beauty"]], "|"), to_list("a | b", "|")
    (['Beauty', 'Hair'], ['a', 'b'])
    >>> to_list("['Indie', 'Action']", "|"), to_list("['Indie' 'Action']", "|")
    (['Indie', 'Action'], ['Indie', 'Action'])
    """
    if isinstance(value, str):
        value = parse_literal(value) if _in_brackets(value) else value.split(separator)
    if not isinstance(value, list | tuple | set):
        value = [] if value is None else [value]
    flat: list[str] = []
    for entry in value:
        nested = isinstance(entry, list | tuple)
        flat += to_list(entry, separator) if nested else [to_text(entry)]
    return list(dict.fromkeys(text for text in flat if text))


def to_pairs(value: Any, separator: str) -> list[str]:
    """Attributes as ``name=value`` texts.

    Args:
        value: a mapping, a list of pairs or of mappings with a name and a value, either of them
            written as JSON or Python has it; or ``name=value`` or ``name: value`` texts.
        separator: between such texts, beside ``;``.

    Raises:
        ValueError: for anything else.

    >>> to_pairs({"colour": "red", "sizes": [1, 2], "none": None}, "|"), to_pairs("a=1|b=2", "|")
    (['colour=red', 'sizes=1,2'], ['a=1', 'b=2'])
    >>> to_pairs([{"name": "colour", "value": "red"}], "|"), to_pairs("a: 1; b: x=y", "|")
    (['colour=red'], ['a=1', 'b=x=y'])
    """
    if isinstance(value, str):
        value = parse_literal(value) if _in_brackets(value) else _parts(value, separator)
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is no mapping")
    pairs = []
    for entry in value:
        for name, content in _entry_pairs(entry):
            several = isinstance(content, list)
            text = ",".join(map(to_text, content)) if several else to_text(content)
            if text:  # the first "=" parts name and value, so a name must not hold one
                pairs.append(f"{to_text(name).replace('=', '_')}={text}")
    return pairs


def _entry_pairs(entry: Any) -> list[tuple[Any, Any]]:
    if isinstance(entry, Mapping):
        name = next((key for key in entry if str(key).lower() in _NAME_KEYS), None)
        value = next((key for key in entry if str(key).lower() in _VALUE_KEYS), None)
        if len(entry) == 2 and name is not None and value is not None:
            return [(entry[name], entry[value])]
        return list(entry.items())
    if isinstance(entry, str):
        found = re.match(r"\s*([^=:]+?)\s*[=:](.*)", entry, re.DOTALL)
        if found:
            return [(found[1], found[2])]
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return [(entry[0], entry[1])]
    raise ValueError(f"{entry!r} has no name and value")


def _parts(text: str, separator: str) -> list[str]:
    """The texts between the first separator of which all parts have a name and a value."""
    for mark in (separator, ";", "\n", ","):
        parts = [part for part in text.split(mark) if part.strip()]
        if len(parts) > 1 and all(re.search("[=:]", part) for part in parts):
            return parts
    return [text] if text.strip() else []


def to_text(value: Any) -> str:
    """One text out of any value; nothing out of None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(to_text, value)))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _in_brackets(text: str) -> bool:
    stripped = text.strip()
    return len(stripped) > 1 and _ENDS.get(stripped[0]) == stripped[-1]


def parse_literal(text: str) -> Any:
    """The value of a text in JSON, as a Python literal, or as NumPy prints an array of texts.

    Raises:
        ValueError: if it is none of them, or nested too deep.
    """
    try:
        return parse_json(text)
    except ValueError:
        pass
    if text.count("[") + text.count("{") + text.count("(") > MAX_DEPTH:
        raise ValueError("nested too deep")
    strings = list(_STRING.finditer(text))
    gaps = [text[a.end() : b.start()] for a, b in itertools.pairwise(strings)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a backslash in a text
        try:
            if any(not gap.strip() for gap in gaps):  # Python would join them
                if all(not gap.strip() for gap in gaps):
                    return [ast.literal_eval(found[0]) for found in strings]
                raise ValueError("texts without a comma between them")
            return ast.literal_eval(text.strip())
        except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError(str(error)) from None
