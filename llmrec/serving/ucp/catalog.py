"""Searches, look-ups and recommendations over a catalogue, as the protocol asks for them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmrec.errors import CatalogError
from llmrec.serving.answering import Answered
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.ucp.products import Money, is_sold, product
from llmrec.serving.ucp.protocol import (
    LOOKUP,
    RECOMMEND,
    SEARCH,
    USER_SIGNAL,
    InvalidRequestError,
    Json,
    RequestTooLargeError,
    envelope,
    error,
    failure,
    info,
    warning,
)

Rows = Callable[[Sequence[str]], Mapping[str, Json]]  # rows of the catalogue by identifier
Answer = Callable[[RecommendRequest], Answered]
LIMIT, MOST = 10, 50  # products of a page
DEEPEST = 200  # products of all pages
MOST_IDS = 100  # of a look-up
_FILTERS = {"categories": "categories", "brand": "brands", "attributes": "attributes"}
UNPRICED = "products without a price are left out: the protocol has none"


class Catalog:
    """The catalogue operations. Many threads may ask one at once.

    Args:
        recommender: of the catalogue.
        answer: ranks, and keeps what was shown.
        rows: the catalogue, as it is now.
        money: of its prices.
    """

    def __init__(self, recommender: Recommender, answer: Answer, rows: Rows, money: Money) -> None:
        self._recommender, self._answer = recommender, answer
        self._rows, self.money = rows, money

    def search(self, request: Json) -> Json:
        """Products that fit words and filters; without words, by what the buyer is likely to want.

        Raises:
            InvalidRequestError: for a request that names neither, or a cursor that is none.
        """
        if not (request.get("query", "").strip() or request.get("filters")):
            raise InvalidRequestError("catalog: give a query, filters, or both")
        return self._page(SEARCH, request, request.get("query", ""))

    def recommend(self, request: Json) -> Json:
        """Products that a buyer is likely to want now.

        ``context.intent`` is what they look for, the signal :data:`USER_SIGNAL` who they are, and
        ``history`` what they did.

        Raises:
            InvalidRequestError: for a cursor that is none.
        """
        return self._page(RECOMMEND, request, (request.get("context") or {}).get("intent", ""))

    def lookup(self, request: Json) -> Json:
        """The products of some identifiers; what there is not is named.

        Raises:
            RequestTooLargeError: for too many identifiers.
        """
        ids = list(dict.fromkeys(request["ids"]))
        if len(ids) > MOST_IDS:
            raise RequestTooLargeError(f"catalog.ids: {len(ids)} are given; at most {MOST_IDS}")
        where, notes = self._where(request)
        rows, allowed = self._rows(ids), self._allowed(where, notes)
        found = [item_id for item_id in ids if item_id in rows and is_sold(rows[item_id])]
        products = [
            product(rows[item_id], self.money)
            for item_id in found
            if allowed is None or item_id in allowed
        ]
        for one in products:
            one["variants"][0]["inputs"] = [{"id": one["id"], "match": "exact"}]
        notes += [info("not_found", item_id) for item_id in ids if item_id not in found]
        return _answer(LOOKUP, notes, products=products)

    def get_product(self, request: Json) -> Json:
        """One product."""
        item_id = request["id"]
        row = self._rows([item_id]).get(item_id)
        if row is None or not is_sold(row):
            return failure(LOOKUP, error("not_found", f"Product not found: {item_id}"))
        return _answer(LOOKUP, [], product=product(row, self.money) | {"selected": []})

    def _page(self, capability: str, request: Json, words: str) -> Json:
        page, (where, notes) = _Page(capability, request), self._where(request)
        signals, context = request.get("signals") or {}, request.get("context") or {}
        user = signals.get(USER_SIGNAL)
        asked: dict[str, Any] = {"query": words.strip(), "where": where}
        if user is not None:
            asked["user"] = str(user)
        if "history" in request:
            asked["history"] = request["history"]
        if context.get("eligibility"):
            asked["context"] = {"membership": context["eligibility"][0]}
        try:
            most = min(page.end + 1, DEEPEST)
            answered = self._answer(RecommendRequest(n=most, **asked))
        except CatalogError as problem:  # of a filter that no product has
            notes.append(info("not_found", str(problem)))
            return _answer(capability, notes, products=[], pagination={"has_next_page": False})
        found = answered.response.recommendations
        rows = self._rows([one.item_id for one in found])
        sold = [one for one in found if one.item_id in rows and is_sold(rows[one.item_id])]
        if len(sold) < len(found):
            notes.append(info("no_price", UNPRICED))
        notes += [info("note", note) for note in answered.response.notes]
        products = [
            product(rows[one.item_id], self.money, reason=one.reason or None, p_click=one.p_click)
            for one in sold[page.start : page.end]
        ]
        about: Json = {"pagination": page.next(len(sold))}
        if answered.recommendation_id is not None:  # events may name it
            about["recommendation_id"] = answered.recommendation_id
        return _answer(capability, notes, products=products, **about)

    def _where(self, request: Json) -> tuple[Json, list[Json]]:
        """The filters as a recommender takes them, and what is said of the others."""
        filters, notes = dict(request.get("filters") or {}), []
        where = {ours: filters.pop(name) for name, ours in _FILTERS.items() if name in filters}
        price = filters.pop("price", {})
        currency = (request.get("context") or {}).get("currency", self.money.currency)
        if price and currency != self.money.currency:
            said = (
                f"prices are in {self.money.currency}; the price filter in {currency} is not read"
            )
            notes.append(warning("currency_unsupported", said))
        else:
            bounds = {f"price_{end}": price[end] for end in ("min", "max") if end in price}
            where |= {name: self.money.major(amount) for name, amount in bounds.items()}
        if filters.pop("available", None) is True:
            where["in_stock"] = True
        notes += [info("filter_ignored", f"filters.{name} is not known here") for name in filters]
        return where, notes

    def _allowed(self, where: Json, notes: list[Json]) -> set[str] | None:
        if not where:
            return None
        items = self._recommender.bundle.items
        try:
            request = RecommendRequest(where=where)
            passes = items.filter(request.catalog_filter)
        except CatalogError as problem:
            notes.append(info("not_found", str(problem)))
            return set()
        if passes is None:
            return None
        return {items.item_ids[row] for row in passes.mask(len(items)).nonzero()[0].tolist()}


class _Page:
    """Where in a list an answer begins and ends, by the cursor of the one before it.

    Args:
        capability: that was asked.
        request: with ``pagination``.

    Raises:
        InvalidRequestError: for a cursor of another request, or none at all.
    """

    def __init__(self, capability: str, request: Json) -> None:
        pagination = request.get("pagination") or {}
        self._of = _digest(capability, request)
        self.start = self._position(pagination["cursor"]) if "cursor" in pagination else 0
        limit = min(pagination.get("limit", LIMIT), MOST)
        self.end = min(self.start + limit, DEEPEST)

    def next(self, found: int) -> Json:
        """The part of an answer that says whether there is more.

        Args:
            found: products of this page and those before it, and at least one more if there is.
        """
        if found <= self.end or self.end >= DEEPEST:
            return {"has_next_page": False}
        text = json.dumps([self.end, self._of]).encode()
        return {"has_next_page": True, "cursor": base64.urlsafe_b64encode(text).decode()}

    def _position(self, cursor: str) -> int:
        try:
            position, of = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        except (ValueError, binascii.Error, TypeError):
            raise InvalidRequestError("pagination.cursor: is none of this service") from None
        if of != self._of or not isinstance(position, int) or not 0 <= position < DEEPEST:
            raise InvalidRequestError(
                "pagination.cursor: is of another request; repeat the one it came from"
            )
        return position


def _digest(capability: str, request: Json) -> str:
    same = {name: value for name, value in request.items() if name != "pagination"}
    text = json.dumps([capability, same], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _answer(capability: str, notes: list[Json], **found: Any) -> Json:
    answer: Json = {"ucp": envelope(capability), **found}
    return answer | ({"messages": notes} if notes else {})
