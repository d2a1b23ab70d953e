"""The tools of the assistant, over the recommender, the catalogue and the carts of a service.

Where nothing has all that is wanted, wishes for less are tried
(:mod:`llmrec.serving.assistant.ranked_lists`), and the reply says what was given up.
"""

from __future__ import annotations

import copy
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmrec.serving.answering import Answered
from llmrec.serving.assistant.calls import ToolCall
from llmrec.serving.assistant.outcome import Outcome
from llmrec.serving.assistant.ranked_lists import SHOWN, RankedLists
from llmrec.serving.assistant.shop import Shop
from llmrec.serving.assistant.state import DialogueState, Wish
from llmrec.serving.assistant.turn import Turn, Visitor
from llmrec.serving.batching import Deadline
from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.store.database import StoreError
from llmrec.serving.store.events import SEARCH, StoredEvent
from llmrec.serving.ucp.carts import Carts
from llmrec.types import Recommendation

LOG = logging.getLogger(__name__)
Json = dict[str, Any]
Answer = Callable[[RecommendRequest, float], Answered]  # within so many seconds
LOOKED_UP = 10  # items of a look-up
MOST_QUANTITY = 999
MAX_EVENT_TEXT = 1000
ACCEPTED = ("accept", "refuse")


class ShopTools:
    """What calls do. Many threads may call at once.

    Args:
        recommender: ranks.
        answer: ranks as well, and keeps what is shown.
        shop: the catalogue.
        carts: of the shop.
        policies: what the shop says, by topic.
        live: takes events; None writes none.
        personal: whether a person's history counts.
    """

    def __init__(
        self,
        recommender: Recommender,
        answer: Answer,
        shop: Shop,
        carts: Carts,
        policies: Mapping[str, str],
        live: LiveHistories | None = None,
        personal: bool = True,
    ) -> None:
        self.recommender, self._ask, self.shop = recommender, answer, shop
        self._carts: Carts | None = carts
        self._policies, self._live = policies, live
        self._personal = personal
        self._deadline = Deadline()  # of the call that these are for

    def quiet(self) -> ShopTools:
        """The same, but nothing is written: no events, no lists, no carts."""
        found = copy.copy(self)
        found._live = found._carts = None
        found._ask = lambda request, _: Answered(self.recommender.answer(request), None, "")
        return found

    def call(
        self,
        call: ToolCall,
        state: DialogueState,
        visitor: Visitor,
        message: str = "",
        picture: Sequence[float] = (),
        deadline: Deadline | None = None,
    ) -> Outcome:
        """What a call finds or does.

        Args:
            message: that asks for it, for the shop's log.
            picture: that came with it, in the space of the search index.
            deadline: after which nothing more is asked or written.

        Raises:
            CatalogError, ConfigError: for what the bundle cannot answer.
            StoreError, BusyError, DeadlineError: if the service cannot answer now.
        """
        tools = copy.copy(self)
        tools._deadline = deadline or Deadline()
        tools._deadline.check()
        work = getattr(tools, f"_{call.name}")
        found: Outcome = work(call.arguments, Turn(state, visitor, message, tuple(picture)))
        return found

    @property
    def _lists(self) -> RankedLists:
        return RankedLists(self.recommender, self.shop, self._answer, self._personal)

    def _answer(self, request: RecommendRequest) -> Answered:
        self._deadline.check()
        return self._ask(request, self._deadline.left)

    # --- lists ---------------------------------------------------------------------------------

    def _search_catalog(self, said: Json, turn: Turn) -> Outcome:
        state = self._merged(said, turn)
        self._record(turn, SEARCH, text=turn.message)
        is_asked = bool(turn.state.asked)
        if state.wish.is_open and not is_asked and not self._lists.knows(turn.visitor, state):
            question = self.shop.question(state.wish)
            if question is not None:
                return Outcome("ask", replace(state, asked=question.field), question=question)
        return self._lists.find(turn, state, may_ask=not is_asked)

    def _recommend(self, said: Json, turn: Turn) -> Outcome:
        return self._search_catalog(said, turn)

    def _similar_items(self, said: Json, turn: Turn) -> Outcome:
        item_id = turn.state.item(said.get("item"))
        row = None if item_id is None else self.shop.rows([item_id]).get(item_id)
        if item_id is None or row is None:
            return Outcome("no_such_item", turn.state)
        prices = [] if row.get("price") is None else [row["price"]]
        path = [entry.lower() for entry in row.get("categories") or ()]
        own = {"category": path[-1]} if path and "category" not in said else {}
        base = turn.state
        if own and {*base.wish.categories} & {*path}:  # what was wanted of the kind stays
            base = replace(base, wish=replace(base.wish, categories=(path[-1],)))
        state = base.merged({**own, **_filters(said)}, prices)
        self._record(turn, SEARCH, text=turn.message)
        return self._lists.find(turn, state, similar_to=item_id)

    def _lookup_catalog(self, said: Json, turn: Turn) -> Outcome:
        ids = [str(one) for one in said.get("ids", ())][:LOOKED_UP]
        rows = self.shop.rows(ids)
        found = [one for one in dict.fromkeys(ids) if one in rows]
        if not found:
            return Outcome("no_such_item", turn.state)
        items = tuple(
            Recommendation(one, rows[one]["title"] or one, rank, 0.0)
            for rank, one in enumerate(found, 1)
        )
        return Outcome("looked_up", turn.state.showing(found), items, rows)

    def _merged(self, said: Json, turn: Turn) -> DialogueState:
        rows = self.shop.rows(turn.state.shown)
        prices = [row["price"] for row in rows.values() if row.get("price") is not None]
        state, wish = turn.state, turn.state.wish
        if said.get("category") and not self.shop.knows_words(wish.query):
            state = replace(state, wish=replace(wish, query=""))  # it was not to be had
        state = state.merged(_filters(said), prices, self.shop.narrower(wish.categories))
        if turn.picture:
            state = replace(state, wish=replace(state.wish, picture=turn.picture), seen=())
        return state

    # --- one item ------------------------------------------------------------------------------

    def _get_product(self, said: Json, turn: Turn) -> Outcome:
        item_id = turn.state.item(said.get("item"))
        row = None if item_id is None else self.shop.rows([item_id]).get(item_id)
        if item_id is None or row is None:
            return Outcome("no_such_item", turn.state)
        self._record(turn, "view", item_id=item_id)
        state = replace(turn.state, focus=said["item"], asked="")
        return Outcome("product", state, rows={item_id: row}, words={"item": item_id})

    def _compare(self, said: Json, turn: Turn) -> Outcome:
        places = list(dict.fromkeys(said.get("items") or range(1, len(turn.state.shown) + 1)))
        ids = [one for one in map(turn.state.item, places) if one is not None]
        rows = self.shop.rows(ids)
        if len(rows) < 2:
            return Outcome("no_such_item", turn.state)
        return Outcome("compared", replace(turn.state, asked=""), rows=rows)

    # --- the cart ------------------------------------------------------------------------------

    def _update_cart(self, said: Json, turn: Turn) -> Outcome:
        item_id = turn.state.item(said.get("item"))
        if item_id is None:
            return Outcome("no_such_item", turn.state)
        if self._carts is None:
            return Outcome("cart_none", turn.state)
        quantity = max(0, min(int(said.get("quantity", 1)), MOST_QUANTITY))
        state, kept = turn.state, self._lines(turn.state.cart_id)
        self._deadline.check()  # a cart changes before the reply, or not at all
        is_there = state.cart_id is not None and kept is not None
        lines = [line for line in kept or () if line["item"]["id"] != item_id]
        if quantity:
            lines.append({"item": {"id": item_id}, "quantity": quantity})
        cart = {"line_items": lines}
        if is_there:
            found = self._carts.update(str(state.cart_id), cart)
        else:
            found = self._carts.create(cart)
        state = replace(state, focus=said["item"], asked="", cart_id=found.get("id", state.cart_id))
        rows = self.shop.rows([item_id, *(line["item"]["id"] for line in lines)])
        held = [line["item"]["id"] for line in found.get("line_items", ())]
        words = {"item": item_id}
        if quantity and item_id not in held:
            return self._sold_out(turn, state, found if "id" in found else None, rows, item_id)
        if quantity:
            self._record(turn, "cart", item_id=item_id)
        situation = "cart_changed" if quantity else "cart_removed"
        return Outcome(situation, state, rows=rows, cart=found, words=words)

    def _sold_out(
        self,
        turn: Turn,
        state: DialogueState,
        cart: Json | None,
        rows: Mapping[str, Json],
        item_id: str,
    ) -> Outcome:
        """An item cannot be bought: what is like it and can."""
        near = self._answer(
            RecommendRequest(None, SHOWN, similar_to=item_id, where={"in_stock": True})
        )
        items = tuple(near.response.recommendations)
        if items:
            state = state.showing([one.item_id for one in items], near.recommendation_id)
            rows = {**rows, **self.shop.rows([one.item_id for one in items])}
        words = {"item": item_id}
        return Outcome("sold_out", state, items, rows, cart=cart, words=words)

    def _create_cart(self, said: Json, turn: Turn) -> Outcome:
        if self._carts is None or turn.state.cart_id is not None:
            return self._get_cart(said, turn)  # one is not lost for another
        self._deadline.check()
        made = self._carts.create({"line_items": []})
        return Outcome("cart", replace(turn.state, cart_id=made["id"], asked=""), cart=made)

    def _get_cart(self, _said: Json, turn: Turn) -> Outcome:
        if turn.state.cart_id is None or self._carts is None:
            return Outcome("cart_none", replace(turn.state, asked=""))
        found = self._carts.get(turn.state.cart_id)
        if "id" not in found:
            return Outcome("cart_none", replace(turn.state, cart_id=None, asked=""))
        rows = self.shop.rows([line["item"]["id"] for line in found["line_items"]])
        return Outcome("cart", replace(turn.state, asked=""), rows=rows, cart=found)

    def _lines(self, cart_id: str | None) -> list[Json] | None:
        """The lines of a cart that can be bought; None where there is no cart."""
        found = {} if cart_id is None or self._carts is None else self._carts.get(cart_id)
        if "line_items" not in found:
            return None
        return [
            {"item": {"id": line["item"]["id"]}, "quantity": line["quantity"]}
            for line in found["line_items"]
        ]

    # --- the shop and words --------------------------------------------------------------------

    def _store_policy(self, said: Json, turn: Turn) -> Outcome:
        topic = str(said.get("topic", ""))
        state = replace(turn.state, asked="")
        if topic not in self._policies:
            return Outcome("no_policy", state, words={"topic": topic})
        return Outcome("policy", state, words={"topic": topic, "policy": self._policies[topic]})

    def _reply(self, said: Json, turn: Turn) -> Outcome:
        act = str(said.get("act", "unclear"))
        state = turn.state
        if act == "not_sold":
            return self._not_sold(str(said.get("query", "")).strip(), turn)
        if act in ACCEPTED and state.asked:  # any answer will do
            return self._lists.find(turn, replace(state, asked=""))
        if act == "ask":  # whether anything has to be asked is seen here
            return self._search_catalog({}, turn)
        keeps = act in ("unclear", "other_language", "insult")
        return Outcome(act, state if keeps else replace(state, asked=""))

    def _not_sold(self, query: str, turn: Turn) -> Outcome:
        """Nothing of that name, and the nearest that there is."""
        wish = Wish(query=query, price_max=turn.state.wish.price_max)
        state = replace(turn.state, wish=wish, seen=(), asked="")
        if not query or not self.recommender.bundle.has_texts:
            return Outcome("not_sold_alone", state, words={"query": query})
        found = self._lists.find(turn, state)
        is_unknown = found.situation == "by_meaning"  # and not a word of the catalogue after all
        return replace(found, situation="not_sold") if is_unknown else found

    # --- events --------------------------------------------------------------------------------

    def _record(self, turn: Turn, kind: str, item_id: str | None = None, text: str = "") -> None:
        """Write an event of a person who is known; a reply is worth more than its event."""
        if self._live is None or turn.visitor.person is None or (kind == SEARCH and not text):
            return
        self._deadline.check()
        in_list = item_id is not None and item_id in turn.state.shown
        event = StoredEvent(
            f"chat-{uuid.uuid4().hex}",
            turn.visitor.person,
            kind,
            time.time(),
            item_id,
            text=text[:MAX_EVENT_TEXT],
            session=turn.visitor.session,
            recommendation_id=turn.state.list_id if in_list else None,
        )
        try:
            self._live.record([event])
        except StoreError as error:
            LOG.error("%s", error)


def _filters(said: Json) -> Json:
    """Arguments that say what is wanted, without places and flags."""
    return {name: value for name, value in said.items() if name not in ("item", "more")}
