"""Requests that come at once are answered together, each with its own answer."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from llmrec.serving import batching
from llmrec.serving.batching import Batcher, BusyError, ClientGoneError, DeadlineError


class Slow:
    """Doubles numbers while it may; keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        self.begun.set()
        assert self.may_go_on.wait(30)
        return [ValueError("seven") if n == 7 else 2 * n for n in numbers]


def run(
    test: Callable[[Slow, Batcher[int, int]], Coroutine[Any, Any, None]], **settings: Any
) -> Slow:
    """Run a test with a batcher whose first batch, of a 0, is under way."""
    slow = Slow()
    batcher: Batcher[int, int] = Batcher(slow, wait_seconds=0, **settings)

    async def whole() -> None:
        first = asyncio.create_task(batcher.ask(0, 30))
        await asyncio.to_thread(slow.begun.wait, 30)
        await test(slow, batcher)
        slow.may_go_on.set()
        assert await first == 0

    asyncio.run(whole())
    batcher.close()
    assert not batcher.is_alive
    return slow


def ask_all(batcher: Batcher[int, int], numbers: Sequence[int]) -> "asyncio.Future[list[Any]]":
    tasks = [asyncio.create_task(batcher.ask(n, 30)) for n in numbers]
    return asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_is_joined_and_a_failure_is_its_own() -> None:
    sizes: list[int] = []

    async def test(slow: Slow, batcher: Batcher[int, int]) -> None:
        answers = ask_all(batcher, [1, 7, 3, 4, 5])
        await asyncio.sleep(0)
        assert batcher.queued == 5
        slow.may_go_on.set()
        first, seven, *others = await answers
        assert (first, others) == (2, [6, 8, 10])
        assert isinstance(seven, ValueError)

    slow = run(test, most=4, observe=sizes.append)
    assert slow.batches == [[0], [1, 7, 3, 4], [5]]
    assert sizes == [1, 4, 1]


def test_the_first_waits_for_others() -> None:
    batcher: Batcher[int, int] = Batcher(list, wait_seconds=10, most=3)

    async def three() -> list[int]:
        return await asyncio.gather(*(batcher.ask(n, 30) for n in range(3)))

    assert asyncio.run(three()) == [0, 1, 2]
    batcher.close()


def test_a_full_queue_refuses() -> None:
    async def test(_slow: Slow, batcher: Batcher[int, int]) -> None:
        answers = ask_all(batcher, [1, 2])
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as caught:
            await batcher.ask(3, 30)
        assert caught.value.retry_after >= 1
        _slow.may_go_on.set()
        assert await answers == [2, 4]

    assert run(test, waiting=2).batches == [[0], [1, 2]]


def test_what_nobody_waits_for_is_not_begun() -> None:
    async def test(_slow: Slow, batcher: Batcher[int, int]) -> None:
        with pytest.raises(DeadlineError, match="within 10 ms"):
            await batcher.ask(1, 0.01)

    assert run(test).batches == [[0]]


def test_what_somebody_left_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LOOK_SECONDS", 0.01)
    looks = iter([False, False, True])

    async def gone() -> bool:
        return next(looks)

    async def test(_slow: Slow, batcher: Batcher[int, int]) -> None:
        with pytest.raises(ClientGoneError):
            await batcher.ask(1, 30, gone)

    assert run(test).batches == [[0]]


def test_who_asks_alone_does_not_wait() -> None:
    batcher: Batcher[int, int] = Batcher(list, wait_seconds=0.3)

    async def one_by_one() -> None:
        await batcher.ask(1, 30)  # the first of all waits
        started = time.monotonic()
        for n in range(5):
            await batcher.ask(n, 30)
        assert time.monotonic() - started < 0.3

    asyncio.run(one_by_one())
    batcher.close()


def test_a_function_runs_between_batches() -> None:
    done: list[int] = []

    async def test(slow: Slow, batcher: Batcher[int, int]) -> None:
        before = ask_all(batcher, [1, 2])
        await asyncio.sleep(0)
        function = asyncio.create_task(batcher.between(lambda: done.append(len(slow.batches))))
        await asyncio.sleep(0)
        after = ask_all(batcher, [3])
        await asyncio.sleep(0)
        assert done == []
        slow.may_go_on.set()
        await asyncio.gather(before, function, after)

    assert run(test).batches == [[0], [1, 2], [3]]
    assert done == [2]


def test_a_batch_that_fails_whole() -> None:
    def broken(_numbers: Sequence[int]) -> list[int]:
        raise RuntimeError("broken")

    batcher: Batcher[int, int] = Batcher(broken)
    for _ in range(2):  # the thread lives on
        with pytest.raises(RuntimeError, match="broken"):
            asyncio.run(batcher.ask(1, 30))
    batcher.close()


def test_a_thread_is_answered_or_gives_up() -> None:
    going_on = threading.Event()

    def answer(questions: Sequence[int]) -> list[int]:
        going_on.wait(30)
        return [2 * question for question in questions]

    batcher: Batcher[int, int] = Batcher(answer, waiting=2)
    with pytest.raises(DeadlineError, match="no answer within 10 ms"):
        batcher.ask_from_thread(1, 0.01)
    going_on.set()
    assert batcher.ask_from_thread(3, 60) == 6
    batcher.close()
