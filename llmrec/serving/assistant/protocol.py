"""Between the loop and whoever thinks: a language model of ours, or one behind a URL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmrec.errors import LlmrecError
from llmrec.serving.assistant.calls import ToolCall, TurnView
from llmrec.serving.assistant.state import DialogueState
from llmrec.serving.assistant.vocabulary import ShopVocabulary

Json = dict[str, Any]
Said = tuple[str, str]  # role, "user" or "assistant", and words


class ModelFailedError(LlmrecError):
    """A language model cannot go on: gone, too slow, or nothing of it can be read."""


class NothingSaidError(ModelFailedError):
    """Nothing of what a language model writes may be said."""


@dataclass(frozen=True)
class Text:
    """Words of a model to the customer, as they come."""

    pieces: Iterable[str]


@dataclass(frozen=True)
class ToolResult:
    """What became of a call of this turn.

    Attributes:
        content: without titles and descriptions, which could carry instructions.
    """

    call: ToolCall
    content: Json


@dataclass(frozen=True)
class TurnInput:
    """What a model is asked.

    Attributes:
        message: what the customer says now.
        state: what is kept of the conversation, before this message.
        view: what is on the screen.
        vocabulary: values that the shop's items have.
        results: of the calls made so far in this turn.
        said: the conversation before this message, for models that read it.
    """

    message: str
    state: DialogueState
    view: TurnView
    vocabulary: ShopVocabulary
    results: tuple[ToolResult, ...] = ()
    said: tuple[Said, ...] = field(default=(), repr=False)


class AssistantModel(Protocol):
    """Decides what to do next.

    Attributes:
        writes: whether it goes on after a call, until it writes to the customer; otherwise it makes
            one call a turn, and the reply is made of templates.
    """

    writes: bool

    def next_step(self, turn: TurnInput) -> Iterator[str | ToolCall | Text]:
        """What it says and then its call, where it makes one; before that, where it is known
        earlier, the name of the tool.

        Raises:
            ModelFailedError: if there is none.
        """
        ...
