"""Opens a store and runs transactions on it: all of one is written, or nothing.

SQLite keeps a write-ahead log, so that reading goes on beside a write, and syncs it at each
commit: what was committed outlives a kill and a power failure.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from llmrec.errors import ArtifactError, ConfigError, LlmrecError, one_line, require
from llmrec.serving.store.tables import INFO, METADATA, MIGRATIONS, SCHEMA_VERSION

BUSY_SECONDS = 5.0  # that a transaction waits for another one
CONNECTIONS = 8  # kept open
MORE_CONNECTIONS = 56  # at most, beside those
_WRITES, _SYNCED = "llmrec_writes", "llmrec_synced"
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",  # who is forgotten stands in no free page either
)
_CREATION_LOCK = 0x6C6C6D726563  # of PostgreSQL's advisory locks: one process makes the tables


class StoreError(LlmrecError):
    """The store is locked, full or gone; nothing was written."""


class Store:
    """An opened database. Many threads may use one at once.

    Args:
        url: as SQLAlchemy has it: ``sqlite:////folder/store.sqlite`` or
            ``postgresql://user:password@host/database``. What is missing of an SQLite file, its
            folder and the tables is made.
        busy_seconds: that a transaction waits for another one.

    Raises:
        ConfigError: for a URL of another kind.
        ArtifactError: if a newer llmrec wrote it.
        StoreError: if it cannot be opened.
    """

    def __init__(self, url: str, busy_seconds: float = BUSY_SECONDS) -> None:
        self.busy_seconds = busy_seconds
        parsed = _parse(url)
        self.name = parsed.render_as_string(hide_password=True)
        self._path = _sqlite_path(parsed)
        if self._path is not None:
            _make_file(self._path)
        self._engine = _engine(parsed, busy_seconds)
        self._file = self._identity()
        with self.write() as connection:
            self._make_tables(connection)

    @contextmanager
    def write(self, *, synced: bool = True) -> Iterator[Connection]:
        """A transaction that writes; committed when the block ends without an error.

        Args:
            synced: False where the last moments before a power failure may be lost: a kill loses
                nothing, and no disk is waited for.

        Raises:
            StoreError: if it is locked, full or gone; nothing was written then.
        """
        with self._transaction(writes=True, synced=synced) as connection:
            if not synced and connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL synchronous_commit = off"))
            yield connection
        self._check_file()  # SQLite goes on writing to a file that was removed

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads.

        Raises:
            StoreError: if it is gone.
        """
        with self._transaction(writes=False) as connection:
            yield connection

    def check(self) -> None:
        """Check that it can be read.

        Raises:
            StoreError: if it cannot.
        """
        with self.read() as connection:
            connection.execute(select(1))

    def scrub(self) -> None:
        """Take what was removed out of SQLite's log of writes, where it would stand for a while.

        Of the pages of its file it is gone at once (``secure_delete``). PostgreSQL does as much
        when it vacuums and its own log comes round.

        Raises:
            StoreError: if it cannot be done now.
        """
        if self._path is not None:
            self._alone("PRAGMA wal_checkpoint(TRUNCATE)")

    def compact(self) -> None:
        """Give the room of what was removed back to the disk, with all that stood in it.

        Raises:
            StoreError: if it cannot be done now.
        """
        self._alone("VACUUM")
        self.scrub()

    def _alone(self, statement: str) -> None:
        """Run a statement outside of a transaction."""
        try:
            if self._path is None:
                with self._engine.connect() as connection:
                    connection.execution_options(isolation_level="AUTOCOMMIT")
                    connection.exec_driver_sql(statement)
            else:
                with closing(self._engine.raw_connection()) as own:
                    own.cursor().execute(statement)
        except (DBAPIError, PoolTimeoutError, sqlite3.Error) as error:
            raise StoreError(f"store {self.name}: {one_line(error)}") from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self, *, writes: bool, synced: bool = True) -> Iterator[Connection]:
        self._check_file()
        options = {_WRITES: writes, _SYNCED: synced}
        try:
            with (
                self._engine.connect().execution_options(**options) as connection,
                connection.begin(),
            ):
                yield connection
        except (DBAPIError, PoolTimeoutError, sqlite3.Error) as error:
            reason = one_line(getattr(error, "orig", None) or error)
            raise StoreError(f"store {self.name}: {reason}") from error

    def _identity(self) -> tuple[int, int] | None:
        """Device and inode of SQLite's file; None where there is none."""
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_file(self) -> None:
        if self._path is not None and (self._file is None or self._identity() != self._file):
            raise StoreError(f"store {self.name}: its file is gone; start the service again")

    def _make_tables(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})"))
        METADATA.create_all(connection)
        for table in METADATA.tables.values():  # of a store that is older than one of them
            for index in table.indexes:
                index.create(connection, checkfirst=True)
        found = connection.scalar(select(INFO.c.value).where(INFO.c.name == "schema_version"))
        if found is None:
            version = {"name": "schema_version", "value": str(SCHEMA_VERSION)}
            connection.execute(INFO.insert(), version)
        elif int(found) > SCHEMA_VERSION:
            raise ArtifactError(
                f"store {self.name}: has version {found}, this llmrec reads up to "
                f"{SCHEMA_VERSION}; install a newer llmrec"
            )
        elif int(found) < SCHEMA_VERSION:
            for older in range(int(found), SCHEMA_VERSION):
                for statement in MIGRATIONS[older]:
                    connection.execute(text(statement))
            named = INFO.c.name == "schema_version"
            connection.execute(INFO.update().where(named), {"value": str(SCHEMA_VERSION)})


def default_url(bundle: Path) -> str:
    """The store of a bundle's service where none is named: an SQLite file in a folder beside it.

    It stays where it is when another version of the bundle takes its place.

    >>> default_url(Path("/shop/bundle"))
    'sqlite:////shop/bundle-state/store.sqlite'
    """
    folder = bundle.absolute()
    return f"sqlite:///{folder.with_name(f'{folder.name}-state') / 'store.sqlite'}"


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "--store: is no URL; write sqlite:////folder/store.sqlite or postgresql://host/database"
        ) from None
    kind = parsed.drivername.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        require("psycopg", "postgresql")
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise ConfigError(f"--store: {kind!r} is not served; there is sqlite and postgresql")
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError("--store: sqlite needs a file, such as sqlite:////folder/store.sqlite")
    return parsed.set(drivername="sqlite")


def _sqlite_path(url: URL) -> Path | None:
    return Path(str(url.database)).absolute() if url.drivername == "sqlite" else None


def _make_file(path: Path) -> None:
    """An empty file that its owner alone may read, where there is none.

    Raises:
        StoreError: if it cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(f"store {path}: {error.strerror}") from None


def _engine(url: URL, busy_seconds: float) -> Engine:
    pool: dict[str, Any] = {
        "pool_size": CONNECTIONS,
        "max_overflow": MORE_CONNECTIONS,
        "pool_timeout": busy_seconds,
    }
    if url.drivername == "sqlite":
        engine = create_engine(url, connect_args={"timeout": busy_seconds}, **pool)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    waits = round(busy_seconds * 1000)
    options = f"-c lock_timeout={waits} -c statement_timeout={4 * waits}"
    connect = {"connect_timeout": max(1, round(busy_seconds)), "options": options}
    return create_engine(url, connect_args=connect, pool_pre_ping=True, **pool)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, see _begin_sqlite
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # a transaction that began by reading could not wait for another one's end to write
    options, own = connection.get_execution_options(), connection.connection
    writes, synced = options.get(_WRITES), options.get(_SYNCED)
    driver: Any = own.dbapi_connection  # at each transaction, so without SQLAlchemy's detours
    if writes and own.info.get(_SYNCED, True) != synced:
        # the log of writes is synced by whoever commits next to it
        driver.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
        own.info[_SYNCED] = synced
    driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
