"""Two services over one store: each counts what the other took in, and forgets whom it forgot."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live_service import LiveService, an_event, live_service
from tiny_shop import TinyRun

from llmrec.serving import live
from llmrec.serving.catalogue import following


@pytest.fixture
def two(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LiveService, LiveService]]:
    monkeypatch.setattr(following, "EVERY_SECONDS", 1e6)  # the test says when
    path, folder = tmp_path / "store.sqlite", tiny_run.bundle("atomic")
    with live_service(folder, path) as one, live_service(folder, path) as other:
        yield one, other


def test_what_another_took_in_is_counted_once(
    two: tuple[LiveService, LiveService], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    items, before = one.bundle.item_ids, one.edges()
    one.send(*(an_event(n, "anna", items[n]) for n in range(4)))
    other.send(*(an_event(10 + n, "bob", items[20 + n]) for n in range(3)))
    assert (one.edges() != other.edges()).any()
    for _ in range(2):  # the second look finds nothing
        for service in two:
            service.live.follow()
        np.testing.assert_array_equal(one.edges(), other.edges())
    one.send(an_event(5, "bob", items[7]))  # of somebody whom the other began to count
    other.live.follow()
    np.testing.assert_array_equal(one.edges(), other.edges())
    for user in ("anna", "bob"):
        assert one.client.delete(f"/v1/users/{user}").status_code == 200
    np.testing.assert_array_equal(one.edges(), before)
    other.live.follow()
    assert (other.edges() != before).any()  # who is gone is looked for now and then
    monkeypatch.setattr(live, "FORGOTTEN_SECONDS", 0.0)
    other.live.follow()
    np.testing.assert_array_equal(other.edges(), before)


def test_what_is_remembered_of_events_is_bounded(
    two: tuple[LiveService, LiveService], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    monkeypatch.setattr(live, "OVERLAP", 2)
    items = one.bundle.item_ids
    for start in range(0, 40, 10):
        one.send(*(an_event(n, f"u{n % 3}", items[n]) for n in range(start, start + 10)))
        other.live.follow()
    assert len(one.live._counted) == len(other.live._counted) == 8
    np.testing.assert_array_equal(one.edges(), other.edges())
