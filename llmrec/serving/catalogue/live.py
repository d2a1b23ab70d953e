"""Changes of the catalogue: taken in, kept in the store, in force at the next request.

Services over one store each hold all of it and look for what the others took in. A change is made
against the newest revision, so that all give new items the same index and ID.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmrec.data.source import MEDIA_FIELDS
from llmrec.errors import ConfigError
from llmrec.serving.catalogue.rows import (
    BundleRows,
    Row,
    own_file,
    same_content,
    whole_row,
    with_own_files,
)
from llmrec.serving.catalogue.versions import Draft, ItemUpdate, Versions
from llmrec.serving.live import LiveHistories
from llmrec.serving.recommender import Recommender
from llmrec.serving.store import catalogue
from llmrec.serving.store.catalogue import StoredItem
from llmrec.serving.store.database import Store, StoreError

LOG = logging.getLogger(__name__)
ITEMS = "items.parquet"
CREATED, CHANGED, UNCHANGED, REMOVED = "created", "changed", "unchanged", "removed"
NOT_FOUND, NO_ID = "not_found", "no_item_id_left"
_ATTEMPTS = 5  # while other services change the catalogue as well


@dataclass(frozen=True)
class ItemChange:
    """What is to become of an item.

    Attributes:
        fields: of a row of the catalogue; None removes it.
        whole: these are all of its fields; otherwise the others stay.
    """

    item_id: str
    fields: dict[str, Any] | None
    whole: bool = True


@dataclass
class _Plan:
    """Changes that can be made, worked out against one revision.

    Attributes:
        outcomes: of each change.
        before, rows: of the items that change, as they are and as they will be.
        stored: what will be kept of them.
    """

    outcomes: list[str]
    before: dict[str, Row]
    rows: dict[str, Row]
    stored: dict[str, StoredItem]


class LiveCatalogue:
    """The catalogue of a recommender, which changes while it answers. Threads may use one at once.

    Args:
        store: keeps the changes; what it holds is put in force at once.
        live: counts the events.
        recommender: answers.
        between: runs a function while no request is under way.
        number: of the recommender's bundle among those that ``live`` counts for.

    Raises:
        StoreError: if the store cannot be read.
    """

    def __init__(
        self,
        store: Store,
        live: LiveHistories,
        recommender: Recommender,
        between: Callable[[Callable[[], None]], None] = lambda function: function(),
        number: int = 0,
    ) -> None:
        self._store, self._live, self._recommender = store, live, recommender
        self.between, self._number = between, number
        self._versions = Versions(recommender.version)
        self._model = recommender.bundle.model_name
        self._base = recommender.bundle.items.index
        self._bundle_rows = BundleRows(recommender.bundle.folder / ITEMS)
        self._stored: dict[str, StoredItem] = {}
        self._lock = threading.Lock()
        self.sync()

    @property
    def free_ids(self) -> int:
        """How many new items can still get an ID."""
        ids = self._versions.current.bundle.llm.ids
        return ids.capacity - ids.n_items

    def row(self, item_id: str) -> Row | None:
        """An item as it is now; None for one that is not in the catalogue."""
        return self.rows([item_id]).get(item_id)

    def rows(self, item_ids: Sequence[str]) -> dict[str, Row]:
        """Items as they are now, by identifier, without those that are not in the catalogue."""
        items = self._versions.current.bundle.items
        there = [item_id for item_id in item_ids if items.is_available(item_id)]
        return self._rows(self._base_rows(there), there, self._stored)

    def checked(self, change: ItemChange) -> ItemChange:
        """A change that can be made.

        Raises:
            ConfigError: if it names a file of the bundle that is not there.
        """
        fields = change.fields or {}
        named = [name for name in MEDIA_FIELDS if fields.get(name) == own_file(name)]
        base = self._base_rows([change.item_id]).get(change.item_id, {}) if named else {}
        for name in named:
            if not base.get(name):
                raise ConfigError(f"{name}: the bundle has no file of this item; give an address")
        return change

    def change(self, changes: Sequence[ItemChange]) -> list[str]:
        """Change, add and remove items: kept, and in force, when this returns.

        Returns:
            of each what became of it: ``created``, ``changed``, ``unchanged``, ``removed``,
            ``not_found`` or ``no_item_id_left``.

        Raises:
            CatalogError, ConfigError: see :meth:`Versions.draft`; nothing was changed.
            StoreError: if the store cannot be written; nothing was changed.
        """
        with self._lock:
            for _ in range(_ATTEMPTS):
                self._sync()
                plan = self._plan(changes)
                if not plan.stored:
                    return plan.outcomes
                revision = self._versions.current.bundle.revision + 1
                draft = self._draft(plan, revision)
                kept = [
                    replace(self._with_codes(item, draft), revision=revision)
                    for item in plan.stored.values()
                ]
                if self._keep(kept, revision):
                    self._publish(draft, kept)
                    return plan.outcomes
        raise StoreError(f"store {self._store.name}: others change the catalogue; try again")

    def sync(self) -> bool:
        """Put in force what other services over the store took in; whether there was any.

        Raises:
            StoreError: if the store cannot be read.
        """
        with self._lock:
            return self._sync()

    def _sync(self) -> bool:
        known = self._versions.current.bundle.revision
        with self._store.read() as connection:
            newest = catalogue.revision(connection)
            if newest == known:
                return False
            stored = [one for one in catalogue.since(connection, known) if self._is_usable(one)]
        kept = {one.item_id: one for one in self._that_fit(stored)}
        base = self._base_rows(kept)
        plan = _Plan([], self._rows(base, kept, self._stored), self._rows(base, kept, kept), kept)
        draft = self._draft(plan, newest)
        self._publish(draft, [self._with_codes(one, draft) for one in kept.values()])
        return True

    def _is_usable(self, stored: StoredItem) -> bool:
        """Whether an item can be made of it: the bundle has it, or all of it is stored."""
        return stored.item_id in self._base or stored.number is not None

    def _that_fit(self, stored: list[StoredItem]) -> list[StoredItem]:
        """Without the last of those that this bundle has no ID for."""
        known = self._versions.current.bundle.items.index
        new = [one.item_id for one in stored if one.item_id not in known]
        dropped = set(new[max(0, self.free_ids) :])
        if dropped:
            LOG.warning(
                "llmrec: warning: %d items of the store have no item ID in this bundle and are "
                "left out; train again with them",
                len(dropped),
            )
        return [one for one in stored if one.item_id not in dropped]

    def _plan(self, changes: Sequence[ItemChange]) -> _Plan:
        ids = list(dict.fromkeys(change.item_id for change in changes))
        base = self._base_rows(ids)
        plan = _Plan([], self._rows(base, ids, self._stored), {}, {})
        items, free = self._versions.current.bundle.items, self.free_ids
        number = max((one.number or 0 for one in self._stored.values()), default=0)
        for change in changes:
            item_id = change.item_id
            row = plan.rows.get(item_id, plan.before.get(item_id))
            was = plan.stored.get(item_id, self._stored.get(item_id))
            there = row is not None and not (was is not None and was.removed)
            outcome, fields = _outcome(change, row if there else None, base.get(item_id))
            is_new = was is None and item_id not in items.index
            if outcome == CREATED and is_new:
                free, number = free - 1, number + 1
                outcome = NO_ID if free < 0 else outcome
            plan.outcomes.append(outcome)
            if outcome in (UNCHANGED, NOT_FOUND, NO_ID):
                continue
            stored = was or StoredItem(item_id, 0, {}, number=number if is_new else None)
            plan.rows[item_id] = whole_row(item_id, fields)
            plan.stored[item_id] = replace(
                stored, fields=_own_fields(fields, base.get(item_id)), removed=outcome == REMOVED
            )
        return plan

    def _draft(self, plan: _Plan, revision: int) -> Draft:
        items, same = self._versions.current.bundle.items, same_content
        updates = [
            ItemUpdate(
                row,
                item_id not in items.index or not same(plan.before[item_id], row),
                plan.stored[item_id].codes if plan.stored[item_id].ids_of == self._model else None,
            )
            for item_id, row in plan.rows.items()
        ]
        return self._versions.draft(updates, self._removed(plan.stored.values()), revision)

    def _removed(self, stored: Iterable[StoredItem]) -> set[str]:
        every = self._stored | {one.item_id: one for one in stored}
        return {item_id for item_id, one in every.items() if one.removed}

    def _base_rows(self, item_ids: Iterable[str]) -> dict[str, Row]:
        """Rows of the bundle of those that it has."""
        known = [self._base[item_id] for item_id in item_ids if item_id in self._base]
        return {row["item_id"]: row for row in self._bundle_rows.read(known).values()}

    def _rows(
        self, base: Mapping[str, Row], item_ids: Iterable[str], stored: Mapping[str, StoredItem]
    ) -> dict[str, Row]:
        """Rows of those that are, or were, in the catalogue.

        Args:
            base: of the bundle.
            stored: what else is known.
        """
        return {
            item_id: base.get(item_id, whole_row(item_id, {}))
            | (stored[item_id].fields if item_id in stored else {})
            for item_id in item_ids
            if item_id in base or item_id in stored
        }

    def _with_codes(self, stored: StoredItem, draft: Draft) -> StoredItem:
        if stored.number is None:
            return stored
        return replace(stored, codes=draft.codes_of(stored.item_id), ids_of=self._model)

    def _keep(self, stored: Sequence[StoredItem], revision: int) -> bool:
        """Store items, unless another service changed the catalogue meanwhile."""
        with self._store.write() as connection:
            catalogue.lock(connection)
            if catalogue.revision(connection) != revision - 1:
                return False
            catalogue.put(connection, stored)
        return True

    def _publish(self, draft: Draft, stored: Sequence[StoredItem]) -> None:
        def switch() -> None:
            with self._live.switching(self._number) as use:
                version = self._versions.publish(draft)
                self._recommender.version = version
                use(version.bundle)

        # before: whoever sees the version may ask for its rows
        self._stored = self._stored | {one.item_id: one for one in stored}
        self.between(switch)


def _own_fields(row: Row, base: Row | None) -> Row:
    """What is kept of a row: of an item that the bundle has, what is other than there."""
    if base is None:
        return row
    return {name: value for name, value in row.items() if value != base[name]}


def _outcome(change: ItemChange, row: Row | None, base: Row | None) -> tuple[str, Row]:
    """What a change makes of a row, None for none, and the fields that it has then.

    Args:
        base: the bundle's row, None for none.
    """
    if change.fields is None:
        return (NOT_FOUND, {}) if row is None else (REMOVED, row)
    fields = with_own_files(change.fields, base)
    if row is None:
        if not change.whole:
            return NOT_FOUND, {}
        return CREATED, whole_row(change.item_id, {"available_from": time.time()} | fields)
    after = whole_row(change.item_id, fields if change.whole else row | fields)
    if change.whole and fields.get("available_from") is None:
        after["available_from"] = row["available_from"]  # it came when it came
    return (UNCHANGED if after == row else CHANGED), after
