"""The demo shop as objects: items, events and impressions from one seed.

from llmrec.demo_shop import generate
shop = generate(seed=0)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from llmrec.demo_shop.after_sale import after_sale_events
from llmrec.demo_shop.catalogue import Catalogue, make_catalogue
from llmrec.demo_shop.people import People, make_people, user_name
from llmrec.demo_shop.simulate import LIST_LENGTH, Steps, simulate
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
        catalogue, people, steps: the truth, for checks and upper bounds; a model that reads
            them is cheating.
    """

    seed: int
    items: list[Item]
    events: list[Event]
    impressions: list[Impression]
    catalogue: Catalogue
    people: People
    steps: Steps


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
    people = make_people(seed, n_users)
    steps = simulate(catalogue, people, seed)
    events, impressions = _record(catalogue, people, steps, seed)
    return DemoShop(seed, catalogue.items, events, impressions, catalogue, people, steps)


def _record(
    catalogue: Catalogue, people: People, steps: Steps, seed: int
) -> tuple[list[Event], list[Impression]]:
    """Turn the simulation's rows into what the shop's log would hold."""
    rng = np.random.default_rng([seed, 4])
    ids = np.array([item.item_id for item in catalogue.items], dtype=object)
    contexts = _Contexts(people)
    actions = _Actions(rng, steps)
    events: list[Event] = []
    impressions: list[Impression] = []
    for row in range(len(steps.user)):
        user = int(steps.user[row])
        context = contexts.of(user, int(steps.device[row]))
        session = f"{user_name(user)}-{steps.session[row] + 1}"
        position = int(steps.position[row])
        impressions.append(
            Impression(
                list_id=f"l{row + 1:06d}",
                user_id=user_name(user),
                session=session,
                timestamp=float(steps.time[row]),
                items=tuple(ids[steps.shown[row]]),
                clicked=tuple(place == position for place in range(LIST_LENGTH)),
                shuffled=bool(steps.shuffled[row]),
                context=context,
            )
        )
        for item, kind, time in actions.of(row):
            events.append(
                Event(user_name(user), ids[item], kind, time, session=session, context=context)
            )
    events += after_sale_events(catalogue, people, steps, rng)
    events.sort(key=lambda event: (event.user_id, event.timestamp))  # stable: ties keep order
    return events, impressions


class _Actions:
    """What users did with every list, with all the random numbers drawn at once."""

    def __init__(self, rng: np.random.Generator, steps: Steps) -> None:
        n = len(steps.user)
        self._clicked = steps.clicked().tolist()
        self._times = steps.time.tolist()
        self._ends = (2 + steps.cart + steps.bought).tolist()  # how far the funnel goes
        # a look at something that is not opened: an item, or -1
        other = steps.shown[np.arange(n), rng.integers(LIST_LENGTH, size=n)]
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


class _Contexts:
    """One dict per (user, device), shared by all events that have it."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._made: dict[tuple[int, int], dict[str, str]] = {}
        self._places = tuple(PLACES)

    def of(self, user: int, device: int) -> dict[str, str]:
        key = (user, device)
        if key not in self._made:
            self._made[key] = {
                "device": DEVICES[device],
                "place": self._places[self._people.place[user]],
                "membership": MEMBERSHIPS[self._people.membership[user]],
            }
        return self._made[key]
