"""JSON and YAML: whatever a text says, a value within bounds or one line."""

import time
from typing import Any

import pytest

from llmrec.bounded_yaml import MAX_YAML_CHARS, MAX_YAML_VALUES, parse_yaml
from llmrec.parsing import MAX_DEPTH, parse_json


def doubled(levels: int) -> str:
    """A YAML text that stands for ``9 ** levels`` values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested deeper than 64 levels"),
        ("[" * 700 + "]" * 700, "nested deeper than 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64 levels"),
        ("1" * 5000, "digits"),
        ("{", "line 1 column 2"),
        (b"\xff", "utf-8"),
        ("", "line 1 column 1"),
        ('["\\ud800"]', "has a character that no text has"),
    ],
)
def test_json_that_cannot_be_read_is_a_value_error_of_one_line(
    text: str | bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


def test_json_of_many_brackets_that_are_not_deep_is_read() -> None:
    assert parse_json("[" + "[],{}," * 1000 + "[]]") == [[], {}] * 1000 + [[]]
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_json_of_two_halves_of_a_character_is_read() -> None:
    assert parse_json('["\\ud83d\\ude00", "\\u0000"]') == ["\U0001f600", "\0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "line 1, column 65: nested deeper than 64 levels"),
        ("{a: " * 100_000, "line 1, column 254: nested deeper than 64 levels"),
        ("- " * 100_000, "line 1, column 129: nested deeper than 64 levels"),
        (doubled(30), "line 5, column 15: stands for more than 20,000 values"),
        ("- a\n" * (MAX_YAML_VALUES + 1), "stands for more than 20,000 values"),
        ("#" * (MAX_YAML_CHARS + 1), "more than 1,048,576 characters"),
        ("a: &a [*a]", r"line 1, column 8: \*a stands inside of what it stands for"),
        ("a: *b", "line 1, column 4: found undefined alias 'b'"),
        ("a: 1\nb: {c: 1, c: 2}", "line 2, column 11: the key 'c' stands twice"),
        ("1: a\n'1': b", "line 2, column 1: the key '1' stands twice"),
        ("? [a]\n: b", "line 1, column 3: a list or a mapping cannot be a key"),
        ("a: !!python/object/apply:os.system [x]", "line 1, column 4: tags such as .* are not"),
        ("a: !!int x", "tags such as .* are not read"),
        ("a: [1,\n b: 2", "line 2"),
        ("a: 2001-99-99", "month"),
        ("a: 0x_", "base 16"),
        ("a: 1" + ":59" * 400 + ".5", "too large"),
        ("a: \x00", "not allowed"),
        ('a: "\\0"', "line 1, column 4: has a character that no text has"),
        ('a: "\\ud800"', "line 1, column 4: has a character that no text has"),
    ],
)
def test_yaml_that_cannot_be_read_is_a_value_error_of_one_line(text: str, message: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)
    assert time.process_time() - started < 5.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, d: 2}\nc: {<<: *x, b: 3}", {"a": {"b": 1, "d": 2}, "c": {"b": 3, "d": 2}}),
        ("a: {<<: [{b: 1}, {c: 2}]}", {"a": {"b": 1, "c": 2}}),
        ("a: &x 1\n*x : 2", {"a": 1, "1": 2}),
        ("0: a\non: b\n1.50: c\n~: d", {"0": "a", "on": "b", "1.50": "c", "~": "d"}),
        ("'<<': a", {"<<": "a"}),
        ("a: 1e3", {"a": "1e3"}),
        ("", None),
    ],
)
def test_yaml_within_the_bounds_is_read(text: str, expected: Any) -> None:
    assert parse_yaml(text) == expected
