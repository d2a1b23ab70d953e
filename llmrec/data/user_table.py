"""Users while ``ingest`` runs: a file about them -> ``users.parquet``.

What is known of a user is kept as ``name=value`` texts, as attributes of items are, for the users
of the log alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data import raw_files
from llmrec.data.columns import identifiers, known_as
from llmrec.data.raw_files import Chunk, files_at
from llmrec.data.reading import Reading
from llmrec.data.settings import IngestConfig
from llmrec.data.source import USER_FIELDS, Source
from llmrec.errors import DataError


def with_users(source: Source, config: IngestConfig) -> Source:
    """A source with the files about users that the settings name.

    Raises:
        DataError: if there are none.
    """
    assert config.users is not None
    files, reading = files_at(config.users), Reading(config.user_reading)
    return replace(
        source,
        files=[*source.files, *files],
        users=lambda: chain.from_iterable(_chunks(path, config, reading) for path in files),
        user_reading=reading,
    )


def _chunks(path: Path, config: IngestConfig, reading: Reading) -> Iterator[Chunk]:
    """``user_id`` and a column for each thing that is kept."""
    theirs = {name: name for name in USER_FIELDS} | config.user_columns
    required = {theirs["user_id"]: "name the column in user_columns: {user_id: ...}"}
    required |= dict.fromkeys(config.user_columns.values(), "correct user_columns")
    for chunk in raw_files.chunks(path, list(theirs.values()), required, reading):
        yield chunk.named(theirs)


class UserAttributes:
    """What a file says of the users of a log.

    Attributes:
        pairs: ``name=value`` texts by the user's identifier.
        counts: how many users the file has and the log has not, and the other way round.
    """

    def __init__(
        self, chunks: Iterable[Chunk], users: Mapping[str, int], missing: Sequence[str]
    ) -> None:
        """
        Args:
            chunks: ``user_id`` and a column for each thing that is known.
            users: code of every user of the log.
            missing: what stands for "not known".

        Raises:
            DataError: for a repeated identifier; if nothing is said of any user of the log.
        """
        self._missing = missing
        self.pairs: dict[str, list[str]] = {}
        self._others: set[str] = set()
        self._nameless = 0
        known: dict[str, None] = {}
        for chunk in chunks:
            known |= dict.fromkeys(chunk.columns)
            self._add(chunk, users)
        if not self.pairs:
            raise DataError(
                f"users: none of the {len(self._others)} users described, such as "
                f"{min(self._others, default='')!r}, is in the log, which has "
                f"{next(iter(users), '')!r}; check user_columns: {{user_id: ...}}"
            )
        if not any(self.pairs.values()):
            raise DataError(
                f"users: nothing is known of any user of the log (read are {', '.join(known)}); "
                "name what to keep in user_columns, such as {membership: plan}"
            )
        self.counts = {
            "users_not_in_log": len(self._others),
            "users_not_described": len(users) - len(self.pairs),
            "users_without_id": self._nameless,
        }

    def _add(self, chunk: Chunk, users: Mapping[str, int]) -> None:
        known = {
            name.replace("=", "_"): identifiers(column, self._missing).to_pylist()
            for name, column in chunk.columns.items()
        }
        user_ids = known.pop("user_id")
        for at, user_id in enumerate(user_ids):
            if user_id is None:
                self._nameless += 1
                continue
            user_id = known_as(user_id, users)
            if user_id in self.pairs or user_id in self._others:
                raise DataError(
                    f"{chunk.path}: row {chunk.rows[at]}: user_id {user_id!r} occurs a second "
                    "time; remove one row"
                )
            if user_id in users:
                values = ((name, column[at]) for name, column in known.items())
                self.pairs[user_id] = [f"{name}={v}" for name, v in values if v is not None]
            else:
                self._others.add(user_id)


def write_users(path: Path, names: Sequence[str], described: UserAttributes | None) -> None:
    """Write ``users.parquet``: the users in their order, with what is known of them."""
    columns = {"user_id": pa.array(names, pa.string())}
    if described is not None:
        pairs = [described.pairs.get(name, []) for name in names]
        columns["attributes"] = pa.array(pairs, pa.list_(pa.string()))
    pq.write_table(pa.table(columns), path)
