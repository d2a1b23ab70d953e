"""Conversations with an assistant, and what is measured of each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from llmrec.bench.shoppers.needs import Product
from llmrec.bench.shoppers.shopper import Shopper
from llmrec.bench.shoppers.truth import Truth
from llmrec.serving.assistant.loop import Assistant, AssistantReply, Conversation
from llmrec.serving.assistant.vocabulary import ShopVocabulary

Json = dict[str, Any]
RELAXED = ("relaxed", "relaxed_seen", "not_sold", "nothing", "sold_out")  # replies that say so


@dataclass
class Talk:
    """What came of a conversation.

    Attributes:
        turns: messages of the shopper until a product was taken, or until they left.
        met: whether something that meets the need was shown and taken.
        bought: whether it then was in the cart.
        untrue: what replies said that is not so.
        wrong_replies: how many replies said such a thing.
        lists, kept: lists shown, and those in which every product is all that was said so far, or
            the reply says that it is not.
        first_ms, reply_ms: until the first piece of each reply, and the whole of it.
        first_cpu_ms, reply_cpu_ms: of this process until then; others do not lengthen it.
        failed: replies in which the model failed.
        said: messages and replies, for whoever looks at it.
    """

    turns: int = 0
    met: bool = False
    bought: bool = False
    untrue: list[str] = field(default_factory=list)
    wrong_replies: int = 0
    lists: int = 0
    kept: int = 0
    first_ms: list[float] = field(default_factory=list)
    reply_ms: list[float] = field(default_factory=list)
    first_cpu_ms: list[float] = field(default_factory=list)
    reply_cpu_ms: list[float] = field(default_factory=list)
    failed: int = 0
    said: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self) -> Json:
        """As JSON has it."""
        return asdict(self)


class Listener:
    """Talks to an assistant and checks each reply against the catalogue.

    Args:
        assistant: that is judged.
        truth: of its catalogue.
        products: by identifier.
    """

    def __init__(self, assistant: Assistant, truth: Truth, products: dict[str, Product]) -> None:
        self._assistant, self._truth, self._products = assistant, truth, products

    @property
    def vocabulary(self) -> ShopVocabulary:
        """Words of the shop."""
        return self._assistant.tools.shop.vocabulary

    def names(self, text: str) -> list[str]:
        """Products that a text names."""
        return self._truth.titles_in(text)

    def start(self, history: Sequence[Any] | None) -> Conversation:
        """A conversation with somebody whose history the request brings."""
        return self._assistant.start(history=history)

    def say(self, conversation: Conversation, message: str, talk: Talk) -> AssistantReply:
        """The reply to a message, timed and checked."""
        reply, first, whole = _timed(self._assistant.turn(conversation, message))
        talk.first_ms.append(round(first.wall, 1))
        talk.reply_ms.append(round(whole.wall, 1))
        talk.first_cpu_ms.append(round(first.cpu, 1))
        talk.reply_cpu_ms.append(round(whole.cpu, 1))
        talk.said.append((message, reply.text))
        talk.failed += any(note.startswith("model:") for note in reply.notes)
        said = [text for text, _ in talk.said]
        wrong = self._truth.problems(reply.text, [one.item_id for one in reply.items], said)
        talk.untrue += wrong
        talk.wrong_replies += bool(wrong)
        return reply

    def shown(self, reply: AssistantReply) -> list[Product]:
        """The cards below a reply."""
        ids = [one.item_id for one in reply.items]
        return [self._products[one] for one in ids if one in self._products]


def shop(listener: Listener, shopper: Shopper, history: Sequence[Any] | None) -> Talk:
    """A whole conversation of a shopper."""
    talk = Talk()
    conversation = listener.start(history)
    message: str | None = shopper.begin()
    while message is not None and talk.turns < shopper.need.patience:
        reply = listener.say(conversation, message, talk)
        talk.turns += 1
        shown = listener.shown(reply)
        if shown:
            talk.lists += 1
            talk.kept += reply.situation in RELAXED or all(_is_all(shopper, one) for one in shown)
        place = shopper.choose(shown)
        if place is not None:
            talk.met = True
            taken = shown[place - 1].item_id
            bought = listener.say(conversation, shopper.voice.take(place), talk)
            lines = (bought.cart or {}).get("line_items", ())
            talk.bought = any(line["item"]["id"] == taken for line in lines)
            return talk
        message = shopper.next_message(reply.text, shown)
    return talk


def _is_all(shopper: Shopper, product: Product) -> bool:
    """Whether a product is all that was said so far."""
    if any(value not in product.fields.get(name, ()) for name, value in shopper.told.items()):
        return False
    if any(value in product.fields.get(name, ()) for name, value in shopper.unwanted):
        return False
    budget = shopper.need.budget if shopper.knows_budget else None
    return budget is None or (product.price is not None and product.price <= budget)


@dataclass(frozen=True)
class _Moment:
    """Milliseconds since a message: on the clock, and of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> _Moment:
        """Of the clocks, since they began."""
        return cls(time.perf_counter() * 1e3, time.process_time() * 1e3)

    def since(self, start: _Moment) -> _Moment:
        """From another moment to this one."""
        return _Moment(self.wall - start.wall, self.cpu - start.cpu)


def _timed(pieces: Iterable[Any]) -> tuple[AssistantReply, _Moment, _Moment]:
    """A reply, the time to its first words and to its end."""
    started, first, reply = _Moment.now(), None, None
    for piece in pieces:
        if first is None and str(piece).strip():
            first = _Moment.now()
        reply = piece
    ended = _Moment.now()
    assert isinstance(reply, AssistantReply)
    return reply, (first or ended).since(started), ended.since(started)
