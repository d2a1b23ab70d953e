"""What a tool found, before anything is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrec.serving.assistant.state import DialogueState
from llmrec.types import Recommendation

Json = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What is asked back.

    Attributes:
        field: a category or attribute of the shop.
        values: a few that are offered.
    """

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        situation: key of the words for it.
        state: after it.
        items: that are shown, in their order.
        rows: of the catalogue, of all items that are spoken of.
        question: that is asked back; None for none.
        given_up: fields of the wish that nothing has, so that what is shown does not have them.
        cart: as the protocol has it; None where it is not spoken of.
        words: what the customer or the shop said, by name: ``query``, ``topic``, ``policy``.
        recommendation_id: of the list, where it is kept.
        notes: for whoever runs the service.
    """

    situation: str
    state: DialogueState
    items: tuple[Recommendation, ...] = ()
    rows: Mapping[str, Json] = field(default_factory=dict)
    question: Question | None = None
    given_up: tuple[str, ...] = ()
    cart: Json | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    recommendation_id: str | None = None
    notes: tuple[str, ...] = ()
