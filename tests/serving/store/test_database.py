"""A store is made where it is missing, and says so when it is locked, full or gone."""

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import event

from llmrec.errors import ArtifactError, ConfigError
from llmrec.serving.store import events
from llmrec.serving.store.database import Store, StoreError, default_url
from llmrec.serving.store.events import StoredEvent


def a_view(number: int, user: str = "anna", **fields: object) -> StoredEvent:
    plain = {"item_id": "i1", "type": "view", "timestamp": 1.7e9 + number} | fields
    return StoredEvent(f"e{number}", user, **plain)  # type: ignore[arg-type]


def test_it_is_kept_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "store.sqlite"
    with Store(f"sqlite:///{path}") as store, store.write() as connection:
        assert events.add(connection, [a_view(2), a_view(1)]) == {"e1", "e2"}
        assert events.add(connection, [a_view(1)]) == set()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with Store(f"sqlite:///{path}") as store, store.read() as connection:
        rows = events.of_user(connection, "anna")
        assert [row.timestamp for row in rows] == [1.7e9 + 1, 1.7e9 + 2]
        assert len(events.of_user(connection, "anna", newest=1)) == 1
        assert events.of_user(connection, "anna", newest=1) == rows[-1:]


def test_a_transaction_is_written_whole_or_not(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as connection:
        events.add(connection, [a_view(1)])
        raise RuntimeError
    with store.read() as connection:
        assert events.of_user(connection, "anna") == []


def test_a_locked_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(f"sqlite:///{path}", busy_seconds=0.1) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"), store.write() as connection:
            events.add(connection, [a_view(1)])
        with store.read() as connection:  # reading goes on
            assert events.of_user(connection, "anna") == []
        other.close()
        with store.write() as connection:
            assert events.add(connection, [a_view(1)])


def test_a_full_disk(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        store.close()  # connections from now on find a disk of 300 KiB

        @event.listens_for(store._engine, "connect")
        def small(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute("PRAGMA max_page_count = 75").close()

        large = [a_view(row, text="x" * 1000) for row in range(1000)]
        with pytest.raises(StoreError, match="full"), store.write() as connection:
            events.add(connection, large)
        with store.read() as connection:
            assert events.of_user(connection, "anna") == []
        with store.write() as connection:  # what fits is stored
            assert events.add(connection, large[:1])


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "store.sqlite"
    with Store(f"sqlite:///{path}") as store:
        with pytest.raises(StoreError, match="is gone"), store.write() as connection:
            events.add(connection, [a_view(1)])
            path.unlink()  # SQLite itself would go on
            if replaced:
                path.touch()
        with pytest.raises(StoreError, match="is gone"), store.read():
            pass


def test_writers_wait_for_each_other(store: Store) -> None:
    def add(user: str) -> None:
        for row in range(10):
            with store.write() as connection:
                events.add(connection, [a_view(row, event_id=f"{user}{row}")])

    def a_view(row: int, event_id: str) -> StoredEvent:
        return StoredEvent(event_id, "anna", "view", 1.7e9, "i1")

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        assert events.counts(connection, "anna") == {"view": 40}


def test_a_newer_store(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    Store(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE llmrec_store SET value = '99'")
    connection.close()
    with pytest.raises(ArtifactError, match="has version 99"):
        Store(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("store.sqlite", "is no URL"),
        ("mysql://host/shop", "'mysql' is not served"),
        ("sqlite://", "needs a file"),
    ],
)
def test_a_wrong_url(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Store(url)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Not a directory|File exists"):
        Store(f"sqlite:///{tmp_path / 'file' / 'store.sqlite'}")


def test_a_password_is_not_shown() -> None:
    with pytest.raises(StoreError) as caught:
        Store("postgresql://anna:secret@127.0.0.1:1/shop", busy_seconds=1)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_the_usual_place(tmp_path: Path) -> None:
    assert default_url(tmp_path / "bundle").endswith("/bundle-state/store.sqlite")
    assert os.path.isabs(default_url(Path("bundle")).removeprefix("sqlite:///"))


def test_an_older_store(store: Store) -> None:
    with store.write() as connection:
        connection.exec_driver_sql("ALTER TABLE events DROP COLUMN revenue")
        connection.exec_driver_sql("UPDATE llmrec_store SET value = '1'")
        for name in ("exposures", "explored_lists"):
            connection.exec_driver_sql(f"DROP TABLE {name}")
    url = store._engine.url.render_as_string(hide_password=False)
    for _ in range(2):
        with Store(url) as again, again.write() as connection:
            events.add(connection, [a_view(1, revenue=2.5)])
            found = connection.exec_driver_sql("SELECT revenue FROM events").scalars().all()
            assert found == [2.5]
            assert connection.exec_driver_sql("SELECT * FROM exposures").all() == []
