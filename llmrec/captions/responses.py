"""Values of generated responses: closed fields with their probabilities, and ``enhance``.

A response that ran into its limit keeps what is whole; nothing is added to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmrec.content.schema import Schema

_DECODER = json.JSONDecoder(strict=False)  # bounded strings may hold a tab
_BETWEEN = ", \t\n"


@dataclass(frozen=True)
class Span:
    """Where the value of a key stands in a response: ``text[start:end]``."""

    value: Any
    start: int
    end: int


def read_fields(text: str, schema: Schema) -> dict[str, str]:
    """The closed fields of a response; those that it does not have whole are missing.

    >>> from llmrec.content.schema import Field
    >>> schema = Schema({"colour": Field(["red", "blue"]), "fit": Field(["slim"])})
    >>> read_fields('{"colour": "red", "fit": "sl', schema)
    {'colour': 'red'}
    """
    spans = spans_of(text)
    found = {name: spans[name].value for name in schema.names if name in spans}
    return {name: value for name, value in found.items() if value in schema.values(name)}


def read_enhanced(text: str) -> dict[str, Any]:
    """Key terms, summary and who would want it; of a response that was cut, what is whole.

    >>> read_enhanced('{"key_terms": ["red", "wool"], "summary": "A sca')
    {'key_terms': ['red', 'wool'], 'summary': None, 'wanted_by': None}
    >>> read_enhanced('{"key_terms": ["red", "wo')
    {'key_terms': ['red'], 'summary': None, 'wanted_by': None}
    """
    spans = spans_of(text)
    terms = spans["key_terms"].value if "key_terms" in spans else _begun_terms(text)
    found: dict[str, Any] = {"key_terms": _kept_terms(terms)}
    for name in ("summary", "wanted_by"):
        value = spans[name].value if name in spans else None
        found[name] = (" ".join(value.split()) or None) if isinstance(value, str) else None
    return found


def spans_of(text: str) -> dict[str, Span]:
    """The keys of a JSON object whose values are whole, though the object may be cut.

    >>> spans_of('{"a": "x", "b": [1')
    {'a': Span(value='x', start=6, end=9)}
    """
    found: dict[str, Span] = {}
    place = 1
    try:
        while place < len(text) and text[place] != "}":
            place = _after(text, place, _BETWEEN)
            key, place = _DECODER.raw_decode(text, place)
            start = _after(text, place, ": ")
            value, place = _DECODER.raw_decode(text, start)
            found[key] = Span(value, start, place)
    except ValueError:
        pass  # the response was cut here
    return found


def field_probabilities(
    pieces: Sequence[bytes], logprobs: Sequence[float], schema: Schema
) -> dict[str, float]:
    """The probability of each value, among those that the schema leaves.

    The product of the probabilities of the tokens that write the value and its closing quote, each
    given all before it. Another way to cut the same value into tokens takes from it, so it is a
    lower bound.

    Args:
        pieces: each token's bytes, UTF-8 when put together.
        logprobs: of each of these tokens.
    """
    text = b"".join(pieces).decode(errors="ignore")
    edges = [0]
    for piece in pieces:
        edges.append(edges[-1] + len(piece))
    found = {}
    for name, span in spans_of(text).items():
        if name in schema.fields:
            # the opening quote is forced: a token that ends with it is no part of the value
            first = len(text[: span.start + 1].encode())
            last = len(text[: span.end].encode())
            inside = (
                logprob
                for logprob, begin, end in zip(logprobs, edges[:-1], edges[1:], strict=True)
                if begin < last and end > first
            )
            found[name] = math.exp(sum(inside))
    return found


def _after(text: str, place: int, skipped: str) -> int:
    while place < len(text) and text[place] in skipped:
        place += 1
    return place


def _begun_terms(text: str) -> list[Any]:
    """The whole strings of a list that was cut."""
    _, opened, rest = text.partition('"key_terms": [')
    terms = []
    place = 0
    try:
        while opened:
            place = _after(rest, place, _BETWEEN)
            term, place = _DECODER.raw_decode(rest, place)
            terms.append(term)
    except ValueError:
        pass  # the list was cut here
    return terms


def _kept_terms(terms: Any) -> list[str]:
    """Each once, without empty ones."""
    listed = terms if isinstance(terms, list) else []
    lines = (" ".join(term.split()) for term in listed if isinstance(term, str))
    return list(dict.fromkeys(line for line in lines if line))
