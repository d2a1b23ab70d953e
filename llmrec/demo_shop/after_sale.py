"""What happens days after a purchase: returns, ratings and reviews.

They happen outside any session, so their ``session`` is empty.
"""

from __future__ import annotations

import numpy as np

from llmrec.demo_shop.catalogue import Catalogue
from llmrec.demo_shop.kinds import KINDS
from llmrec.demo_shop.simulate import SimulatedLists
from llmrec.demo_shop.users import UserProfiles, user_name
from llmrec.demo_shop.wording import make_review
from llmrec.types import Event

_DAY = 86_400.0
_RATES = 0.45  # share of purchases that are rated
_WRITES = 0.5  # share of ratings that come with a text


def after_sale_events(
    catalogue: Catalogue,
    profiles: UserProfiles,
    simulated: SimulatedLists,
    rng: np.random.Generator,
) -> list[Event]:
    """Events of type return, rating and review, in no particular order.

    A rating follows the item's quality and how well it fits the user; a poor one makes a
    return likely.
    """
    clicked = simulated.clicked()
    happiness = 4.1 + 1.3 * catalogue.quality[clicked] + 0.2 * np.maximum(simulated.fit, -5.0)
    events: list[Event] = []
    for row in np.flatnonzero(simulated.bought):
        item, user = catalogue.items[clicked[row]], user_name(int(simulated.user[row]))
        rating = int(np.clip(np.round(happiness[row] + rng.normal(0.0, 0.8)), 1, 5))
        returned = rng.random() < (0.45 if rating <= 2 else 0.04)
        opinion = simulated.time[row] + 600 + np.round(_DAY * rng.uniform(2.0, 12.0))
        if returned:
            sent = opinion + np.round(_DAY * rng.uniform(0.1, 6.0))
            events.append(Event(user, item.item_id, "return", float(sent)))
        if rng.random() >= _RATES:
            continue
        if rng.random() >= _WRITES:
            events.append(Event(user, item.item_id, "rating", float(opinion), float(rating)))
            continue
        kind = KINDS[catalogue.codes["kind"][clicked[row]]]
        text = make_review(rng, kind, item.attributes, item.brand, rating, bool(returned))
        events.append(Event(user, item.item_id, "review", float(opinion), float(rating), text=text))
    return events
