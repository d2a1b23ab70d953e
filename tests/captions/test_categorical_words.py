"""Text to words: accents, scripts without spaces, pictographs; and the same way twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.captions.categorical_vocabulary import normalized, words

CASES = [
    ("A Red, striped MUG!", ["a", "red", "striped", "mug"]),
    ("caf\u00e9 cafe\u0301 CAF\u00c9", ["caf\u00e9"] * 3),  # composed, decomposed, upper case
    ("stra\u00dfe \u0130stanbul", ["stra\u00dfe", "i\u0307stanbul"]),
    ("J\u030c", ["\u01f0"]),  # only the lower letter has a composed form
    ("\ufb01ne \uff52\uff45\uff44 \u2460", ["fine", "red", "1"]),  # ligature, full width, circled
    ("women's it\u2019s 'quoted' rock'n'roll", ["women's", "it's", "quoted", "rock'n'roll"]),
    ("t-shirt snake_case 1.5kg", ["t", "shirt", "snake", "case", "1", "5kg"]),
    ("红色T恤", ["红", "色", "t", "恤"]),
    ("赤いマグ", ["赤", "いマグ"]),
    ("빨간 머그", ["빨간", "머그"]),
    ("हिन्दी कप", ["हिन्दी", "कप"]),  # vowel signs are marks, inside the word
    ("красная Кружка", ["красная", "кружка"]),
    ("gift🎁 👍🏽 ❤️", ["gift", "🎁", "👍", "❤"]),
    ("👩\u200d🍳", ["👩", "🍳"]),
    ("Brand™ © ® 20°", ["brandtm", "20"]),
    (" \t\n--- ''", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_text_is_parted_into_these_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_words_of_words_are_the_words(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)


@given(st.text())
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


@given(st.text(), st.text())
def test_a_space_parts_words_and_nothing_else(one: str, other: str) -> None:
    assert words(f"{one} {other}") == words(one) + words(other)
