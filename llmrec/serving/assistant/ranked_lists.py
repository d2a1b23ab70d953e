"""Lists of the assistant: items that have what is wanted, or as much of it as there is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from llmrec.errors import CatalogError, ConfigError
from llmrec.serving.answering import Answered
from llmrec.serving.assistant.outcome import Outcome, Question
from llmrec.serving.assistant.relaxing import easier
from llmrec.serving.assistant.shop import Shop
from llmrec.serving.assistant.state import DialogueState, Wish
from llmrec.serving.assistant.turn import Turn, Visitor
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest, RecommendResponse

LOG = logging.getLogger(__name__)
Json = dict[str, Any]
SHOWN = 5  # items of a reply
CLOSEST = 24  # items closest to words that a person's own taste ranks
MANY = 40  # matching items from which a question is asked beside them


class RankedLists:
    """Ranks what a shop has of a wish.

    Args:
        recommender: ranks.
        shop: the catalogue.
        answer: ranks as well, and keeps what is shown.
        personal: whether a person's history counts.
    """

    def __init__(
        self,
        recommender: Recommender,
        shop: Shop,
        answer: Callable[[RecommendRequest], Answered],
        personal: bool,
    ) -> None:
        self._recommender, self._shop = recommender, shop
        self._answer, self._personal = answer, personal

    def find(
        self,
        turn: Turn,
        state: DialogueState,
        *,
        similar_to: str | None = None,
        may_ask: bool = False,
    ) -> Outcome:
        """Items that have what is wanted, or as much of it as there is.

        Args:
            turn: in which they are wanted.
            state: of the dialogue, with the whole wish.
            similar_to: an item that they are to be like.
            may_ask: whether a question may stand beside them.
        """
        is_new = state.wish.query != turn.state.wish.query  # and said once
        is_new_word = is_new and not self._shop.knows_words(state.wish.query)
        for given_up, wish in easier(state.wish):
            answered = self._try(turn, replace(state, wish=wish), state.wish, similar_to)
            if answered is None or not answered.response.recommendations:
                continue
            items = tuple(answered.response.recommendations[:SHOWN])
            shown = state.showing([one.item_id for one in items], answered.recommendation_id)
            situation = "relaxed" if given_up else "found"
            if state.seen and not given_up:
                situation = "more"
            elif is_new_word and not given_up:
                situation = "by_meaning"
            elif similar_to is not None and not given_up:
                situation = "similar"
            question = None
            if may_ask and not given_up and not self.knows(turn.visitor, state):
                question = self._question(state.wish)
            rows = self._shop.rows([one.item_id for one in items])
            return Outcome(
                situation,
                replace(shown, asked="" if question is None else question.field),
                items,
                rows,
                question,
                given_up,
                words={"query": state.wish.query},
                recommendation_id=answered.recommendation_id,
            )
        return Outcome("nothing", replace(state, asked=""))

    def _question(self, wish: Wish) -> Question | None:
        return self._shop.question(wish) if len(self._shop.matching(wish)) > MANY else None

    def _try(
        self, turn: Turn, state: DialogueState, whole: Wish, similar_to: str | None
    ) -> Answered | None:
        """A list for a wish; None where no item has a value of it, or nothing here can be asked
        for it."""
        wish, by_price = state.wish, state.wish.price_max is None and whole.price_max is not None
        try:
            if not len(self._shop.matching(wish)):
                return None
            if similar_to is not None:
                request = RecommendRequest(
                    None, SHOWN, similar_to=similar_to, where=wish.where(), exclude=state.seen
                )
                return self._answer(request)
            if by_price and self._shop.has_prices:  # as near to the price as there is
                return self._cheapest(turn, state)
            return self._ranked(turn, state)
        except (CatalogError, ConfigError) as problem:
            LOG.debug("%s", problem)
            return None

    def _ranked(self, turn: Turn, state: DialogueState) -> Answered:
        wish, own = state.wish, self._own(turn.visitor, state)
        fields: Json = {"where": wish.where(), "exclude": state.seen}
        closest: Json = {"query": wish.query}
        if wish.picture:
            closest["query_vector"] = np.asarray(wish.picture, np.float32)
        is_search = bool(wish.query or wish.picture)
        if is_search and own:
            near = self._recommender.answer(RecommendRequest([], CLOSEST, **fields, **closest))
            ids = [one.item_id for one in near.recommendations]
            if not ids:
                return Answered(near, None, "")
            fields, is_search = {"candidates": ids}, False
        if is_search:
            fields |= closest
        return self._answer(RecommendRequest(n=SHOWN, **fields, **(own or {"history": []})))

    def _cheapest(self, turn: Turn, state: DialogueState) -> Answered:
        """The cheapest items for a wish, once its price bound is given up."""
        rows = self._shop.matching(state.wish)
        prices = self._shop.items.catalogue["price"].take(rows).to_numpy(zero_copy_only=False)
        ids = [self._shop.items.item_ids[row] for row in rows[prices.argsort(kind="stable")]]
        ids = [one for one in ids if one not in state.seen][:SHOWN]
        if not ids:
            return Answered(RecommendResponse([], 0, 0, [], {}, {}), None, "")
        own = self._own(turn.visitor, state) or {"history": []}
        return self._answer(RecommendRequest(n=SHOWN, candidates=ids, **own))

    def _own(self, visitor: Visitor, state: DialogueState) -> Json:
        """The fields of a request that say whose taste counts; none where nobody's does."""
        if state.for_someone_else or not self._personal:
            return {}
        if visitor.history:
            return {"history": visitor.history}
        return {"user": visitor.person} if self.knows(visitor, state) else {}

    def knows(self, visitor: Visitor, state: DialogueState) -> bool:
        """Whether this person's history says something of what they want."""
        if state.for_someone_else or not self._personal:
            return False
        if visitor.history:
            return True
        histories = self._recommender.histories
        if visitor.person is None or histories is None:
            return False
        known = histories(visitor.person) if callable(histories) else histories.get(visitor.person)
        return bool(known)
