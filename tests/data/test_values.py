"""Amounts of money, lists and attributes, in the forms that files have them."""

from typing import Any

import pytest

from llmrec.data.values import DecimalMark, amount, number, parse_literal, to_list, to_pairs
from llmrec.errors import DataError


@pytest.mark.parametrize(
    "text, expected",
    [
        ("12,99", ("12,99", "")),
        ("€12,99", ("12,99", "€")),
        ("12,99 €", ("12,99", "€")),
        ("12.99 USD", ("12.99", "USD")),
        ("US$ 1,234.50", ("1,234.50", "US$")),
        ("¥1200", ("1200", "¥")),
        ("1 234,50 kr", ("1234,50", "kr")),
        ("1'234.50 CHF", ("1234.50", "CHF")),
        (".99", (".99", "")),
        ("1e3", ("1e3", "")),
        ("from 12.99", None),
        ("$19.99 - $39.99", None),
        ("—", None),
        ("-5", None),
        ("12.99.", None),
        ("", None),
    ],
)
def test_amounts(text: str, expected: tuple[str, str] | None) -> None:
    assert amount(text) == expected


@pytest.mark.parametrize(
    "digits, point, comma",
    [
        ("12", 12.0, 12.0),
        ("12.99", 12.99, None),
        ("12,99", None, 12.99),
        ("1.234", 1.234, 1234.0),
        ("1,234", 1234.0, 1.234),
        ("1.234.567,5", None, 1234567.5),
        ("1,234,567.5", 1234567.5, None),
        ("12,34,5", None, None),
        ("1234,567.5", None, None),
        ("1e3", 1000.0, 1000.0),
        ("1e999", None, None),
    ],
)
def test_numbers_by_their_decimal_mark(
    digits: str, point: float | None, comma: float | None
) -> None:
    assert (number(digits, "."), number(digits, ",")) == (point, comma)


def decided(*values: str, given: Any = "auto") -> str:
    mark = DecimalMark("price", given)
    for row, value in enumerate(values, 1):
        mark.see(value, f"row {row}")
    return mark.decide()


def test_a_column_says_which_mark_its_decimals_have() -> None:
    assert decided("1,234", "12,99") == ","
    assert decided("1,234", "12.99") == "."
    assert decided("1.234", "1.234,5") == ","
    assert decided("7", "1200") == "."
    assert decided("1.234", "0.125") == "."


def test_a_column_that_does_not_say_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 2: price '1,5' has .* comma, but row 1: price '1.5'"):
        decided("1.5", "1,5")
    with pytest.raises(DataError, match=r"row 1: price '1.234' .* set the option decimal"):
        decided("1.234", "2.345")
    assert decided("1.5", "1,5", given=",") == ","
    assert decided("1.234", given=".") == "."


@pytest.mark.parametrize(
    "value, expected",
    [
        ("a | b|a", ["a", "b"]),
        (["a", ["b", 7.0]], ["a", "b", "7"]),
        ('["a", "b"]', ["a", "b"]),
        ("['its', \"b\"]", ["its", "b"]),
        ("('a',)", ["a"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        ("[]", []),
        ("[Sale] lamps", ["[Sale] lamps"]),
        (None, []),
        (7, ["7"]),
    ],
)
def test_lists(value: Any, expected: list[str]) -> None:
    assert to_list(value, "|") == expected


@pytest.mark.parametrize(
    "value, expected",
    [
        ({"colour": "red", "n": None}, ["colour=red"]),
        ("{'colour': 'red', 'size': 4}", ["colour=red", "size=4"]),
        ('{"sizes": [1, 2]}', ["sizes=1,2"]),
        ([{"name": "colour", "value": "red"}], ["colour=red"]),
        ([{"Key": "colour", "Value": "red"}, {"size": 4}], ["colour=red", "size=4"]),
        ("[{'name': 'colour', 'value': 'red'}]", ["colour=red"]),
        ([("colour", "red"), ["size", 4]], ["colour=red", "size=4"]),
        ("colour: red; size: 4", ["colour=red", "size=4"]),
        ("colour=red|size=4", ["colour=red", "size=4"]),
        ("colour: red, size: 4", ["colour=red", "size=4"]),
        ("note: red, blue", ["note=red, blue"]),
        ("link: http://x/?a=1", ["link=http://x/?a=1"]),
        ({"a=b": 1}, ["a_b=1"]),
        ("", []),
        ("{}", []),
    ],
)
def test_attributes(value: Any, expected: list[str]) -> None:
    assert to_pairs(value, "|") == expected


@pytest.mark.parametrize("value", ["just words", "[1, 2]", "{'a'", "{broken}", [1, 2], 7])
def test_what_are_no_attributes(value: Any) -> None:
    with pytest.raises(ValueError):
        to_pairs(value, "|")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100 + "]" * 100,
        "(" * 5000 + ")" * 5000,
        "['a' 'b', 'c']",
        "[a, b]",
        "[__import__('os')]",
    ],
)
def test_what_is_no_literal(text: str) -> None:
    with pytest.raises(ValueError):
        parse_literal(text)
