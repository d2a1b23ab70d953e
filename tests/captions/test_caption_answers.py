"""What is read from an answer, whole or cut, and how sure the model was."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.captions.responses import field_probabilities, read_enhanced, read_fields
from llmrec.content.schema import Field, Schema

SCHEMA = Schema({"size": Field(["a", "ab"]), "colour": Field(["caf\u00e9", 'the "red"'])})
WHOLE = {"key_terms": ["wool", "winter"], "summary": "A scarf.", "wanted_by": "everyone"}


def test_a_whole_answer_is_read_as_it_is() -> None:
    assert read_enhanced(json.dumps(WHOLE)) == WHOLE
    text = json.dumps({"size": "ab", "colour": 'the "red"'})
    assert read_fields(text, SCHEMA) == {"size": "ab", "colour": 'the "red"'}


@settings(max_examples=200, deadline=None)
@given(
    terms=st.lists(st.text(max_size=8), max_size=4),
    summary=st.text(max_size=12),
    data=st.data(),
)
def test_an_answer_that_was_cut_keeps_what_is_whole_and_invents_nothing(
    terms: list[str], summary: str, data: st.DataObject
) -> None:
    answer = {"key_terms": terms, "summary": summary, "wanted_by": "me"}
    text = json.dumps(answer, ensure_ascii=False)
    found = read_enhanced(text[: data.draw(st.integers(0, len(text)))])
    kept = list(dict.fromkeys(" ".join(t.split()) for t in terms if t.split()))
    assert found["key_terms"] == kept[: len(found["key_terms"])]
    assert found["summary"] in (None, " ".join(summary.split()))
    assert found["wanted_by"] in (None, "me")
    if found["summary"]:
        assert found["key_terms"] == kept


def test_what_is_no_answer_at_all_says_nothing() -> None:
    for text in ("", "{", "no json", "[1]", '{"key_terms": 7}', '{"key_terms": [7, null]}'):
        nothing = {"key_terms": [], "summary": None, "wanted_by": None}
        assert read_enhanced(text) == nothing
        assert read_fields(text, SCHEMA) == {}
    assert read_fields('{"size": "abc"}', SCHEMA) == {}


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_a_value_is_as_sure_as_the_tokens_that_write_it(cut: int) -> None:
    """Whatever the tokens' lengths: those that reach into the value or its closing quote count."""
    text = json.dumps({"size": "ab", "colour": "caf\u00e9"}, ensure_ascii=False).encode()
    pieces = [text[start : start + cut] for start in range(0, len(text), cut)]
    logprobs = [-0.01 * (place + 1) for place in range(len(pieces))]
    sure = field_probabilities(pieces, logprobs, SCHEMA)
    for name, written in (("size", b'ab"'), ("colour", b'caf\xc3\xa9"')):
        first = text.index(written)
        last = first + len(written) - 1
        expected = math.exp(sum(logprobs[first // cut : last // cut + 1]))
        assert sure[name] == pytest.approx(expected, rel=1e-12)
