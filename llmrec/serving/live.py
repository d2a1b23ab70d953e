"""What people did, as a service knows it: a dataset's histories, then the events of its store."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from llmrec.errors import CatalogError
from llmrec.serving.bundle import Bundle
from llmrec.serving.history import KnownAttributes, KnownHistories, is_liked
from llmrec.serving.live_graph import LiveGraph
from llmrec.serving.request import History
from llmrec.serving.statistics import StoreStatistics
from llmrec.serving.store import conversations, events, people, recommendations
from llmrec.serving.store.database import Store, StoreError
from llmrec.serving.store.events import StoredEvent
from llmrec.serving.store.people import Profile
from llmrec.serving.store.recommendations import ShownList
from llmrec.types import Event

MOST_EVENTS = 1000  # newest stored events of a history that a request reads
OVERLAP = 1000  # numbers of events that are looked at again
FORGOTTEN_SECONDS = 60.0  # between two looks who is not there any more
_FIELDS = ("item_id", "type", "timestamp", "rating")  # of events.of_user
DESCRIBED = 100  # newest events that a description of a user lists


class LiveHistories:
    """Histories that grow while they are read. Many threads may use them at once.

    Args:
        store: opened; its events are counted into the bundle's item graph at once.
        bundle: opened; its item graph is changed.
        known: histories of a dataset, read before the stored events.
        attributes: of the people of a dataset.
        others: opened bundles of the same items, whose item graphs are changed as well.
        counts: False leaves all item graphs as they are.

    Raises:
        StoreError: if the store cannot be read.
    """

    def __init__(
        self,
        store: Store,
        bundle: Bundle,
        known: KnownHistories | None = None,
        attributes: KnownAttributes | None = None,
        others: Sequence[Bundle] = (),
        counts: bool = True,
    ) -> None:
        self.store, self._items = store, bundle.items
        self._known, self._attributes = known, attributes
        self._graphs = {
            number: LiveGraph(one.prior.scorer.graph)
            for number, one in enumerate((bundle, *others))
            if one.prior is not None and counts
        }
        self._caches = [cache for one in (bundle, *others) for cache in one.history_caches()]
        self.statistics = StoreStatistics(store)
        self._lock = threading.Lock()  # one changes the store and the graph
        self._counted: dict[str, None] = {}  # ids of the last events that are in the graph
        with store.read() as connection:
            self._forgotten = people.forgotten(connection)
            self._newest, self._looked = events.newest(connection), time.monotonic()
            for graph in self._graphs.values():
                graph.count_all(
                    (user_id, self._known_items(user_id), self._liked(rows))
                    for user_id, rows in events.of_users(connection)
                )

    @contextmanager
    def switching(self, number: int = 0) -> Iterator[Callable[[Bundle], None]]:
        """While the block runs, nothing is counted; the function that it gets says over which
        version of the catalogue to go on.

        Args:
            number: of the bundle, 0, or of one of the others, from 1.
        """

        def use(bundle: Bundle) -> None:
            if number == 0:
                self._items = bundle.items
            if bundle.prior is not None and number in self._graphs:
                self._graphs[number].use(bundle.prior.scorer.graph)

        with self._lock:
            yield use

    def check_item(self, item_id: str | None) -> None:
        """Check that an event's item, where it has one, is known.

        Raises:
            CatalogError: if it is not in the catalogue.
        """
        if item_id is not None and item_id not in self._items.index:
            raise CatalogError(f"item_id: {item_id!r} is not in the catalogue")

    def record(self, new: Sequence[StoredEvent]) -> list[bool]:
        """Store events: durable when this returns, and part of the next recommendation.

        Returns:
            of each whether it was stored; False for one whose id was there already.

        Raises:
            StoreError: if the store cannot be written; nothing was stored.
        """
        first = {one.event_id: one for one in reversed(new)}
        with self._changing():
            with self.store.write() as connection:
                stored = events.add(connection, list(first.values())[::-1])
                users = {first[event_id].user_id for event_id in stored}
                liked = self._liked_of(connection, users)
            self._count(liked)
            self._note(stored)
        return [one.event_id in stored and first[one.event_id] is one for one in new]

    def history(self, user_id: str) -> History | None:
        """A user's events, oldest first; None for an unknown one.

        Raises:
            StoreError: if the store cannot be read.
        """
        known = self._known_history(user_id)
        with self.store.read() as connection:
            rows = events.of_user(connection, user_id, MOST_EVENTS)
        if known is None and not rows:
            return None
        return [*(known or ()), *(dict(zip(_FIELDS, row, strict=True)) for row in rows)]

    def attributes(self, user_id: str) -> dict[str, str]:
        """What is known of a user, as the context of a request: the shop's word of the store
        comes before that of the dataset.

        Raises:
            StoreError: if the store cannot be read.
        """
        known = self._known_attributes(user_id)
        with self.store.read() as connection:
            said = people.profile(connection, user_id)
        return known if said is None else known | said.attributes()

    def describe(self, user_id: str) -> dict[str, Any] | None:
        """All that is known of a user, as JSON has it; None for nothing.

        Raises:
            StoreError: if the store cannot be read.
        """
        history, attributes = self.history(user_id), self._known_attributes(user_id)
        with self.store.read() as connection:
            said = people.profile(connection, user_id)
            counts = events.counts(connection, user_id)
            shown = recommendations.count(connection, user_id)
        if history is None and said is None and not (attributes or counts or shown):
            return None
        said = said or Profile()
        return {
            "user_id": user_id,
            "profile": said.profile,
            "membership": said.membership,
            "dataset_attributes": attributes,
            "events": counts,
            "history": list(history or ())[-DESCRIBED:],
            "recommendations": shown,
        }

    def set_profile(self, user_id: str, change: Callable[[Profile], Profile]) -> Profile:
        """Change what the shop says of a user, from what it said so far; the new profile.

        Raises:
            StoreError: if the store cannot be written; nothing was changed.
        """
        with self._changing(), self.store.write() as connection:
            new = change(people.profile(connection, user_id) or Profile())
            people.put(connection, user_id, new)
        return new

    def forget(self, user_id: str) -> dict[str, int]:
        """Remove a user from the store and the item graph, and never read the dataset's history
        and attributes of that name again; what was removed, counted.

        Of the name a hash is kept where the dataset knows it.

        Raises:
            StoreError: if the store cannot be written; nothing was removed.
        """
        with self._changing():
            items = self._known_items(user_id)
            in_dataset = self._known_history(user_id) is not None or bool(
                self._known_attributes(user_id)
            )
            with self.store.write() as connection:
                removed = {
                    "events": events.remove(connection, user_id),
                    "profiles": people.remove(connection, user_id),
                    "recommendations": recommendations.remove(connection, user_id),
                    "conversations": conversations.remove(connection, user_id),
                }
                if in_dataset:
                    people.forget(connection, user_hash(user_id))
            for graph in self._graphs.values():
                graph.count(user_id, items, [])
            if in_dataset:
                self._forgotten.add(user_hash(user_id))
        self._forget_cached()
        self.store.scrub()
        return removed

    def forget_before(self, before: float) -> None:
        """Remove events and recommendations from before a time.

        Args:
            before: seconds since 1970 UTC.

        Raises:
            StoreError: if the store cannot be written; nothing was removed.
        """
        with self._changing():
            with self.store.write() as connection:
                users = set(events.users_before(connection, before))
                events.remove_before(connection, before)
                recommendations.remove_before(connection, before)
                liked = self._liked_of(connection, users)
            self._count(liked)
        self.store.scrub()

    def follow(self) -> None:
        """Take in what other services over the store counted and forgot since the last time.

        Raises:
            StoreError: if the store cannot be read.
        """
        with self._changing(), self.store.read() as connection:
            forgotten = people.forgotten(connection)
            if forgotten - self._forgotten:
                self._forget_cached()
            self._forgotten |= forgotten
            if not self._graphs:
                return
            # a transaction may have got its numbers before one that was committed earlier
            rows = events.since(connection, self._newest - OVERLAP)
            new = [row for row in rows if row.event_id not in self._counted]
            self._count(self._liked_of(connection, {row.user_id for row in new}))
            self._note(row.event_id for row in new)
            self._newest = max([self._newest, *(row.number for row in rows)])
            if time.monotonic() - self._looked > FORGOTTEN_SECONDS:
                self._looked = time.monotonic()
                counted = set().union(*(graph.users for graph in self._graphs.values()))
                gone = counted - events.users(connection)
                self._count({user: [] for user in gone})
                if gone:
                    self._forget_cached()

    def log(self, shown: Sequence[ShownList]) -> None:
        """Store recommendations that are about to be shown.

        Raises:
            StoreError: if the store cannot be written; none was stored.
        """
        with self.store.write(synced=False) as connection:  # each answer would wait for the disk
            recommendations.add(connection, shown)

    def _note(self, event_ids: Iterable[str]) -> None:
        """Remember which events are counted, as far back as :meth:`follow` looks."""
        self._counted |= dict.fromkeys(event_ids)
        for old in list(islice(self._counted, max(0, len(self._counted) - 4 * OVERLAP))):
            del self._counted[old]

    def _forget_cached(self) -> None:
        self.statistics.forget()
        for cache in self._caches:
            cache.clear()

    def _known_attributes(self, user_id: str) -> dict[str, str]:
        if self._attributes is None or user_hash(user_id) in self._forgotten:
            return {}
        return dict(self._attributes(user_id))

    def _known_history(self, user_id: str) -> History | None:
        """The history of the dataset, unless it is to be forgotten."""
        if self._known is None or user_hash(user_id) in self._forgotten:
            return None
        return self._known(user_id) if callable(self._known) else self._known.get(user_id)

    def _known_items(self, user_id: str) -> list[int]:
        ids = [_item_id(one) for one in self._known_history(user_id) or ()]
        return [self._items.index[item_id] for item_id in ids if item_id in self._items.index]

    def _liked(self, rows: Sequence[Any]) -> list[int]:
        """Item indices of the events that the language model reads."""
        index = self._items.index
        return [index[r.item_id] for r in rows if r.item_id in index and is_liked(r.type)]

    def _liked_of(self, connection: Connection, users: set[str]) -> dict[str, list[int]]:
        if not self._graphs:
            return {}
        return {user: self._liked(events.of_user(connection, user)) for user in users}

    def _count(self, liked: Mapping[str, list[int]]) -> None:
        for user_id, items in liked.items():
            known = self._known_items(user_id)
            for graph in self._graphs.values():
                # another bundle may hear of a new item a moment later
                graph.count(user_id, known, [item for item in items if item < graph.n_items])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One writer at a time, so that the graph follows the store in its order."""
        if not self._lock.acquire(timeout=self.store.busy_seconds):
            raise StoreError(f"store {self.store.name}: is busy; try again")
        try:
            yield
        finally:
            self._lock.release()


def user_hash(user_id: str) -> str:
    """What is kept of the name of a user who was forgotten."""
    return hashlib.sha256(user_id.encode()).hexdigest()


def _item_id(event: str | Event | Mapping[str, Any]) -> str:
    if isinstance(event, str):
        return event
    return str(event.item_id if isinstance(event, Event) else event["item_id"])
