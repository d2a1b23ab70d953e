"""What makes a user want an item: the demo shop's hidden choice model.

The utility of an item for a user at a time is a sum of

* tastes (style, colour, pattern, kind, brand, material, motion) that drift with time,
  whom they buy for, the price they are happy with, the item's own appeal;
* the season in their part of the country, the occasion at this weekday and daypart;
* what they opened last, by their *intent*: ``compare`` looks for a substitute (same kind,
  near in price), ``complete`` for a complement (the kind's ``then`` list, a colour that
  goes with the last), ``explore`` follows tastes alone. The pull fades with the gap since.

A list of items is then a multinomial logit with position bias and an outside option, "go on
looking", whose weight is that of the whole shop (McFadden, 1974; the position term as in
position-based click models, Craswell et al., 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.demo_shop.catalogue import Catalogue
from llmrec.demo_shop.kinds import KIND_INDEX, KINDS
from llmrec.demo_shop.users import DAYPARTS, UserProfiles, daypart_of, month_of, weekday_of
from llmrec.demo_shop.vocabulary import (
    COLOUR_PARTNERS,
    COLOURS,
    OCCASIONS,
    PEAK_MONTH,
    PLACES,
    SEASONS,
)

INTENTS = ("compare", "complete", "explore")
TASTE_WEIGHTS = {
    "style": 1.1,
    "colour": 0.7,
    "pattern": 0.55,
    "kind": 0.4,
    "brand": 0.45,
    "material": 0.3,
    "motion": 0.35,
}
COMPLEMENTS = (4.2, 3.4, 2.6)  # pull of a kind's first, second and third complement
SUBSTITUTE = 4.2  # pull of the same kind while comparing
SAME_KIND_AGAIN = -1.5  # once a choice is made, one is enough
COLOUR_PULL = (1.5, 0.9, 0.8)  # first partner, second partner, the same colour
PRICE = 2.0  # loss by squared distance from the user's price band
PRICE_JUMP = 1.0  # loss by distance from the price of the thing compared with
SEASON = 1.7
OCCASION = 1.2
FOCUS = 1.6  # pull of the department a session is about
FADE_DAYS = 12.0  # how long the item opened last still matters
ACROSS_SESSIONS = 0.75
GOLD_LIKES_DEAR = 0.6
POSITION = {"phone": 0.5, "desktop": 0.25, "tablet": 0.35}  # weight of log(position)
OUTSIDE = 0.015  # share of the whole shop's weight that "go on looking" has


@dataclass(frozen=True)
class ChoiceContexts:
    """What a choice depends on beside the items; one row a list that is shown.

    Attributes:
        user: int ``[rows]``.
        time: int64 ``[rows]``, seconds since 1970 UTC.
        share: float ``[rows]``, how far the shop's lifetime has gone (0 to 1).
        last: int ``[rows]``, the item opened last, or -1.
        intent: int ``[rows]``, position in ``INTENTS``.
        pull: float ``[rows]``, how much the last item matters (0 to 1).
        focus: int ``[rows]``, the session's department (0 clothing, 1 home).
    """

    user: np.ndarray
    time: np.ndarray
    share: np.ndarray
    last: np.ndarray
    intent: np.ndarray
    pull: np.ndarray
    focus: np.ndarray


class ChoiceModel:
    """Utilities of the whole catalogue for a block of users."""

    def __init__(self, catalogue: Catalogue, profiles: UserProfiles, users: np.ndarray) -> None:
        self.catalogue = catalogue
        self.profiles = profiles
        self.first_user = int(users[0])
        self._taste = self._taste_matrix(profiles.tastes, users)
        self._later_taste = self._taste_matrix(profiles.later_tastes, users)
        self._kind_pull = kind_pull().astype(np.float32)
        self._colour_pull = colour_pull().astype(np.float32)
        self._season = season_scores()
        self._occasion = occasion_scores()
        self._climate = np.array(list(PLACES.values()))

    def _taste_matrix(self, tastes: dict[str, np.ndarray], users: np.ndarray) -> np.ndarray:
        """float32 ``[users, items]``: everything that does not depend on the context."""
        codes, profiles = self.catalogue.codes, self.profiles
        total = np.tile(self.catalogue.appeal, (len(users), 1))
        for field, weight in TASTE_WEIGHTS.items():
            total += weight * tastes[field][users][:, codes[field]]
        total += profiles.audience[users][:, codes["audience"]]
        tier = self.catalogue.tier[None, :]
        total -= PRICE * (tier - profiles.band[users][:, None]) ** 2
        total += GOLD_LIKES_DEAR * (profiles.membership[users] == 2)[:, None] * tier
        return total.astype(np.float32)

    def utility(self, contexts: ChoiceContexts) -> np.ndarray:
        """float32 ``[rows, items]``; -inf for items that are not on sale at that time."""
        codes = self.catalogue.codes
        rows = contexts.user - self.first_user
        share = contexts.share[:, None].astype(np.float32)
        total = (1.0 - share) * self._taste[rows] + share * self._later_taste[rows]
        total += FOCUS * (codes["domain"][None, :] == contexts.focus[:, None])
        climate = self._climate[self.profiles.place[contexts.user]][:, None]
        month = month_of(contexts.time) - 1
        total += SEASON * climate * self._season[month][:, codes["season"]]
        when = self._occasion[weekday_of(contexts.time), daypart_of(contexts.time)]
        total += OCCASION * when[:, codes["occasion"]]
        total += contexts.pull[:, None].astype(np.float32) * self._pull_of_last(contexts)
        on_sale = (self.catalogue.arrives <= share) & (share < self.catalogue.leaves)
        return np.where(on_sale, total, -np.inf)

    def _pull_of_last(self, contexts: ChoiceContexts) -> np.ndarray:
        """float ``[rows, items]``: what the item opened last adds."""
        codes, tier = self.catalogue.codes, self.catalogue.tier.astype(np.float32)
        last = np.maximum(contexts.last, 0)  # rows without a last item have no pull
        pull = self._kind_pull[contexts.intent, codes["kind"][last]][:, codes["kind"]]
        following = self._colour_pull[codes["colour"][last]][:, codes["colour"]]
        pull = pull + (contexts.intent == INTENTS.index("complete"))[:, None] * following
        jump = np.float32(PRICE_JUMP) * np.abs(tier[None, :] - tier[last][:, None])
        return pull - (contexts.intent == INTENTS.index("compare"))[:, None] * jump


def click_probabilities(
    utility: np.ndarray, shown: np.ndarray, position_weight: np.ndarray
) -> np.ndarray:
    """Probability that each shown item is the one clicked.

    Args:
        utility: float ``[rows, items]``, -inf where an item cannot be chosen.
        shown: int ``[rows, positions]``.
        position_weight: float ``[rows]``, loss by log(position).

    Returns:
        float ``[rows, positions]``; one minus a row's sum is "none of these".
    """
    highest = utility.max(axis=1, keepdims=True)
    whole_shop = np.exp(utility - highest).sum(axis=1, keepdims=True)
    ranks = np.log(np.arange(1, shown.shape[1] + 1))
    weights = np.exp(np.take_along_axis(utility, shown, axis=1) - highest)
    weights = weights * np.exp(-position_weight[:, None] * ranks[None, :])
    return weights / (weights.sum(axis=1, keepdims=True) + OUTSIDE * whole_shop)


def kind_pull() -> np.ndarray:
    """float ``[intents, kinds, kinds]``: what a kind adds after another kind."""
    pull = np.zeros((len(INTENTS), len(KINDS), len(KINDS)))
    same = np.eye(len(KINDS))
    pull[INTENTS.index("compare")] = SUBSTITUTE * same
    complete = pull[INTENTS.index("complete")]
    complete += SAME_KIND_AGAIN * same
    for row, kind in enumerate(KINDS):
        for weight, name in zip(COMPLEMENTS, kind.then, strict=True):
            complete[row, KIND_INDEX[name]] = weight
    return pull


def colour_pull() -> np.ndarray:
    """float ``[colours, colours]``: what a colour adds after another colour."""
    names = list(COLOURS)
    pull = COLOUR_PULL[2] * np.eye(len(names))
    for row, name in enumerate(names):
        for weight, partner in zip(COLOUR_PULL, COLOUR_PARTNERS[name], strict=False):
            pull[row, names.index(partner)] = weight
    return pull


def season_scores() -> np.ndarray:
    """float ``[12 months, seasons]``: 1 in the peak month, -1 half a year from it."""
    scores = np.zeros((12, len(SEASONS)))
    for column, season in enumerate(SEASONS):
        if season in PEAK_MONTH:
            away = np.arange(1, 13) - PEAK_MONTH[season]
            scores[:, column] = np.cos(2 * np.pi * away / 12)
    return scores


def occasion_scores() -> np.ndarray:
    """float ``[7 weekdays, dayparts, occasions]``: what users think of, and when."""
    scores = np.zeros((7, len(DAYPARTS), len(OCCASIONS)))
    morning, midday, evening, night = range(len(DAYPARTS))
    names = list(OCCASIONS)
    scores[:5, morning, names.index("office")] = 1.0
    scores[:5, midday, names.index("office")] = 0.7
    scores[3:6, evening, names.index("party")] = 1.0
    scores[3:6, night, names.index("party")] = 1.2
    scores[:, morning, names.index("sport")] = 0.9
    scores[5:, midday, names.index("sport")] = 0.5
    scores[3:5, midday, names.index("travel")] = 0.9
    scores[5:, morning, names.index("travel")] = 0.6
    scores[:, evening, names.index("relaxing")] = 0.5
    scores[:, night, names.index("relaxing")] = 0.9
    scores[5:, midday, names.index("dining")] = 1.0
    scores[5:, evening, names.index("dining")] = 0.6
    return scores
