"""How customers write: a wish put into words, and what hurry does to a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmrec.serving.assistant.dialogues.phrases import Phrases, all_phrases
from llmrec.serving.assistant.mentions import lexicon

Json = dict[str, Any]
SOMETHING = ("something", "anything", "something", "things", "stuff")
_MARK = re.compile(r"\[([^\]]+)\]")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def surface(phrases: Phrases, value: str, typos: float = 0.06) -> str:
    """A value as a customer may write it: another word, sometimes with a wrong letter."""
    others = lexicon()[0].get(value.lower(), [])
    said = phrases.choose(others) if others and phrases.happens(0.3) else value
    if phrases.happens(typos) and len(said) > 5:
        said = typo(phrases, said)
    return said.lower() if phrases.happens(0.7) else said


def thing(phrases: Phrases, category: str | None, values: list[tuple[str, str]]) -> str:
    """A noun phrase without an article.

    Args:
        category: how it is said, or None for "something".
        values: field and how its value is said.
    """
    noun = category or phrases.choose(list(SOMETHING))
    known = all_phrases()["values"]
    for field, said in values:
        way = phrases.pick("values", field if field in known else "other")
        if category is None and way.startswith("{value}"):
            way = "{noun} {value}"
        noun = way.format(noun=noun, value=said, field=field)
    return str(noun)


def with_article(phrases: Phrases, text: str, noun: str | None) -> str:
    """A noun phrase as it stands in a sentence: "a red scarf", "red scarf", "some red boots"."""
    if noun is None:
        return text
    if noun.endswith("s") and not noun.endswith("ss"):
        return str(phrases.choose([text, text, f"some {text}", f"a pair of {text}"]))
    article = "an" if text[:1].lower() in "aeiou" else "a"
    return str(phrases.choose([f"{article} {text}", f"{article} {text}", text, f"some {text}"]))


def plural(noun: str) -> str:
    """Of a thing, in most cases."""
    if noun.endswith("s"):
        return noun
    if noun.endswith(("sh", "ch", "x")):
        return f"{noun}es"
    if noun.endswith("f"):
        return f"{noun[:-1]}ves"
    return f"{noun}s"


def amount(phrases: Phrases, number: float) -> str:
    """A price as a customer may write it."""
    if number % 10 == 0 and 20 <= number <= 90 and phrases.happens(0.06):
        tens = "twenty thirty forty fifty sixty seventy eighty ninety"
        return tens.split()[int(number) // 10 - 2]
    text = f"{number:g}" if number == int(number) else f"{number:.2f}"
    return str(phrases.pick("amounts").format(n=text))


def decorated(phrases: Phrases, message: str, chatty: bool = True) -> str:
    """A message with what people write around it, in their own hand."""
    if chatty and phrases.happens(0.2):
        message = f"{phrases.pick('openers')} {message}"
    if chatty and phrases.happens(0.15):
        stop = message.endswith(("?", "!", "."))
        message = (
            f"{message}{'' if stop or phrases.happens(0.6) else ','} {phrases.pick('closers')}"
        )
    if chatty and phrases.happens(0.07):
        story = phrases.pick("stories")
        message = f"{story} {message}" if phrases.happens(0.6) else f"{message}. {story}"
    return by_hand(phrases, message)


def by_hand(phrases: Phrases, message: str) -> str:
    """Capitals, stops and letters as people in a hurry set them."""
    if phrases.happens(0.5):
        message = message[:1].upper() + message[1:]
    if phrases.happens(0.3):
        message = message.lower()
    if phrases.happens(0.25):
        message = re.sub(r"[?!,.](?=\s|$)", "", message)
    if phrases.happens(0.1):
        message = typo(phrases, message)
    if phrases.happens(0.02):
        message = message.upper()
    return " ".join(message.split())


def typo(phrases: Phrases, text: str) -> str:
    """A text with one letter of a longer word left out, doubled, swapped or wrong."""
    places = [match.span() for match in re.finditer(r"[A-Za-z]{5,}", text)]
    if not places:
        return text
    begin, end = phrases.choose(places)
    at = int(phrases.rng.integers(begin + 1, end - 1))
    ways: list[Callable[[], str]] = [
        lambda: text[:at] + text[at + 1 :],
        lambda: text[:at] + text[at] + text[at:],
        lambda: text[:at] + text[at + 1] + text[at] + text[at + 2 :],
        lambda: text[:at] + phrases.choose(list(_LETTERS)) + text[at + 1 :],
    ]
    return str(phrases.choose(ways)())


def marked(message: str) -> tuple[str, str | None]:
    """A message without its marks, and the words that were marked."""
    found = _MARK.search(message)
    return _MARK.sub(r"\1", message), found[1] if found else None
