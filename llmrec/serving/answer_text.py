"""What an answer says: a list in words, or JSON in the shape that was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmrec.serving.answering import Answered, as_json
from llmrec.serving.item_table import ItemTable
from llmrec.serving.one_line import one_line
from llmrec.serving.structured import AnswerFormat
from llmrec.types import Recommendation

Json = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """An answer with its text.

    Attributes:
        text: the list in words, or JSON.
        fields: the answer as ``/v1/recommendations`` gives it, without its head.
        is_cut: whether a limit of tokens left items out.
    """

    text: str
    fields: Json
    is_cut: bool

    @property
    def pieces(self) -> list[str]:
        """The text by lines, as a stream has it."""
        return self.text.splitlines(keepends=True)

    @property
    def finish_reason(self) -> str:
        """Why the text ends, in OpenAI's words."""
        return "length" if self.is_cut else "stop"


def write(
    answered: Answered,
    head: Json,
    answer_format: AnswerFormat | None,
    items: ItemTable,
    is_cut: bool,
) -> Written:
    """An answer with its text.

    Args:
        head: model and version of the catalogue.
        answer_format: of the text; None for words.
        items: the catalogue.
        is_cut: whether a limit of tokens left items out.

    Raises:
        FormatError: if the answer has no such form.
    """
    found = answered.response.recommendations
    fields = as_json(answered)
    text = as_text(found)
    if answer_format is not None:
        known = [items.facts(one.item_id) | one.as_dict() for one in found]
        whole = head | fields | {"text": text}
        del whole["recommendations"]  # as these are
        filled = answer_format.fill(whole, known)
        text = json.dumps(filled, ensure_ascii=False)
    return Written(text, fields, is_cut)


def as_text(recommendations: Sequence[Recommendation]) -> str:
    """The recommendations as a short list in words."""
    if not recommendations:
        return "Nothing in the catalogue is left to recommend."
    return "\n".join(f"{one.rank}. {_name(one)}" for one in recommendations)


def _name(one: Recommendation) -> str:
    """The title and the identifier, which stands alone where it is the title."""
    title = one_line(one.title)
    return title if title == one.item_id else f"{title} [{one.item_id}]"
