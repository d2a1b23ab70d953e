"""How much of a video the demo shop's customers watch, as a player would log it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from llmrec.demo_shop.kinds import FIELD_VALUES
from llmrec.demo_shop.shop import DemoShop

# Logits of the share that is watched. A thing in use holds the eye whoever looks, and how a thing
# moves is seen in no single frame; beside it count the viewer's own taste and the moment.
_OF_MOTION = {"still": -1.2, "turning": 0.0, "in_use": 1.0}
_TASTE, _MOMENT = 0.5, 0.8
_STREAM = 8  # of random numbers


def watch_rows(shop: DemoShop, filmed: Collection[str]) -> Iterator[dict[str, Any]]:
    """A row for each view of an item that has a video.

    Args:
        filmed: identifiers of the items with one.

    Yields:
        ``user_id``, ``item_id``, ``timestamp`` and ``watched``, the share of the video, 0 to 1.
    """
    motions = FIELD_VALUES["motion"]
    motion = {item.item_id: item.attributes["motion"] for item in shop.items}
    rng = np.random.default_rng([shop.seed, _STREAM])
    for event in shop.events:
        if event.type != "view" or event.item_id not in filmed:
            continue
        kind = motion[event.item_id]
        taste = shop.profiles.tastes["motion"][int(event.user_id[1:]) - 1]
        logit = _OF_MOTION[kind] + _TASTE * taste[motions.index(kind)] + _MOMENT * rng.normal()
        yield {
            "user_id": event.user_id,
            "item_id": event.item_id,
            "timestamp": event.timestamp,
            "watched": round(float(1 / (1 + np.exp(-logit))), 3),
        }
