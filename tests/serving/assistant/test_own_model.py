"""The language model that comes with llmrec talks for a shop that it has not seen."""

from __future__ import annotations

import pytest
from assistant_shop import AssistantShop

from llmrec.serving.assistant.loop import AssistantReply
from llmrec.serving.assistant.mind import SHIPPED
from llmrec.serving.assistant.open import OWN, open_models
from llmrec.weights.known import WEIGHTS

BASE = "smollm2-135m"
needs_weights = pytest.mark.skipif(
    not SHIPPED.is_dir() or not all(file.find() for file in WEIGHTS[BASE].files),
    reason=f"the weights are not installed: {WEIGHTS[BASE].install_command}",
)


@needs_weights
def test_a_conversation_from_a_greeting_to_the_cart(assistant_shop: AssistantShop) -> None:
    shop, (model,) = assistant_shop, open_models(OWN)
    assistant = shop.assistant(model=model)
    conversation = assistant.start()

    def say(message: str) -> AssistantReply:
        return shop.say(assistant, conversation, message)

    assert say("hello").situation == "greet"
    found = say("show me something for the kitchen")
    rows = [shop.rows[one.item_id] for one in found.items]
    assert rows and all("Kitchen" in row["categories"] for row in rows)
    cheaper = say("cheaper ones please")
    assert cheaper.state.wish.price_max is not None
    cart = say("put the first one into my cart")
    assert cart.cart is not None
    [line] = cart.cart["line_items"]
    assert line["item"]["id"] == cheaper.items[0].item_id
    assert say("can I send it back?").text == shop.bundle.policies["returns"]
