"""The demo shop's users: tastes that can be learned, and when they come to the shop.

Each user is a noisy copy of one of a few archetypes, so users resemble each other and
collaborative filtering has something to find. Tastes drift from a first to a second
state over the shop's lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from llmrec.demo_shop.kinds import FIELD_VALUES
from llmrec.demo_shop.vocabulary import PLACES

START = np.datetime64("2024-07-01T00:00:00", "s")  # a Monday
DAYS = 549  # to the end of December 2025: about 18 months
N_ARCHETYPES = 24
MAX_LISTS = 60
DAYPARTS = ("morning", "midday", "evening", "night")
_HOURS = ((6, 11), (11, 17), (17, 22), (22, 24))  # no session starts between 0 and 6 h
_MONTH_DEMAND = np.array([0.8, 0.75, 0.9, 0.95, 1.0, 0.95, 0.85, 0.85, 1.0, 1.05, 1.4, 1.6])
_TASTES = ("style", "colour", "pattern", "kind", "brand", "material", "motion")


@dataclass(frozen=True)
class UserProfiles:
    """All users, as arrays with one row a user.

    Attributes:
        archetype: int ``[users]``.
        tastes: field -> float ``[users, values]``, log-weights at the shop's opening.
        later_tastes: the same at the end of its lifetime; tastes move between the two.
        audience: float ``[users, 4]``, log-weight of things made for women, men, kids,
            everyone.
        band: float ``[users]``, the price tier a user is happy with.
        home_share: float ``[users]``, share of sessions spent on things for the home.
        membership, place: int ``[users]``, positions in the vocabularies.
        device: float ``[users, 3]``, shares.
        daypart: float ``[users, 4]``, shares of sessions.
        weekend: float ``[users]``, how much likelier a weekend day is than a weekday.
    """

    archetype: np.ndarray
    tastes: dict[str, np.ndarray]
    later_tastes: dict[str, np.ndarray]
    audience: np.ndarray
    band: np.ndarray
    home_share: np.ndarray
    membership: np.ndarray
    place: np.ndarray
    device: np.ndarray
    daypart: np.ndarray
    weekend: np.ndarray

    def __len__(self) -> int:
        return len(self.archetype)


def user_name(user: int) -> str:
    """The shop's identifier of a user."""
    return f"u{user + 1:05d}"


def make_profiles(seed: int, n_users: int) -> UserProfiles:
    """Draw the tastes and habits of all users."""
    rng = np.random.default_rng([seed, 2])
    archetype = rng.integers(N_ARCHETYPES, size=n_users)
    # half of the users end up like another archetype, the others stay as they are
    moved = np.where(rng.random(n_users) < 0.5, rng.integers(N_ARCHETYPES, size=n_users), archetype)
    centres = {name: rng.normal(size=(N_ARCHETYPES, len(FIELD_VALUES[name]))) for name in _TASTES}
    tastes, later = {}, {}
    for field in _TASTES:
        own = 0.45 * rng.normal(size=(n_users, len(FIELD_VALUES[field])))
        tastes[field] = 0.9 * centres[field][archetype] + own
        later[field] = 0.9 * centres[field][moved] + own
    band = rng.normal(0.0, 0.3, N_ARCHETYPES)[archetype] + rng.normal(0.0, 0.15, n_users)
    richness = band + rng.normal(0.0, 0.25, n_users)
    return UserProfiles(
        archetype=archetype,
        tastes=tastes,
        later_tastes=later,
        audience=_draw_audiences(rng, n_users),
        band=band,
        home_share=rng.beta(2.2, 3.0, n_users),
        membership=np.digitize(richness, [0.05, 0.45]),
        place=rng.integers(len(PLACES), size=n_users),
        device=rng.dirichlet([1.6, 1.0, 0.35], n_users),
        daypart=rng.dirichlet([0.9, 1.0, 1.6, 0.5], n_users),
        weekend=np.exp(rng.normal(0.25, 0.6, n_users)),
    )


def _draw_audiences(rng: np.random.Generator, n_users: int) -> np.ndarray:
    """float ``[users, 4]``: who a user buys for."""
    draw = rng.random(n_users)
    women = np.where(draw < 0.62, 0.0, -4.0)
    men = np.where(draw > 0.48, 0.0, -4.0)
    kids = np.where(rng.random(n_users) < 0.18, 0.6, -3.5)
    return np.stack([women, men, kids, np.full(n_users, -0.4)], axis=1)


def plan_sessions(rng: np.random.Generator, profiles: UserProfiles, user: int) -> list[np.ndarray]:
    """When a user comes and how many lists they look at; no two sessions on one day.

    Returns:
        for each session int64 ``[lists]``, when each list is shown, seconds since 1970 UTC.
    """
    n_lists = int(np.clip(np.round(np.exp(rng.normal(2.58, 0.55))), 8, MAX_LISTS))
    sizes: list[int] = []
    while sum(sizes) < n_lists:
        sizes.append(min(2 + int(rng.poisson(3.0)), n_lists - sum(sizes)))
    opening = int(DAYS * rng.uniform(0.0, 0.75))
    days = np.arange(opening, DAYS)
    weight = _day_demand()[days] * np.where(days % 7 >= 5, profiles.weekend[user], 1.0)
    chosen = np.sort(rng.choice(days, size=len(sizes), replace=False, p=weight / weight.sum()))
    dayparts = rng.choice(len(DAYPARTS), size=len(sizes), p=profiles.daypart[user])
    plans = []
    for day, daypart, size in zip(chosen, dayparts, sizes, strict=True):
        first, last = _HOURS[daypart]
        start = START.astype(np.int64) + day * 86_400 + int(rng.integers(first * 3600, last * 3600))
        # at least four minutes from list to list: room for a cart and a purchase between
        gaps = 240 + rng.exponential(150.0, size - 1).astype(np.int64)
        plans.append(start + np.concatenate([[0], np.cumsum(gaps)]).astype(np.int64))
    return plans


@cache
def _day_demand() -> np.ndarray:
    """float ``[DAYS]``: how busy the shop is on a day of its lifetime."""
    return _MONTH_DEMAND[month_of(np.arange(DAYS) * 86_400 + START.astype(np.int64)) - 1]


def month_of(times: np.ndarray) -> np.ndarray:
    """Month 1 to 12 of times in seconds since 1970 UTC."""
    months = np.asarray(times).astype("datetime64[s]").astype("datetime64[M]")
    return months.astype(np.int64) % 12 + 1


def weekday_of(times: np.ndarray) -> np.ndarray:
    """Weekday of times in seconds since 1970 UTC; Monday is 0."""
    return (np.asarray(times) // 86_400 + 3) % 7


def daypart_of(times: np.ndarray) -> np.ndarray:
    """Position in ``DAYPARTS`` of times in seconds since 1970 UTC."""
    hours = np.asarray(times) % 86_400 / 3600
    part = np.digitize(hours, [11, 17, 22])
    return np.where(hours < 6, len(DAYPARTS) - 1, part)
