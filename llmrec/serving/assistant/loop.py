"""A conversation, turn by turn: what was said, a call of a tool, a grounded reply.

::

    assistant = open_assistant("bundle", model)
    conversation = assistant.start(person="anna")
    for piece in assistant.turn(conversation, "something warm for winter"):
        print(piece if isinstance(piece, str) else piece.text)

A turn gives the pieces of a reply as they come, and at last the whole of it. What a language model
cannot decide is not left to it: danger comes first, and a call that no tool takes is not made.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from typing import Any

from llmrec.errors import LlmrecError, require
from llmrec.serving.assistant.calls import DESCRIPTIONS, ToolCall, open_schema
from llmrec.serving.assistant.free_text import sentences
from llmrec.serving.assistant.outcome import Outcome, Question
from llmrec.serving.assistant.protocol import (
    AssistantModel,
    ModelFailedError,
    NothingSaidError,
    Said,
    Text,
    ToolResult,
    TurnInput,
)
from llmrec.serving.assistant.replies import Replies
from llmrec.serving.assistant.results import for_model
from llmrec.serving.assistant.safety import is_foreign, urgent
from llmrec.serving.assistant.state import DialogueState
from llmrec.serving.assistant.tools import ShopTools
from llmrec.serving.assistant.turn import Visitor
from llmrec.serving.assistant.wording import Part, Slot, Wording, opening, say
from llmrec.serving.batching import BusyError, Deadline, DeadlineError
from llmrec.serving.one_line import one_line
from llmrec.serving.store.database import StoreError
from llmrec.types import Recommendation

LOG = logging.getLogger(__name__)
Json = dict[str, Any]
MOST_CALLS = 4  # of a turn
TOOL_SECONDS = 30.0
LONG = 2000  # characters of a message that are read at its beginning, and as many at its end
MARKUP = re.compile(r"[{}]|```|<\|")  # nobody asks for a cart in it
REMEMBERED = 12  # messages that a model is given again
WAITING = (FutureTimeoutError, BusyError, DeadlineError, StoreError)


@dataclass
class Conversation:
    """Somebody's conversation; a turn changes it when it ends.

    Attributes:
        visitor: who it is with.
        state: what is kept between messages.
        said: by whom and what, so far.
    """

    visitor: Visitor = field(default_factory=Visitor)
    state: DialogueState = field(default_factory=DialogueState)
    said: list[Said] = field(default_factory=list)


@dataclass(frozen=True)
class AssistantReply:
    """A whole reply.

    Attributes:
        text: as it was streamed.
        parts: the same, with the slots that it is made of.
        situation: key of its words.
        items: that are shown, in their order.
        rows: of the catalogue, of all items that are spoken of.
        question: that is asked back; None for none.
        calls: of tools, in their order.
        cart: as the protocol has it, where it is spoken of.
        state: after the turn.
        recommendation_id: of the list.
        notes: for whoever runs the service.
    """

    text: str
    parts: tuple[Part, ...]
    situation: str
    items: tuple[Recommendation, ...]
    rows: dict[str, Json]
    question: Question | None
    calls: tuple[ToolCall, ...]
    cart: Json | None
    state: DialogueState
    recommendation_id: str | None = None
    notes: tuple[str, ...] = ()


class Assistant:
    """Talks for a shop. Many conversations may go on at once.

    Args:
        tools: of the shop.
        model: decides what to do.
        wording: of the shop's slots.
        fallback: goes on where the model fails; None for nobody.
        tool_seconds: that a call may take; after them it changes nothing more.
    """

    def __init__(
        self,
        tools: ShopTools,
        model: AssistantModel,
        wording: Wording,
        fallback: AssistantModel | None = None,
        tool_seconds: float = TOOL_SECONDS,
    ) -> None:
        require("jsonschema", "serve")
        self.tools, self.wording, self._replies = tools, wording, Replies(wording)
        self._model, self._fallback, self._seconds = model, fallback, tool_seconds
        _ = tools.shop.vocabulary  # so that no message waits for it
        self._threads: Executor = ThreadPoolExecutor(8, "llmrec-assistant")

    def start(
        self, person: str | None = None, history: Sequence[Any] | None = None, session: str = ""
    ) -> Conversation:
        """A new conversation.

        Args:
            person: as the shop's log knows them.
            history: item ids or events, in the place of theirs.
            session: of the events that are written.
        """
        return Conversation(Visitor(person, history, session))

    def turn(
        self, conversation: Conversation, message: str, picture: Sequence[float] = ()
    ) -> Iterator[str | AssistantReply]:
        """Answer a message: pieces of the reply as they come, then the whole reply.

        Args:
            picture: that came with it, in the space of the search index.
        """
        run = _Run(self, conversation, message, picture)
        parts: list[Part] = []
        for part in run.parts():
            parts.append(part)
            yield str(part)
        text = "".join(map(str, parts))
        outcome, state = run.outcome, run.outcome.state
        conversation.state = state
        conversation.said += [("user", message), ("assistant", text)]
        yield AssistantReply(
            text, tuple(parts), outcome.situation, outcome.items, dict(outcome.rows),
            outcome.question, tuple(run.calls), outcome.cart, state, outcome.recommendation_id,
            (*outcome.notes, *run.notes),
        )  # fmt: skip

    def apology(
        self, conversation: Conversation, situation: str, **slots: str
    ) -> Iterator[str | AssistantReply]:
        """Say that something cannot be done.

        Args:
            situation: key of the words for it.
            slots: of these words.
        """
        filled = {name: Slot(one_line(text), "wish") for name, text in slots.items()}
        parts = tuple(say(situation, 0, **filled))
        text = "".join(map(str, parts))
        yield text
        state = conversation.state
        yield AssistantReply(text, parts, situation, (), {}, None, (), None, state)

    def replayed(self, visitor: Visitor, messages: Sequence[str]) -> DialogueState:
        """The state after some messages, gone through without events and carts."""
        quiet = copy.copy(self)
        quiet.tools = self.tools.quiet()
        conversation = Conversation(visitor)
        for message in messages:
            quiet.answer(conversation, message)
        return conversation.state

    def answer(
        self, conversation: Conversation, message: str, picture: Sequence[float] = ()
    ) -> AssistantReply:
        """The whole reply to a message."""
        *_, reply = self.turn(conversation, message, picture)
        assert isinstance(reply, AssistantReply)
        return reply


def _failed(error: Exception) -> ModelFailedError:
    """What is said of an error in a model; the log has all of it."""
    LOG.error("assistant: the model failed", exc_info=error)
    return ModelFailedError(f"failed ({type(error).__name__})")


class _Run:
    """One turn."""

    def __init__(
        self,
        assistant: Assistant,
        conversation: Conversation,
        message: str,
        picture: Sequence[float],
    ) -> None:
        self._of, self._conversation = assistant, conversation
        self._tools, self._replies = assistant.tools, assistant._replies
        self._picture = picture
        self._before = conversation.state
        self._state = replace(self._before, turns=self._before.turns + 1)
        self._message = message.strip()
        self._opened = self._has_said = False
        self.outcome = Outcome("unclear", self._state)
        self.calls: list[ToolCall] = []
        self.notes: list[str] = []

    def parts(self) -> Iterator[Part]:
        """The parts of the reply."""
        act = urgent(self._message)
        if act:
            self.outcome = Outcome(act, replace(self._state, asked=""))
        elif not self._message and not self._picture:
            self.outcome = Outcome("empty", self._state)
        elif is_foreign(self._message):
            self.outcome = Outcome("other_language", self._state)
        else:
            yield from self._think()
            return
        yield from self._reply()

    def _think(self) -> Iterator[Part]:
        if len(self._message) > 2 * LONG:
            self._message = f"{self._message[:LONG]} ... {self._message[-LONG:]}"
            yield from say("long")
        models = [self._of._model] + ([] if self._of._fallback is None else [self._of._fallback])
        for number, model in enumerate(models):
            try:
                yield from self._with(model)
                return
            except Exception as error:
                problem = error if isinstance(error, ModelFailedError) else _failed(error)
                LOG.warning("assistant: %s", problem)
                self.notes.append(f"model: {problem}")
                self._opened = False
                if number + 1 < len(models):
                    if not isinstance(problem, NothingSaidError):
                        yield from say("lost_voice")
                    if self.calls:  # what the lost one did is done
                        yield from self._reply()
                        return
        self.outcome = self.outcome if self.calls else Outcome("trouble", self._state)
        yield from self._reply()

    def _with(self, model: AssistantModel) -> Iterator[Part]:
        """What a model makes of the message."""
        if not self._message:  # a picture says it all
            self._call(ToolCall("search_catalog"))
            yield from self._reply()
            return
        results: list[ToolResult] = []
        for _ in range(MOST_CALLS + 1):
            step: ToolCall | None = None
            for piece in model.next_step(self._input(results)):
                if isinstance(piece, str):
                    yield from self._open(piece)
                elif isinstance(piece, Text):
                    yield from self._written(piece)
                else:
                    step = piece
            if step is None and not (self._has_said or self.calls):
                raise NothingSaidError("nothing of what it writes may be said")
            if step is None or len(self.calls) == MOST_CALLS:
                break
            problem = self._problem(step)
            if problem and not model.writes:
                raise ModelFailedError(problem)
            if problem:
                self.notes.append(problem)
                results.append(ToolResult(step, {"error": problem}))
                if sum("error" in one.content for one in results) > 1:
                    raise ModelFailedError("it calls what there is not")
                continue
            yield from self._open(step.name)
            self._call(step)
            results.append(ToolResult(step, for_model(self.outcome, self._tools.shop)))
            if not model.writes:
                break
        if self.calls:
            yield "\n" if self._has_said else ""
            yield from self._reply(heading=not self._has_said)
        else:
            self.outcome = Outcome("said", self._state)

    def _input(self, results: Sequence[ToolResult]) -> TurnInput:
        shop, said = self._tools.shop, tuple(self._conversation.said[-REMEMBERED:])
        view = shop.view(self._state)
        return TurnInput(self._message, self._state, view, shop.vocabulary, tuple(results), said)

    def _open(self, tool: str) -> Iterator[Part]:
        """The words that are said while a tool works, once a turn."""
        is_first = not (self._opened or self._has_said)
        words = opening(tool, self._state.turns) if is_first else ""
        if words:
            self._opened = True
            yield words

    def _problem(self, call: ToolCall) -> str:
        """Why a call cannot be made; "" where it can."""
        if call.name not in DESCRIPTIONS:
            return f"there is no tool {call.name!r}"
        schema = open_schema(call.name, self._tools.shop.vocabulary)
        validator = require("jsonschema", "serve").Draft202012Validator(schema)
        error = next(validator.iter_errors(call.arguments), None)
        return "" if error is None else f"{call.name}: {error.message[:200]}"

    def _call(self, call: ToolCall) -> None:
        """Make a call; what goes wrong becomes an outcome."""
        if self._picture and call.name in ("similar_items", "recommend", "reply"):
            said = {name: value for name, value in call.arguments.items() if name != "item"}
            said = {} if call.name == "reply" else said
            call = ToolCall("search_catalog", said)
        self.calls.append(call)
        if call.name == "update_cart" and MARKUP.search(self._message):
            self.outcome = Outcome("unclear", self._state)
            return
        deadline = Deadline(self._of._seconds)
        work = self._of._threads.submit(
            self._tools.call, call, self._state, self._conversation.visitor, self._message,
            self._picture, deadline,
        )  # fmt: skip
        try:
            self.outcome = work.result(deadline.left)
        except WAITING as problem:
            LOG.warning("assistant: %s: %r", call.name, problem)
            self.outcome = Outcome("slow", self._state)
        except LlmrecError as problem:
            LOG.warning("assistant: %s: %s", call.name, problem)
            self.outcome = Outcome("trouble", self._state, notes=(str(problem),))
        except Exception:  # a customer sees no stack trace
            LOG.exception("assistant: %s", call.name)
            self.outcome = Outcome("trouble", self._state)
        work.cancel()  # one that waits for a thread is not begun
        self._state = self.outcome.state

    def _written(self, text: Text) -> Iterator[Part]:
        """What a model writes, sentence by sentence, without what it may not say of products."""
        wish = self._state.wish
        for sentence in sentences(text.pieces, self._tools.shop, self._message, wish):
            self._has_said = True
            yield f"{sentence} "

    def _reply(self, *, heading: bool = True) -> Iterator[Part]:
        yield from self._replies.parts(self.outcome, self._tools.shop.vocabulary, heading=heading)
