"""The grammar of the calls of a turn: its JSON schema, and what a schema has no words for.

A call under this grammar is one under :func:`~llmrec.serving.assistant.calls.turn_schema`. Beyond
that, a search uses every value that the message names, as wanted or, where the words around it say
so, as not wanted, and the prices it says, on the side that its words name; "cheaper" is a lower
price, three of something are three pieces, and of the items on the screen only those are meant that
the message points at, "it" being the one in focus; a field is given up only where the message, or
the question before it, is about it, and it is for somebody else only where somebody is named. So a
small model cannot leave out half of a wish. It decides, where the message leaves that open, which
tool is meant, for whom, at which of a few items, and what is to be looked for in free words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmrec.serving.assistant.arguments_grammar import ArgumentsGrammar, Member, literal
from llmrec.serving.assistant.calls import finder, shorten, turn_tools
from llmrec.serving.assistant.decisions import POINTERS, only_tools, points_at_one
from llmrec.serving.assistant.hints import candidates
from llmrec.serving.assistant.mentions import words_of
from llmrec.serving.assistant.vocabulary import ShopVocabulary


def call_grammar(vocabulary: ShopVocabulary, message: str, view: Any, tools: Sequence[str]) -> str:
    """The grammar, in xgrammar's EBNF, of the calls of some tools.

    Args:
        view: a :class:`~llmrec.serving.assistant.calls.TurnView`.
        tools: names.
    """
    rules = _Rules()
    calls = []
    for name in tools:
        members = ArgumentsGrammar(rules.add, name, vocabulary, message, view).members()
        start = literal(f'{{"name": "{name}", "arguments": {{')
        calls.append(f"{start} {rules.add_object(members)} {literal('}}')}")
    return rules.whole(" | ".join(calls))


def sensible_tools(vocabulary: ShopVocabulary, message: str, view: Any) -> list[str]:
    """Names of the tools that make sense after a message.

    None that is for one shown item where the message names values that no shown item has: "the
    white one" of red ones is looked for, not bought. "The second one" is not compared with
    anything, and who asks for a recommendation, or starts over, is not asked what is meant.
    """
    message = shorten(message)
    mentions = finder(vocabulary).find(message)
    tools = turn_tools(vocabulary, view)
    if only := [name for name in only_tools(message, view, mentions) if name in tools]:
        return only
    pointed = candidates(message, view, mentions) or POINTERS & {w for w, _, _ in words_of(message)}
    senseless = ("get_product", "update_cart") if mentions and not pointed else ()
    if points_at_one(message, view, mentions):
        senseless = (*senseless, "compare")
    return [name for name in tools if name not in senseless]


class _Rules:
    """Rules as they are made."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, body: str) -> str:
        """A rule; returns its name."""
        name = f"r{len(self.lines)}"
        self.lines.append(f"{name} ::= {body}")
        return name

    def add_object(self, members: Sequence[Member]) -> str:
        """Members in their order, with commas between those that are there."""
        first = behind = '""'
        for member in reversed(members):
            one = self.add(" | ".join(member.options))
            others = ("", "") if member.required else (f" | {first}", f" | {behind}")
            first = self.add(f"{one} {behind}{others[0]}")
            behind = self.add(f"{literal(', ')} {one} {behind}{others[1]}")
        return first

    def whole(self, root: str) -> str:
        """The grammar."""
        return "\n".join([f"root ::= {root}", *self.lines])
