"""The ground truth of a demo shop, for ``truth.json``: what a perfect model would know."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.demo_shop.choice import (
    COLOUR_PULL,
    COMPLEMENTS,
    INTENTS,
    POSITION,
    TASTE_WEIGHTS,
    occasion_scores,
    season_scores,
)
from llmrec.demo_shop.kinds import KINDS
from llmrec.demo_shop.shop import DemoShop
from llmrec.demo_shop.simulate import SimulatedLists
from llmrec.demo_shop.users import DAYPARTS, user_name
from llmrec.demo_shop.vocabulary import COLOUR_PARTNERS, OCCASIONS, SEASONS


def oracle_ndcg(simulated: SimulatedLists, k: int = 10) -> float:
    """NDCG@k of the generator's own utilities on every user's last click.

    The ranking holds everything on sale that the user had not clicked yet; users with
    fewer than three clicks are left out. No model can be expected to do better.
    """
    clicks = np.flatnonzero(simulated.position >= 0)
    _, counts = np.unique(simulated.user[clicks], return_counts=True)
    last = clicks[np.cumsum(counts) - 1][counts >= 3]  # lists are sorted by user
    if len(last) == 0:
        return float("nan")
    rank = simulated.rank[last]
    return float(np.where(rank <= k, 1.0 / np.log2(rank + 1.0), 0.0).mean())


def ground_truth(shop: DemoShop) -> dict[str, Any]:
    """Weights, relations, tastes and click probabilities, ready for JSON."""
    ndcg = oracle_ndcg(shop.simulated)
    return {
        "seed": shop.seed,
        "oracle": {"ndcg@10_last_click": None if np.isnan(ndcg) else round(ndcg, 4)},
        "weights": {
            "tastes": TASTE_WEIGHTS,
            "complements": COMPLEMENTS,
            "colours": dict(zip(("first", "second", "same"), COLOUR_PULL, strict=True)),
            "log_position_loss": POSITION,
        },
        "complements": {kind.name: kind.then for kind in KINDS},
        "colour_partners": COLOUR_PARTNERS,
        "season_by_month": dict(zip(SEASONS, season_scores().T.round(3).tolist(), strict=True)),
        "occasion_by_weekday_daypart": {
            "dayparts": DAYPARTS,
            "occasions": list(OCCASIONS),
            "scores": occasion_scores().tolist(),
        },
        "items": _items(shop),
        "users": _users(shop),
        "lists": _lists(shop),
    }


def _items(shop: DemoShop) -> dict[str, dict[str, Any]]:
    catalogue = shop.catalogue
    return {
        item.item_id: {
            "appeal": round(float(catalogue.appeal[row]), 3),
            "quality": round(float(catalogue.quality[row]), 3),
            "arrives": round(float(catalogue.arrives[row]), 3),
            "leaves": round(float(catalogue.leaves[row]), 3) if not item.in_stock else None,
        }
        for row, item in enumerate(catalogue.items)
    }


def _users(shop: DemoShop) -> dict[str, dict[str, Any]]:
    profiles = shop.profiles
    return {
        user_name(user): {
            "archetype": int(profiles.archetype[user]),
            "style": profiles.tastes["style"][user].round(2).tolist(),
            "later_style": profiles.later_tastes["style"][user].round(2).tolist(),
            "colour": profiles.tastes["colour"][user].round(2).tolist(),
            "price_band": round(float(profiles.band[user]), 3),
            "home_share": round(float(profiles.home_share[user]), 3),
        }
        for user in range(len(profiles))
    }


def _lists(shop: DemoShop) -> dict[str, dict[str, Any]]:
    """Intent and true click probabilities of every list shown, by list id."""
    simulated = shop.simulated
    p_click = simulated.p_click.round(5).tolist()
    return {
        shown.list_id: {"intent": INTENTS[simulated.intent[row]], "p_click": p_click[row]}
        for row, shown in enumerate(shop.impressions)
    }
