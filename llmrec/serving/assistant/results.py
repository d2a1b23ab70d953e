"""What a language model is told of an outcome: places, closed fields, prices; never a title.

A title or a description could carry instructions; a place cannot.
"""

from __future__ import annotations

from typing import Any

from llmrec.serving.assistant.outcome import Outcome
from llmrec.serving.assistant.shop import Shop
from llmrec.serving.assistant.wording import field_name

Json = dict[str, Any]


def for_model(outcome: Outcome, shop: Shop) -> Json:
    """The content of a tool's result."""
    found: Json = {"situation": outcome.situation}
    ids = [one.item_id for one in outcome.items] or list(outcome.rows)
    place = {item_id: n for n, item_id in enumerate(outcome.state.shown, 1)}
    rows = [(place[one], outcome.rows[one]) for one in ids if one in place and one in outcome.rows]
    if rows:
        found["items"] = [
            {"item": number, "price": row.get("price"), "in_stock": row.get("in_stock", True)}
            | {name: list(values) for name, values in shop.vocabulary.fields_of(row).items()}
            for number, row in rows
        ]
        found["shown"] = "The customer sees names, prices and reasons below your words."
    if outcome.given_up:
        found["nothing_has"] = [field_name(name) for name in outcome.given_up]
    if outcome.question is not None:
        found["ask"] = {"field": outcome.question.field, "values": list(outcome.question.values)}
    if outcome.cart is not None:
        found["lines_in_cart"] = len(outcome.cart["line_items"])
    if "policy" in outcome.words:
        found["policy"] = "The customer sees it below your words."
    return found
