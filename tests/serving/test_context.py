"""What moves the ranking of a click model over HTTP, beside what a person chose: the session, the
time of day, the device, the place and the membership.

The network has random weights, so each that it reads moves it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_service import LiveService, an_event, live_service

from llmrec.bench.random_shop import NOW, RandomShop

HOUR, DAY = 3600.0, 86400.0
NIGHT = NOW - NOW % DAY + 3 * HOUR


@pytest.fixture(scope="module")
def service(shop: RandomShop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    path = tmp_path_factory.mktemp("context") / "store.sqlite"
    with live_service(shop.bundle, path) as opened:
        yield opened


def probabilities(service: LiveService, **body: Any) -> dict[str, float]:
    """Of a click on each item of the list."""
    found = service.recommend(**{"n": 60, "now": NIGHT} | body)["recommendations"]
    return {one["item_id"]: one["p_click"] for one in found}


def moved(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two rankings differ in their order, and not in their items."""
    assert set(one) == set(other)
    return list(one) != list(other)


def history(times: list[float]) -> list[dict[str, Any]]:
    return [
        {"item_id": f"item-{item}", "type": "click", "timestamp": at}
        for item, at in zip((3, 9, 30), times, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("device", "mobile", "desktop"),
        ("place", "Oslo", "Lima"),
        ("membership", "none", "plus"),
    ],
)
def test_the_context_of_a_request(service: LiveService, name: str, one: str, other: str) -> None:
    ask: Callable[[str], dict[str, float]] = lambda value: probabilities(  # noqa: E731
        service, history=history([NIGHT - 9 * DAY] * 3), context={name: value}
    )
    assert ask(one) == ask(one)
    assert moved(ask(one), ask(other))


def test_the_time_of_day(service: LiveService) -> None:
    old = history([NIGHT - 40 * DAY] * 3)
    # the same age of everything, at another hour of the same weekday
    night, noon = (
        probabilities(
            service,
            history=history([at - 40 * DAY] * 3),
            now=at,
        )
        for at in (NIGHT, NIGHT + 9 * HOUR)
    )
    assert old and moved(night, noon)


def test_the_session_that_goes_on(service: LiveService) -> None:
    """The same items: all a month ago, or the last two of them within these ten minutes."""
    long_ago, now = (
        probabilities(service, history=history([NIGHT - 30 * DAY, *rest]))
        for rest in ([NIGHT - 29 * DAY, NIGHT - 28 * DAY], [NIGHT - 600, NIGHT - 60])
    )
    assert moved(long_ago, now)


def test_what_is_known_of_a_person_is_context_too(service: LiveService) -> None:
    """Events of the store are the session, the shop's word is place and membership."""
    items = (3, 9, 30)
    events = [
        an_event(row, "anna", f"item-{item}", timestamp=NIGHT - 600 + row)
        for row, item in enumerate(items)
    ]
    assert service.send(*events).json()["stored"] == 3
    plain = probabilities(service, user="anna")
    sent = [{"item_id": f"item-{item}", "type": "click", "timestamp": NIGHT - 600 + row}
            for row, item in enumerate(items)]  # fmt: skip
    assert plain == probabilities(service, history=sent)
    profile = {"profile": {"place": "Oslo"}, "membership": "plus"}
    assert service.client.put("/v1/users/anna", json=profile).status_code == 200
    told = probabilities(service, user="anna")
    assert moved(plain, told)
    context = {"place": "Oslo", "membership": "plus"}
    assert told == probabilities(service, history=sent, context=context)
    # what a request says of itself counts first
    elsewhere = probabilities(service, user="anna", context={"place": "Lima"})
    assert elsewhere == probabilities(service, history=sent, context=context | {"place": "Lima"})
