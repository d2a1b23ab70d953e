"""Whom a turn of a conversation is for, and what a call is made in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmrec.serving.assistant.state import DialogueState


@dataclass(frozen=True)
class Visitor:
    """Whom a turn is for.

    Attributes:
        person: as the shop's log knows them; None for nobody known.
        history: of the request, where it brings one; item ids or events.
        session: of the events that are written.
    """

    person: str | None = None
    history: Sequence[Any] | None = None
    session: str = ""


@dataclass(frozen=True)
class Turn:
    """What a call is made in.

    Attributes:
        state: before it.
        message: that asks for it.
        picture: that came with it, in the space of the search index; empty for none.
    """

    state: DialogueState
    visitor: Visitor
    message: str
    picture: tuple[float, ...]
