"""Which way words about prices point: "under 40" is no price to begin at, "cheaper" is lower."""

from __future__ import annotations

import re

_CURRENCY = r"(?:\W|usd|eur|gbp|dollars?|euros?|pounds?|bucks|quid|a|an|about|around)*"
_HIGH = (
    r"(?:not|never|nothing|no|none|isn't|aren't|without)(?: \w+)? "
    r"(?:over|above|beyond|exceeding|past|more than|higher than|dearer than|pricier than|"
    r"costlier than|more expensive than)|"
    r"under|below|beneath|less than|lower than|cheaper than|up to|upto|at most|no more than|within|"
    r"max|maximum|(?:max|maximum)(?: price)? of|budget|budget of|budget is|limit|limit is|limit of|"
    r"cap of|ceiling of|spend|pay|afford|stretch to|only have|have only|only got|<|<="
)
_LOW = (
    r"(?:not|never|nothing|no)(?: \w+)? (?:under|below|beneath|less than|lower than|cheaper than)|"
    r"over|above|beyond|exceeding|more than|higher than|dearer than|pricier than|costlier than|"
    r"more expensive than|at least|from|(?:starting|beginning) (?:at|from)|start at|north of|"
    r"min|minimum|(?:min|minimum)(?: price)? of|upwards of|no less than|between|>|>="
)
_HIGH_AFTER = (
    r"tops|top|max|maximum|at most|at the (?:very )?most|or less|or under|or below|or cheaper|"
    r"or so|is (?:my|our|the) (?:limit|budget|max|maximum|most)|is all (?:i|we)"
)
_LOW_AFTER = (
    r"or more|or above|or over|or higher|and up|and above|and over|upwards|plus|minimum|at least|"
    r"at a minimum"
)


_CHEAPER = (
    r"(?<!or )cheaper|(?:less|not so) (?:expensive|costly|pricey)|lower[- ]priced?|"
    r"too (?:expensive|costly|pricey|dear|steep)|more affordable|budget[- ]friendly|"
    r"(?:over|above|beyond|out of) (?:my|our) (?:budget|price range|means|limit|reach|price)|"
    r"(?:costs?|pay|spend) (?:a (?:bit|little|lot) )?less|for less|lower (?:the )?prices?|"
    r"(?:can't|cannot|can not|cant) afford|"
    r"(?:costs?|is|are|that's|it's) too much(?=\W*$| money| for me)"
)
_DEARER = (
    r"dearer|pricier|posher|classier|more (?:expensive|costly|pricey|exclusive|upmarket|upscale|"
    r"luxurious|high[- ]end|premium)|higher[- ]priced?|(?:better|higher) quality|too cheap|"
    r"(?<!to )(?:pay|spend|cost) (?:a (?:bit|little|lot) )?more"
)
_TOWARDS = {
    name: re.compile(rf"\b(?:{words})\b(?! than \W?\d)", re.IGNORECASE)
    for name, words in (("lower", _CHEAPER), ("higher", _DEARER))
}


def direction_of(message: str) -> str:
    """``lower`` or ``higher`` where a message says only that of prices; "" where not.

    >>> [direction_of(text) for text in ("anything cheaper?", "too cheap", "not dearer than 40",
    ...     "40 or cheaper", "which is cheaper, and which is more expensive?", "a scarf")]
    ['lower', 'higher', '', '', '', '']
    """
    found = [name for name, words in _TOWARDS.items() if words.search(message)]
    return found[0] if len(found) == 1 else ""


def _before(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{words}){_CURRENCY}$", re.IGNORECASE)


def _after(words: str) -> re.Pattern[str]:
    return re.compile(rf"^{_CURRENCY}(?:{words})(?!\w)", re.IGNORECASE)


_RANGE = re.compile(r"(?:between|from)\b.*\d.*(?:and|to|-)\W*$", re.IGNORECASE)
_HIGHS = (_before(_HIGH), _after(_HIGH_AFTER))
_LOWS = (_before(_LOW), _after(_LOW_AFTER))


def bound_of(message: str, begin: int, end: int) -> str:
    """``max`` or ``min`` where the words around ``message[begin:end]`` say so; "" where not.

    >>> [bound_of(text, text.index("4"), text.index("4") + 2) for text in (
    ...     "under $40 please", "nothing over 40", "40 tops", "at least 40", "40 and up",
    ...     "not under 40", "between 20 and 40", "I am 40")]
    ['max', 'max', 'max', 'min', 'min', 'min', 'max', '']
    """
    before, after = message[:begin], message[end:]
    if _RANGE.search(before):
        return "max"
    high = _longest(_HIGHS, before, after)
    low = _longest(_LOWS, before, after)
    if high == low:
        return ""
    return "max" if high > low else "min"  # "not over" is longer than "over"


def _longest(patterns: tuple[re.Pattern[str], ...], before: str, after: str) -> int:
    found = [pattern.search(text) for pattern, text in zip(patterns, (before, after), strict=True)]
    return max((len(match[0]) for match in found if match), default=0)
