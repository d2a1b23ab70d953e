"""Text to words, the same way for ever: ids of a vocabulary hang on it.

Unicode NFKC, lower case, then runs of letters, digits and their marks; an apostrophe inside a word
belongs to it, every other sign parts words. Scripts written without spaces give one word a Han
character. A pictograph is a word; its modifiers are dropped.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache

VERSION = 1  # of the rules above, kept with every vocabulary
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003fffd"
_PICTOGRAPHS = "\u2600-\u27bf\U0001f000-\U0001f3fa\U0001f400-\U0001faff"  # without skin tones


def words(text: str) -> list[str]:
    """The words of a text, in order.

    >>> words("Women's T-shirt, ﬁne CAFÉ-crème 100%")
    ["women's", 't', 'shirt', 'fine', 'café', 'crème', '100']
    >>> words("红色T恤 🎁👍🏽")
    ['红', '色', 't', '恤', '🎁', '👍']
    """
    return _pattern().findall(normalized(text))


def normalized(text: str) -> str:
    """NFKC and lower case; twice, since lowering can undo a composition.

    >>> normalized("\\uff21\\uff22 Cafe\\u0301 it\\u2019s")
    "ab café it's"
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    return unicodedata.normalize("NFKC", lowered).replace("\u2019", "'")


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    letter = rf"[^\W_{_HAN}]"  # \w without the sign _, and without what stands alone
    run = rf"{letter}(?:{letter}|[{_marks()}])*"
    return re.compile(rf"[{_HAN}]|{run}(?:'{run})*|(?![\w])[{_PICTOGRAPHS}]")


def _marks() -> str:
    """Combining marks as ranges of a character class: in many scripts they are vowels."""
    codes = [c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c))[0] == "M"]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
