"""Where a message names values of the shop: plurals, other words for them, a wrong letter.

A customer says "crimson scarfs"; the catalogue says colour red, category scarf. What is found here
is told to the language model beside the message, which then has to decide only what is meant by it:
a wish, something not wanted, or one of the items that are shown. So a model that learned with one
shop reads the words of another.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from llmrec.config import load_yaml
from llmrec.prompts import templates_folder
from llmrec.serving.assistant.vocabulary import ShopVocabulary

LONGEST = 4  # words of a value
BEFORE, BEHIND = 4, 3  # words before and behind a value that may negate it
LEAST_LETTERS = 5  # of a word that may be a typo
LIMITS = ("tops", "top", "max")  # behind an amount they are no thing
CURRENCIES = ("dollars", "dollar", "usd", "euros", "euro", "eur", "pounds", "gbp", "bucks", "quid")
_WORD = re.compile(r"[^\W_]+(?:[&'’.-][^\W_]+)*|&", re.UNICODE)  # noqa: RUF001
_NUMBERED = re.compile(r"#\s?(\d)")
_NUMBER = re.compile(
    r"(?<![\w.,])\d{1,6}(?:[.,]\d{1,2})?(?!\w|[.,]\d|\s?%)|(?<![\w.,])\d{1,6}(?=[€$£])"
)
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_COUNTS |= {"ten": 10, "eleven": 11, "twelve": 12, "dozen": 12, "pair": 2, "couple": 2, "twice": 2}
_PIECES = ("of", "x", "times", "pieces", "pcs", "units", "copies")  # behind a number of them
_PLACED = ("number", "no", "item", "option", "first", "top")  # before a place on the screen
Meaning = tuple[str, str]  # field and value


@dataclass(frozen=True)
class Mention:
    """A value that a message names.

    Attributes:
        words: how the message says it, in lower case.
        field: argument of a search.
        values: of the field; several where the word fits several ("dress").
        negated: whether the words around it sound as if it were not wanted.
    """

    words: str
    field: str
    values: tuple[str, ...]
    negated: bool = False


def cues() -> dict[str, frozenset[str]]:
    """Words that hint at what is meant, by what they hint at: ``words.yaml``."""
    return word_sets("cues")


def word_lists() -> dict[str, frozenset[str]]:
    """Words by what they do in a message: ``words.yaml``."""
    return word_sets("word_lists")


@lru_cache
def word_sets(section: str) -> dict[str, frozenset[str]]:
    """Sets of words by name: a section of ``words.yaml``."""
    return {
        str(name): frozenset(one.strip() for one in text.split("|"))
        for name, text in _words()[section].items()
    }


@lru_cache
def _words() -> dict[str, Any]:
    return load_yaml(templates_folder() / "dialogues" / "words.yaml")


@lru_cache
def lexicon() -> tuple[dict[str, list[str]], frozenset[str]]:
    """Other words for values, and the words that are never a typo: ``words.yaml``."""
    return _words()["synonyms"], frozenset(_words()["common"].split())


class MentionFinder:
    """Finds the values of a shop in messages.

    Args:
        vocabulary: of the shop.
    """

    def __init__(self, vocabulary: ShopVocabulary) -> None:
        self.vocabulary = vocabulary
        self._synonyms, self._common = lexicon()

    def find(self, message: str) -> list[Mention]:
        """What a message names, in its order; the longest name of several is meant."""
        spans = words_of(message)
        words = _without_limits([word for word, _, _ in spans])
        stops = _clause_starts(message, spans)
        found: list[Mention] = []
        at = ends = 0  # where the last one ended
        while at < len(words):
            for length in range(min(LONGEST, len(words) - at), 0, -1):
                said = " ".join(words[at : at + length])
                meant = self._forms.get(said) or self._typo(said)
                if meant:
                    joined = words[ends:at]
                    before = words[max(ends, at - BEFORE, stops[at]) : at]
                    after = range(at + length, min(at + length + BEHIND, len(words)))
                    behind = dismissed([words[n] for n in after if stops[n] <= at])
                    negated = behind or sounds_negated(before)
                    if found and joined in (["or"], ["and"], ["nor"], ["or", "in"], []):
                        if behind and found[-1].field == meant[0][0]:  # "red or blue is not for me"
                            found[-1] = replace(found[-1], negated=True)
                        negated = negated or (joined != [] and found[-1].negated)
                    values = tuple(value for _, value in meant)
                    found.append(Mention(said, meant[0][0], values, negated))
                    at += length - 1
                    ends = at + (3 if behind else 1)
                    break
            at += 1
        return found

    @cached_property
    def _forms(self) -> dict[str, list[Meaning]]:
        """Meanings of each way to write a value: its own, then synonyms, then its last word."""
        forms: dict[str, list[Meaning]] = {}
        own = [(name, v) for name, values in self.vocabulary.fields.items() for v in values]
        for name, value in own:
            for form in inflected(normal(value)):
                if form not in self._common:
                    forms.setdefault(form, [(name, value)])
        for name, value in own:
            for other in self._synonyms.get(value.lower(), ()):
                for form in inflected(normal(other)):
                    if form not in self._common:
                        forms.setdefault(form, [(name, value)])
        heads: dict[str, list[Meaning]] = {}
        for value in self.vocabulary.categories:
            *rest, head = normal(value).split()
            if rest and head not in self._common:
                for form in inflected(head):
                    heads.setdefault(form, []).append(("category", value))
        return heads | forms

    @cached_property
    def _deletions(self) -> dict[str, set[str]]:
        """Ways to write a value that become this with one letter left out, and themselves."""
        found: dict[str, set[str]] = {}
        for form in self._forms:
            if len(form) >= LEAST_LETTERS:
                for less in _without_a_letter(form):
                    found.setdefault(less, set()).add(form)
        return found

    def _typo(self, said: str) -> list[Meaning]:
        """Meanings of a way to write a value of which one word has a wrong letter."""
        if len(said) < LEAST_LETTERS or said in self._common:
            return []
        near = {form for less in _without_a_letter(said) for form in self._deletions.get(less, ())}
        meanings = {tuple(self._forms[form]) for form in near if _one_typo(said, form)}
        return list(meanings.pop()) if len(meanings) == 1 else []


def sounds_negated(before: list[str]) -> bool:
    """Whether a value is one that is not wanted, by the words before it."""
    if "meant" in before:  # "no, I meant red"
        return False
    answers = {"no", "besides"}  # "no. 2 in red", "no, show me red"
    next_clause = word_lists()["next_clause"]
    kept = [
        word
        for word, after in itertools.pairwise([*before, ""])
        if word not in answers or not (after.isdigit() or after in next_clause)
    ]
    pairs = [f"{one} {other}" for one, other in itertools.pairwise(kept)]
    return bool(cues()["not"] & {*kept, *pairs})


def dismissed(after: list[str]) -> bool:
    """The same by the words behind it."""
    return bool(cues()["not_behind"] & {" ".join(after[: n + 1]) for n in range(len(after))})


def _clause_starts(message: str, spans: list[tuple[str, int, int]]) -> list[int]:
    """For each word, the first word of its clause."""
    starts: list[int] = []
    for at, (_, begin, _) in enumerate(spans):
        between = message[spans[at - 1][2] : begin] if at else ""
        starts.append(at if not at or set(between) & set(",.;:!?") else starts[-1])
    return starts


def hints_of(message: str) -> set[str]:
    """Which kinds of cue a message has: ``person`` for somebody else, ``cheapest`` and so on."""
    words = [word for word, _, _ in words_of(_NUMBERED.sub(r"number \1", message))]
    parts = {" ".join(words[at : at + n]) for n in (1, 2, 3) for at in range(len(words) - n + 1)}
    return {name for name, known in cues().items() if not name.startswith("not") and parts & known}


def _without_limits(words: list[str]) -> list[str]:
    """The words, with none in the place of one that limits a price: "tops" in "30 dollars tops".

    >>> _without_limits(["red", "tops", "30", "tops", "or", "30", "dollars", "tops"])
    ['red', 'tops', '30', '', 'or', '30', 'dollars', '']
    """
    kept = list(words)
    for at, word in enumerate(words):
        before = [one for one in words[max(0, at - 2) : at] if one not in CURRENCIES]
        if word in LIMITS and before and (before[-1].isdigit() or before[-1] in number_words()):
            kept[at] = ""
    return kept


def words_of(message: str) -> list[tuple[str, int, int]]:
    """Words in lower case with where they begin and end: "T-shirts" is "t", "shirts"."""
    found = []
    for match in _WORD.finditer(message):
        begin = match.start()
        for part in re.split("([-.])", match[0]):
            if part not in ("-", "."):
                found.append((re.sub("['’]", "", part.lower()), begin, begin + len(part)))  # noqa: RUF001
            begin += len(part)
    return found


def normal(text: str) -> str:
    """A value or a message as :func:`words_of` splits it."""
    return " ".join(word for word, _, _ in words_of(text))


def inflected(text: str) -> Iterator[str]:
    """A text, its plural or singular, and either written as one word where it is two."""
    forms = [text, *_other_numbers(text)]
    yield from forms
    for form in forms:
        if form.count(" ") == 1:
            yield form.replace(" ", "")


def numbers_of(message: str) -> list[float]:
    """Numbers that a message says, in its order, each once."""
    return list(dict.fromkeys(value for _, _, value in placed_numbers(message)))


def placed_numbers(message: str) -> list[tuple[int, int, float]]:
    """Numbers that a message says, in its order: where each begins and ends, and its value."""
    words = number_words()
    said = [
        (match.start(), match.end(), float(match[0].replace(",", ".")))
        for match in _NUMBER.finditer(message)
    ]
    said += [(begin, end, words[word]) for word, begin, end in words_of(message) if word in words]
    return sorted(said)


@lru_cache
def number_words() -> dict[str, float]:
    """Prices that are written in letters; "one" and the like are rarely a price."""
    tens = "ten,twenty,thirty,forty,fifty,sixty,seventy,eighty,ninety,hundred"
    found = {word: 10.0 * number for number, word in enumerate(tens.split(","), 1)}
    return found | {"fifteen": 15.0}


def quantities_of(message: str) -> list[int]:
    """Numbers of pieces that a message has words for, in its order, each once.

    >>> quantities_of("two of number four, or a dozen of these"), quantities_of("4 of no. 3")
    ([2, 12], [4])
    """
    words = ["", *(word for word, _, _ in words_of(message)), ""]
    said = []
    for before, word, after in zip(words, words[1:], words[2:], strict=False):
        if word in _COUNTS and before not in _PLACED:
            said.append(_COUNTS[word])
        elif word.isdigit() and after in _PIECES and before not in _PLACED:
            said.append(int(word))
    return list(dict.fromkeys(said))


def first_of(message: str) -> int:
    """How many items from the first on a message means; 0 where it says no such thing.

    >>> first_of("compare the first three"), first_of("the first one"), first_of("top 2 please")
    (3, 0, 2)
    """
    words = [word for word, _, _ in words_of(message)]
    for before, word in itertools.pairwise(words):
        if before in ("first", "top") and (count := _COUNTS.get(word, 0) or _digit(word)) > 1:
            return count
    return 0


def _digit(word: str) -> int:
    return int(word) if len(word) == 1 and word.isdigit() else 0


def _other_numbers(text: str) -> list[str]:
    if text.endswith(("ss", "sh", "ch", "x")):
        return [f"{text}es"]
    if text.endswith("ies"):
        return [f"{text[:-3]}y", f"{text[:-1]}"]
    if text.endswith("es") and text[:-2].endswith(("s", "sh", "ch", "x")):
        return [text[:-2]]
    if text.endswith("s"):
        return [text[:-1]]
    if text.endswith("y") and text[-2:-1] not in "aeiou":
        return [f"{text[:-1]}ies"]
    if text.endswith("f"):
        return [f"{text}s", f"{text[:-1]}ves"]
    return [f"{text}s"]


def _without_a_letter(word: str) -> Iterator[str]:
    yield word
    for at in range(len(word)):
        yield word[:at] + word[at + 1 :]


def _one_typo(said: str, form: str) -> bool:
    """Whether one word differs, a long one, by one edit.

    >>> _one_typo("rain jakcet", "rain jacket"), _one_typo("a shirt", "t shirt")
    (True, False)
    """
    words, meant = said.split(" "), form.split(" ")
    if len(words) != len(meant):
        return False
    other = [(a, b) for a, b in zip(words, meant, strict=True) if a != b]
    if len(other) != 1:
        return False
    word, right = other[0]
    return len(word) >= LEAST_LETTERS and word.isalpha() and one_edit(word, right)


def one_edit(one: str, other: str) -> bool:
    """Whether a letter was left out, added, changed or swapped with the next."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1:
        return False
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    rest, other_rest = one[at:], other[at:]
    if len(one) < len(other):
        return rest == other_rest[1:]
    swapped = rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:]
    return rest[1:] == other_rest[1:] or swapped
