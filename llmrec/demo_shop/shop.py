"""The demo shop as objects: items, events and impressions from one seed.

from llmrec.demo_shop import generate
shop = generate(seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from llmrec.demo_shop.after_sale import after_sale_events
from llmrec.demo_shop.catalogue import Catalogue, make_catalogue
from llmrec.demo_shop.simulate import LIST_LENGTH, SimulatedLists, simulate
from llmrec.demo_shop.users import DAYS, START, UserProfiles, make_profiles, user_name
from llmrec.demo_shop.vocabulary import DEVICES, MEMBERSHIPS, PLACES
from llmrec.errors import ConfigError
from llmrec.types import Event, Item

MIN_ITEMS = 100  # two of every kind, and more than one user can ever open
_FUNNEL = ("view", "click", "cart", "purchase")
_ALSO_VIEWED = 0.15  # share of lists in which something is viewed but not clicked


@dataclass(frozen=True)
class Impression:
    """A list of items that was shown at once, and which of them was clicked.

    Attributes:
        timestamp: when it was shown, seconds since 1970 UTC.
        items: item ids from the top position down.
        clicked: one flag an item; at most one is True.
        shuffled: whether the order was random; such lists show position bias alone.
    """

    list_id: str
    user_id: str
    session: str
    timestamp: float
    items: tuple[str, ...]
    clicked: tuple[bool, ...]
    shuffled: bool = False
    context: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DemoShop:
    """Everything the demo shop knows, and the truth behind it.

    Attributes:
        events: sorted by user, then time.
        impressions: sorted by user, then time; a clicked one has a click event of the same
            user, session and item.
        catalogue, profiles, simulated: ground truth, for checks and upper bounds; a model that
            reads them is cheating.
    """

    seed: int
    items: list[Item]
    events: list[Event]
    impressions: list[Impression]
    catalogue: Catalogue
    profiles: UserProfiles
    simulated: SimulatedLists


def generate(seed: int = 0, n_items: int = 500, n_users: int = 3500) -> DemoShop:
    """Make a demo shop; the same arguments give the same shop.

    Raises:
        ConfigError: for a negative seed, fewer than 100 items or no users.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed}: must be 0 or more")
    if n_items < MIN_ITEMS:
        raise ConfigError(f"--items {n_items}: the demo shop needs at least {MIN_ITEMS} items")
    if n_users < 1:
        raise ConfigError(f"--users {n_users}: the demo shop needs at least 1 user")
    catalogue = make_catalogue(seed, n_items)
    profiles = make_profiles(seed, n_users)
    simulated = simulate(catalogue, profiles, seed)
    events, impressions = _record(catalogue, profiles, simulated, seed)
    arrivals = START.astype(np.int64) + np.round(catalogue.arrives * DAYS * 86_400)
    items = [
        replace(item, available_from=float(time))
        for item, time in zip(catalogue.items, arrivals, strict=True)
    ]
    return DemoShop(seed, items, events, impressions, catalogue, profiles, simulated)


def _record(
    catalogue: Catalogue, profiles: UserProfiles, simulated: SimulatedLists, seed: int
) -> tuple[list[Event], list[Impression]]:
    """Turn the simulation's rows into what the shop's log would hold."""
    rng = np.random.default_rng([seed, 4])
    ids = np.array([item.item_id for item in catalogue.items], dtype=object)
    context_of = _contexts(profiles)
    actions = _Actions(rng, simulated)
    events: list[Event] = []
    impressions: list[Impression] = []
    for row in range(len(simulated.user)):
        user = int(simulated.user[row])
        context = context_of(user, int(simulated.device[row]))
        session = f"{user_name(user)}-{simulated.session[row] + 1}"
        position = int(simulated.position[row])
        impressions.append(
            Impression(
                list_id=f"l{row + 1:06d}",
                user_id=user_name(user),
                session=session,
                timestamp=float(simulated.time[row]),
                items=tuple(ids[simulated.shown[row]]),
                clicked=tuple(place == position for place in range(LIST_LENGTH)),
                shuffled=bool(simulated.shuffled[row]),
                context=context,
            )
        )
        for item, kind, time in actions.of(row):
            events.append(
                Event(user_name(user), ids[item], kind, time, session=session, context=context)
            )
    events += after_sale_events(catalogue, profiles, simulated, rng)
    events.sort(key=lambda event: (event.user_id, event.timestamp))  # stable: ties keep order
    return events, impressions


class _Actions:
    """What users did with every list, with all the random numbers drawn at once."""

    def __init__(self, rng: np.random.Generator, simulated: SimulatedLists) -> None:
        n = len(simulated.user)
        self._clicked = simulated.clicked().tolist()
        self._times = simulated.time.tolist()
        self._ends = (2 + simulated.cart + simulated.bought).tolist()  # how far the funnel goes
        # a look at something that is not opened: an item, or -1
        other = simulated.shown[np.arange(n), rng.integers(LIST_LENGTH, size=n)]
        self._viewed = np.where(rng.random(n) < _ALSO_VIEWED, other, -1).tolist()
        # the pauses add up to less than the shortest gap between two lists
        self._pauses = rng.integers([3, 2, 10, 20], [20, 20, 90, 90], size=(n, 4)).tolist()

    def of(self, row: int) -> Iterator[tuple[int, str, float]]:
        """(item, type, time) of one list, in order."""
        time, clicked, viewed = self._times[row], self._clicked[row], self._viewed[row]
        if viewed not in (-1, clicked):
            yield viewed, "view", float(time + 2)
        if clicked < 0:
            return
        for kind, pause in zip(_FUNNEL[: self._ends[row]], self._pauses[row], strict=False):
            time += pause
            yield clicked, kind, float(time)


def _contexts(profiles: UserProfiles) -> Callable[[int, int], dict[str, str]]:
    """The context of a user on a device: one dict, shared by all events that have it."""
    places = tuple(PLACES)

    @cache
    def context(user: int, device: int) -> dict[str, str]:
        return {
            "device": DEVICES[device],
            "place": places[profiles.place[user]],
            "membership": MEMBERSHIPS[profiles.membership[user]],
        }

    return context
