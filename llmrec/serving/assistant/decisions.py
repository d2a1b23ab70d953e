"""What a message leaves no doubt of: which tool it means, which reply, whom a thing is for.

These are rules of everyday English and lists of words (``words.yaml``), not single phrases; the
grammar of a turn follows them, and the language model decides the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from llmrec.serving.assistant.hints import candidates, having, other_words, pointed_places
from llmrec.serving.assistant.mentions import (
    Mention,
    cues,
    normal,
    word_lists,
    word_sets,
    words_of,
)
from llmrec.serving.assistant.safety import is_foreign, urgent

POINTERS = frozenset(("it", "this", "that", "these", "those", "them"))
_GIFT = re.compile(
    r"\b(?:its|it is|this is|itll be|will be|be|as) an? (?:\w+ )?(?:gift|present)\b|"
    r"^a (?:gift|present)\b|\ba (?:gift|present)(?: please)?$"
)
_AGAIN = (
    r"(?:over|again|anew|afresh|fresh|from (?:scratch|zero|nothing|the (?:start|beginning|top)))"
)
_FILTERS = r"(?:filters?|criteria|wishes|search|requirements|conditions)"
_DROPPED = (
    r"(?:it all|all|all (?:of )?(?:it|that|this|those)|everything|the (?:whole )?lot|"
    rf"(?:the )?whole thing|(?:all )?(?:the |my |all )*{_FILTERS})"
)
_OVER = re.compile(
    rf"\b(?:start|starting|begin|beginning)(?: \w+)?(?: all)? {_AGAIN}\b|\brestart\b|"
    r"\breset\b(?!.*\b(?:filter|limit|restriction|requirement|condition|criterion)\b)|"
    r"\b(?:clean|blank|fresh) (?:slate|sheet)\b|"
    r"\b(?:back|go|jump) to (?:the (?:very )?(?:start|beginning)|zero|square one)\b|"
    r"\bfrom (?:scratch|square one)\b|"
    r"\b(?:forget|drop|scrap|ignore|disregard) (?:about )?(?:what|everything|all(?: that)?) "
    r"(?:i|we)\b|"
    r"\b(?:forget|drop|scrap|scratch|clear|wipe|erase|delete|cancel|undo|discard|disregard|bin|"
    rf"ditch|never mind)(?: about)? {_DROPPED}(?= *(?:$|[.,;:!?]|and\b|please\b|so far\b|now\b))"
)
_RECOMMEND = re.compile(
    r"\b(?:recommend|recommendations?|inspiration)\b|\b(?:surprise|inspire) (?:me|us)\b|"
    r"\b(?:people|someone|somebody|person|customers?|others) (?:like me|with my taste)\b|"
    r"\b(?:based on|going by|judging by|given) (?:my|what i)\b|"
    r"\b(?:choose|pick|select|suggest)(?: (?:me|us))? (?:something|anything|some things)\b|"
    r"\b(?:any|some) (?:\w+ )?suggestions?\b|"
    r"\byou suggest(?: (?:to |for )?(?:me|us))?(?: (?:something|anything|please|now|today)\b|$)"
)
_CART = re.compile(
    r"\b(?:my|the|our|your|this|shopping|new|empty|fresh|clean|entire|whole) "
    r"(?:cart|basket|trolley)\b|\bshopping bag\b"
)
_OF_ITEM = {  # by tool, where a message points at an item
    "compare": re.compile(
        r"\b(?:compare[ds]?|comparison|contrast|versus|vs|differs?|side by side|"
        r"differences? (?:between|of|among)|whats? (?:is |are )?(?:the )?differences?)\b"
    ),
    "similar_items": re.compile(
        r"\b(?:similar|resembl\w+|lookalikes?|alternatives? (?:to|for)|comparable to|akin to|"
        r"in the (?:style|vein) of|along the lines of|(?:more|others?) like)\b"
    ),
    "get_product": re.compile(
        r"\b(?:(?:tell me|know|hear|learn|read|see) more (?:about|on|of)|more about|describe|"
        r"(?:details?|info|information|facts|specs) (?:about|on|of|for)|"
        r"(?:details?|specs) please|(?:closer|close) look)\b"
    ),
    "update_cart": re.compile(
        r"\b(?:add|put|place|pop|drop|throw|stick|remove|delete|take)\b"
        r"(?!.*\b(?:everything|all|lot|whole)\b).*\b(?:cart|basket|trolley)\b|"
        r"\b(?:order|purchase|buy|reserve) (?:the|this|that|these|those)\b"
    ),
}
_IT = r"(?:it|this|that|them|these|those)(?: one| ones)?"
_OUT = re.compile(
    rf"\b(?:remove|delete) {_IT}\b|\b(?:take|put|throw|leave) {_IT} (?:out|back|off|away)\b"
)
_TAKEN = re.compile(
    r"\b(?:remove|delete|get rid of|discard|ditch)\b|"
    r"\b(?:take|throw|kick|put|get) (?:\w+ ){1,6}?(?:out|off|away|back)\b(?! (?:in|into|to)\b)|"
    r"\b(?:out of|off|from) (?:my|the|our) (?:cart|basket|trolley|order)\b"
)
_LESS = re.compile(
    r"\b(?:remov\w+|delet\w+|drop|out|off|away|back|without|cancel\w*|undo|dont|not|rid|minus|"
    r"changed|return|lose|ditch|scrap|discard|erase|from|leaves?|withdraw|eliminate|exclude|kick|"
    r"throw|empty|longer|zero|0|no(?! \d)|(?:must|should|can|may|has to) go|comes? out|dump|bin|"
    r"axe|strike)\b"
)
_AMOUNT = re.compile(
    rf"\b(?:change|make|set|raise|increase|reduce|lower) {_IT}(?: to| into)? "
    r"(?:1[0-2]|[1-9]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|a dozen)\b"
)
_FOR_ME = re.compile(
    r"\b(?:not|no longer) (?:\w+ )?(?:for my|a gift|a present)|(?<!not )\bfor (?:me|myself)\b"
)
_NOBODY = frozenset(("gift", "gifts", "present", "presents", "birthday"))  # cues, but no people


def is_gift(message: str) -> bool:
    """Whether a message leaves no doubt that it is for somebody else.

    >>> [is_gift(text) for text in ("a scarf for my big sister", "it's a gift", "as a present",
    ...     "not for my sister, for me", "a wedding present", "my sister has one", "for my desk")]
    [True, True, True, False, False, False, False]
    """
    words = normal(message)
    found = _GIFT.search(words) or _for_person().search(words)
    return bool(found) and not _FOR_ME.search(words)


def starts_over(message: str) -> bool:
    """Whether a message drops what was said before it.

    >>> [starts_over(text) for text in ("Let's start all over", "forget what I said", "start here")]
    [True, True, False]
    """
    return bool(_OVER.search(re.sub("['\u2019]", "", " ".join(message.lower().split()))))


def only_tools(message: str, view: Any, mentions: Sequence[Mention]) -> tuple[str, ...]:
    """Tools of which a message leaves no doubt that one of them is meant; () where any may be.

    Args:
        message: of the customer.
        view: a :class:`~llmrec.serving.assistant.calls.TurnView`.
        mentions: values that the message names.
    """
    words = normal(message)
    if decided_acts(message):
        return ("reply",)
    if starts_over(message) and not word_lists()["carts"] & {*words.split()}:
        return ("search_catalog",)
    if len(topics_of(message)) == 1 and not mentions:
        return ("store_policy",)
    if candidates(message, view, mentions) or POINTERS & {*words.split()}:
        found = [name for name, pattern in _OF_ITEM.items() if pattern.search(words)]
        if len(found) == 1:
            return (found[0],)
    if _CART.search(words):
        return ("get_cart", "create_cart", "update_cart")
    if view.focus is not None and (_OUT.search(words) or _AMOUNT.search(words)):
        return ("update_cart",)
    if view.asked is None and (match := _RECOMMEND.search(words)):
        # a word that is none of the shop's may be a thing that it does not sell
        unknown = {*other_words(message, mentions)} - {*match[0].split()}
        return ("recommend", "reply") if unknown else ("recommend",)
    return ()


def decided_acts(message: str) -> tuple[str, ...]:
    """Acts of which a message leaves no doubt that a reply is one of them; () where any may be.

    A medicine may be a thing that is not sold, too.
    """
    act = urgent(message)
    if act == "medical":
        return (act, "not_sold")
    if not act:
        act = "other_language" if is_foreign(message) else _small_talk(message)
    return (act,) if act else ()


def _small_talk(message: str) -> str:
    """The act of a message that has words of one act alone; "" for any other.

    >>> _small_talk("Hello there"), _small_talk("no, thanks"), _small_talk("hello, a scarf")
    ('greet', 'refuse', '')
    """
    known = word_sets("act_words")
    words, beside = normal(message), known["any"]
    acts = [name for name in known if name != "any" and _phrases(known[name]).search(words)]
    if "refuse" in acts and "thanks" in acts:
        acts.remove("thanks")
        beside |= known["thanks"]
    if len(acts) != 1 or {*_phrases(known[acts[0]]).sub("", words).split()} - beside:
        return ""
    return acts[0]


@lru_cache
def _phrases(known: frozenset[str]) -> re.Pattern[str]:
    longest = sorted(map(re.escape, known), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(longest)})\b")


def topics_of(message: str) -> list[str]:
    """Topics of a shop's policy that a message has words of.

    >>> topics_of("Is shipping free?"), topics_of("a red scarf")
    (['delivery'], [])
    """
    words = f" {normal(message)} "
    return [
        name
        for name, known in word_sets("topic_words").items()
        if any(f" {w} " in words for w in known)
    ]


def takes_out(message: str) -> bool:
    """Whether a message takes what it points at out of the cart.

    >>> takes_out("Remove it again, please"), takes_out("put that back"), takes_out("take it")
    (True, True, False)
    """
    words = normal(message)
    return bool(_OUT.search(words) or _TAKEN.search(words))


def may_take_out(message: str) -> bool:
    """Whether a message has a word by which something could go out of the cart.

    >>> may_take_out("put no. 2 in the cart"), may_take_out("no, the mug goes")
    (False, True)
    """
    return bool(_LESS.search(normal(message)))


def points_at_one(message: str, view: Any, mentions: Iterable[Mention]) -> bool:
    """Whether a message points at one place on the screen, and at nothing to compare it with."""
    words = {word for word, _, _ in words_of(message)}
    if len(pointed_places(message, view)) != 1 or words & (word_lists()["comparing"] | POINTERS):
        return False
    return not any(having(mention, view) for mention in mentions)


@lru_cache
def _for_person() -> re.Pattern[str]:
    """ "For my sister", by the words for people."""
    people = "|".join(map(re.escape, sorted(cues()["person"] - _NOBODY)))
    wants = "needs|wants|would (?:like|love)|could use|asked me for|has a birthday"
    return re.compile(
        rf"\b(?:for|to) (?:my|our) (?:\w+ )?(?:{people})\b|"
        rf"\b(?:my|our) (?:\w+ )?(?:{people})(?:s birthday| (?:{wants}))\b|"
        r"\b(?:for|to) (?:a (?:friend|colleague|coworker|neighbour|neighbor|relative)|"
        r"(?:someone|somebody|anyone) else)\b"
    )
