"""The history cache changes what is read, never what is answered."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import random_semantic_ids, tiny_llm

from llmrec.errors import ConfigError
from llmrec.generation.history_cache import BLOCK, HistoryCache
from llmrec.generation.llm import AtomicLlm, Llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.types import Histories, Ranking

N_ITEMS, MAX_ITEMS = 30, 20
KINDS: dict[str, dict[str, Any]] = {
    "atomic": {"ids": ItemIds.atomic(N_ITEMS, spare=4)},
    "atomic with times": {"ids": ItemIds.atomic(N_ITEMS), "time_fields": ("gap", "hour")},
    "semantic": {"ids": random_semantic_ids(N_ITEMS, (4, 5, 6))},
    "semantic with times": {
        "ids": random_semantic_ids(N_ITEMS, (4, 5, 6)),
        "time_fields": ("gap", "weekday"),
    },
}
TOKEN_BYTES = 2 * 2 * 2 * 8 * 4  # layers, keys and values, their heads, head width, float32


def make_llm(kind: str, cache: HistoryCache | None = None) -> Llm:
    llm = tiny_llm(**KINDS[kind], max_items=MAX_ITEMS, beams=5)
    llm.cache = cache
    return llm


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[Llm, ...]:
    """The same recommender without and with a cache."""
    return make_llm(request.param), make_llm(request.param)


def histories_of(rows: list[list[int]], drift: float = 0.0) -> Histories:
    """Events an hour apart; ``drift`` is when the request is made, seconds after the last."""
    times = [[1.6e9 + 3600.0 * event for event in range(len(row))] for row in rows]
    now = [1.6e9 + 3600.0 * len(row) + drift for row in rows]
    return Histories.from_lists(rows, times, now)


def check_same(found: Ranking, expected: Ranking) -> None:
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-4)


def check_sums(cache: HistoryCache) -> None:
    """The metrics are true of the entries, and within the bound."""
    entries = list(cache._entries.values())
    metrics = cache.metrics
    assert metrics["entries"] == len(entries)
    assert metrics["bytes"] == sum(entry.memory.nbytes for entry in entries)
    assert metrics["bytes"] >= sum(len(entry.tokens) * TOKEN_BYTES for entry in entries)
    assert metrics["bytes"] <= sum(len(entry.tokens) * TOKEN_BYTES * 1.25 for entry in entries)
    assert metrics["bytes"] <= cache.max_bytes
    assert set(cache._by_block.values()) <= set(cache._entries)


@st.composite
def visits(draw: st.DrawFn) -> list[list[list[int]]]:
    """Requests of a few people each: histories grow, start anew, lose their end, or come again."""
    item = st.integers(0, N_ITEMS - 1)
    people: list[list[int]] = [[] for _ in range(3)]
    requests = []
    for _ in range(draw(st.integers(1, 6))):
        batch = []
        for person in draw(st.lists(st.integers(0, 2), min_size=1, max_size=3)):
            what = draw(st.sampled_from(["grow", "grow", "again", "other end", "other person"]))
            history = people[person]
            if what == "other end":
                history = history[: draw(st.integers(0, len(history)))]
            if what == "other person":
                history = people[(person + 1) % 3]
            if what != "again":
                history = history + draw(st.lists(item, min_size=1, max_size=12))
            people[person] = history
            batch.append(history)
        requests.append(batch)
    return requests


@given(requests=visits(), tokens=st.sampled_from([20, 70, 150, 1000]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_answers_are_the_same_and_the_bound_holds(
    pair: tuple[Llm, ...], requests: list[list[list[int]]], tokens: int
) -> None:
    plain, cached = pair
    cache = cached.cache = HistoryCache(tokens * TOKEN_BYTES)
    requests_made = prompted = 0
    for step, rows in enumerate(requests):
        histories = histories_of(rows, drift=1000.0 * step)
        check_same(cached.recommend(histories, 4), plain.recommend(histories, 4))
        check_sums(cache)
        requests_made += len(rows)
        prompted += sum(map(len, plain.prompts(histories)))
    metrics = cache.metrics
    assert metrics["hits"] + metrics["misses"] == requests_made
    assert metrics["tokens_read"] + metrics["tokens_reused"] == prompted


def test_every_way_to_ask_gives_the_same(pair: tuple[Llm, ...]) -> None:
    plain, cached = pair
    cached.cache = HistoryCache(2**20)
    rng = np.random.default_rng(0)
    histories = histories_of([rng.integers(0, N_ITEMS, length).tolist() for length in (15, 9, 18)])
    candidates = np.stack([rng.permutation(N_ITEMS)[:6] for _ in range(3)])
    cached.recommend(histories, 3)
    np.testing.assert_allclose(
        cached.score_items(histories, candidates),
        plain.score_items(histories, candidates),
        atol=2e-4,
    )
    if isinstance(plain, AtomicLlm) and isinstance(cached, AtomicLlm):
        np.testing.assert_allclose(cached.score(histories), plain.score(histories), atol=2e-4)
    assert cached.cache.metrics["hits"] >= 3


def test_one_more_event_reads_its_own_tokens(pair: tuple[Llm, ...]) -> None:
    _, llm = pair
    cache = llm.cache = HistoryCache(2**20)
    history = np.random.default_rng(1).integers(0, N_ITEMS, 15).tolist()
    llm.recommend(histories_of([history]), 3)
    before = cache.metrics
    assert before["tokens_read"] == len(llm.prompts(histories_of([history]))[0])
    llm.recommend(histories_of([[*history, 7]]), 3)
    request_tokens = len(llm.encoder.vocabulary.time_fields)
    read = cache.metrics["tokens_read"] - before["tokens_read"]
    # The event and the time tokens of the request. The gap of the event is the first of the old
    # ones; where they differ that is all, and without any the last token has been read already.
    assert read <= llm.encoder.event_width + request_tokens
    assert cache.metrics["hits"] == 1
    assert cache.metrics["entries"] == 1, "the longer history takes the shorter one's place"


def test_the_same_request_again_reads_its_last_token() -> None:
    llm = make_llm("semantic", HistoryCache(2**20))
    histories = histories_of([list(range(15))])
    first = llm.recommend(histories, 3)
    assert llm.cache is not None
    before = llm.cache.metrics["tokens_read"]
    check_same(llm.recommend(histories, 3), first)
    assert llm.cache.metrics["tokens_read"] == before + 1


def read(cache: HistoryCache, llm: Llm, *prompts: np.ndarray) -> torch.Tensor:
    return cache.prefill(llm.engine, list(prompts), 0).hidden


def random_prompts(llm: Llm, *lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, llm.engine.vocabulary.size, length) for length in lengths]


def kept_in(cache: HistoryCache) -> set[bytes]:
    return {entry.tokens.tobytes() for entry in cache._entries.values()}


def test_what_was_used_longest_ago_makes_room() -> None:
    llm = make_llm("semantic")
    cache = HistoryCache(100 * TOKEN_BYTES)
    first, second, third, fourth = random_prompts(llm, 30, 30, 30, 40)
    read(cache, llm, first)
    read(cache, llm, second)
    read(cache, llm, third)
    read(cache, llm, first)  # now the second is the oldest
    read(cache, llm, fourth)
    assert cache.metrics["evictions"] == 1
    assert cache.metrics["entries"] == 3
    assert kept_in(cache) == {prompt.tobytes() for prompt in (first, third, fourth)}
    hits = cache.metrics["hits"]
    read(cache, llm, second)
    assert cache.metrics["hits"] == hits
    check_sums(cache)


def test_what_another_history_went_on_from_has_been_used() -> None:
    llm = make_llm("semantic")
    cache = HistoryCache(100 * TOKEN_BYTES)
    first, second, third, end = random_prompts(llm, 30, 30, 30, 20)
    branch = np.concatenate([first[:16], end])
    for prompt in (first, second, branch, third):
        read(cache, llm, prompt)
    assert kept_in(cache) == {prompt.tobytes() for prompt in (first, branch, third)}


def test_what_is_driven_out_takes_nothing_along() -> None:
    llm = make_llm("semantic")
    cache = HistoryCache(100 * TOKEN_BYTES)
    first, end, third, other_end = random_prompts(llm, 40, 24, 40, 10)
    branch = np.concatenate([first[:16], end])
    for prompt in (first, branch, third):
        read(cache, llm, prompt)
    assert kept_in(cache) == {branch.tobytes(), third.tobytes()}
    reused = cache.metrics["tokens_reused"]
    read(cache, llm, np.concatenate([branch[:16], other_end]))
    assert cache.metrics["tokens_reused"] == reused + 16


def test_a_shorter_history_leaves_the_longer_one_in_place() -> None:
    llm = make_llm("semantic")
    cache = HistoryCache(2**20)
    (long,) = random_prompts(llm, 60)
    read(cache, llm, long)
    read(cache, llm, long[:32])
    assert kept_in(cache) == {long.tobytes(), long[:32].tobytes()}
    reused = cache.metrics["tokens_reused"]
    read(cache, llm, long)
    assert cache.metrics["tokens_reused"] == reused + 59


def test_what_is_larger_than_the_bound_is_not_kept_and_drives_nothing_out() -> None:
    llm = make_llm("semantic")
    cache = HistoryCache(50 * TOKEN_BYTES)
    small, large = random_prompts(llm, 40, 60)
    read(cache, llm, small)
    read(cache, llm, large)
    assert cache.metrics["entries"] == 1
    assert cache.metrics["evictions"] == 0
    grown = np.concatenate([small, large[:20]])  # goes on from the entry, but cannot replace it
    read(cache, llm, grown)
    assert kept_in(cache) == {small.tobytes()}
    check_sums(cache)


def test_less_than_a_block_is_not_kept() -> None:
    llm = make_llm("semantic")
    cache = HistoryCache(2**20)
    short, enough = random_prompts(llm, BLOCK - 1, BLOCK)
    read(cache, llm, short)
    assert cache.metrics["entries"] == 0
    read(cache, llm, enough)
    assert cache.metrics["entries"] == 1


@pytest.mark.parametrize("shared", [16, 17, 31, 32, 40])
def test_histories_that_part_ways_do_not_mix(shared: int) -> None:
    """Both go on from what they share, in either order, and again after each other."""
    llm = make_llm("semantic")
    cache = HistoryCache(2**20)
    one, other = random_prompts(llm, 60, 50)
    other[:shared] = one[:shared]
    other[shared] = (one[shared] + 1) % llm.engine.vocabulary.size
    for prompt in (one, other, one, other[:45], one[:42], other):
        expected = make_llm("semantic").engine.prefill(
            torch.from_numpy(prompt)[None], torch.ones(1, len(prompt), dtype=torch.bool)
        )
        torch.testing.assert_close(read(cache, llm, prompt), expected.hidden, atol=1e-4, rtol=1e-4)
        check_sums(cache)
    assert cache.metrics["tokens_reused"] >= shared


def test_the_same_prompt_twice_in_a_batch_is_kept_once() -> None:
    llm = make_llm("semantic")
    cache = HistoryCache(2**20)
    prompt, other = random_prompts(llm, 30, 50)
    hidden = read(cache, llm, prompt, other, prompt)
    torch.testing.assert_close(hidden[0], hidden[2])
    assert cache.metrics["entries"] == 2
    check_sums(cache)


def test_what_is_read_is_not_changed_by_what_beams_say_later() -> None:
    llm = make_llm("semantic", HistoryCache(2**20))
    histories = histories_of([list(range(18))])
    answers = [llm.recommend(histories, 3, exclude_history=e) for e in (True, False, True)]
    check_same(answers[2], answers[0])


def test_a_changed_catalogue_goes_on_with_what_was_read() -> None:
    llm = make_llm("semantic", HistoryCache(2**20))
    histories = histories_of([list(range(15))])
    llm.recommend(histories, 3)
    available = np.arange(N_ITEMS) >= 5
    changed = llm.with_items(llm.ids, available)
    found = changed.recommend(histories, 3)
    assert llm.cache is not None
    assert llm.cache.metrics["hits"] == 1
    check_same(found, make_llm("semantic").with_items(llm.ids, available).recommend(histories, 3))


def test_several_threads_get_their_own_answers() -> None:
    llm, plain = make_llm("semantic"), make_llm("semantic")
    llm.cache = HistoryCache(200 * TOKEN_BYTES)  # so small that entries are driven out all along
    rng = np.random.default_rng(5)
    common = rng.integers(0, N_ITEMS, 8).tolist()
    rows = [[*common, *rng.integers(0, N_ITEMS, 6 + n).tolist()] for n in range(6)]
    expected = {n: plain.recommend(histories_of([row]), 4) for n, row in enumerate(rows)}
    wrong: list[str] = []

    def visit(offset: int) -> None:
        for step in range(12):
            n = (offset + step * (offset + 1)) % len(rows)
            try:
                check_same(llm.recommend(histories_of([rows[n]]), 4), expected[n])
            except BaseException as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=visit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    check_sums(llm.cache)
    assert llm.cache.metrics["hits"] + llm.cache.metrics["misses"] == 4 * 12


@pytest.mark.parametrize("size", [0, -5])
def test_no_bytes_are_no_cache(size: int) -> None:
    with pytest.raises(ConfigError, match=f"history cache: {size} bytes are not a size"):
        HistoryCache(size)
