"""Beam search: what it promises about its answer, against asking the model about every item."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    ATOL,
    World,
    allowed_items,
    check_answer,
    check_best,
    constrained_worlds,
    every_id,
    make_world,
    scorings,
)

from llmrec.errors import ConfigError, LlmrecError
from llmrec.generation.beam_search import SearchOptions, check_scores, decode_slots
from llmrec.generation.constraints import Constraints
from llmrec.generation.frontier import Scoring

SIZES = (5, 6, 4)


def large_world(seed: int = 0) -> World:
    """A catalogue that a narrow beam cannot see all of."""
    return make_world(every_id(SIZES), SIZES, (3, 5, 8, 4, 6, 7, 9, 2), seed)


@given(
    case=constrained_worlds(),
    scoring=scorings(),
    beams=st.integers(1, 3),
    n=st.integers(1, 5),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_it_never_calls_an_answer_exact_that_is_not(
    case: tuple[World, list[Constraints]], scoring: Scoring, beams: int, n: int
) -> None:
    world, requests = case
    options = SearchOptions(beams, scoring.normalise, scoring.temperature)
    found = world.search(n, options, requests)
    for user, (request, truth) in enumerate(zip(requests, world.truth(scoring), strict=True)):
        allowed = allowed_items(request, world.n_items)
        check_answer(found.items[user], found.scores[user], truth, allowed)
        if found.exact[user]:
            check_best(found, user, truth, allowed)


@pytest.mark.parametrize("beams", [1, 2])
def test_it_calls_some_answers_exact_and_some_not(beams: int) -> None:
    """Many people, so that some of them are right at the edge between the two."""
    world = make_world(every_id((6, 5)), (6, 5), [3] * 400)
    found = world.search(1, SearchOptions(beams=beams))
    right = (found.scores[:, 0] - world.truth().amax(1)).abs() < ATOL
    assert right[found.exact].all()
    assert not right.all(), "the example is too easy: a narrow beam never misses the best"
    assert 0.2 < found.exact.float().mean() < right.float().mean()


def test_beams_for_all_prefixes_are_always_exact() -> None:
    assert large_world().search(3, SearchOptions(beams=30)).exact.all()


@pytest.mark.parametrize("beams", [1, 5, 6, 500])
@pytest.mark.parametrize("n", [1, 120, 121, 400])
def test_any_width_and_any_number_of_items(beams: int, n: int) -> None:
    world = large_world()
    found = world.search(n, SearchOptions(beams=beams))
    assert found.items.shape == found.scores.shape == (8, n)
    for user, truth in enumerate(world.truth()):
        check_answer(found.items[user], found.scores[user], truth, list(range(120)))
        if max(beams, n) >= 30:
            check_best(found, user, truth, list(range(120)))


def test_a_request_for_more_items_widens_the_beam() -> None:
    world = large_world()
    wide = world.search(7, SearchOptions(beams=7))
    widened = world.search(7, SearchOptions(beams=2))
    assert torch.equal(wide.items, widened.items)


def test_room_is_what_beams_say_before_the_last_level() -> None:
    trie = large_world().trie
    assert decode_slots(trie, 3) == 3 + 3
    assert decode_slots(trie, 10) == 5 + 10
    assert decode_slots(trie, 1000) == 5 + 30


@given(
    case=constrained_worlds(),
    beams=st.integers(1, 8),
    groups=st.integers(1, 8),
    diversity=st.sampled_from([0.0, 0.5, 1e4]),
    n=st.integers(1, 12),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_diverse_lists_are_full_and_hold_no_item_twice(
    case: tuple[World, list[Constraints]], beams: int, groups: int, diversity: float, n: int
) -> None:
    world, requests = case
    options = SearchOptions(beams, groups=min(groups, beams), diversity=diversity)
    found = world.search(n, options, requests)
    for user, (request, truth) in enumerate(zip(requests, world.truth(), strict=True)):
        allowed = allowed_items(request, world.n_items)
        check_answer(found.items[user], found.scores[user], truth, allowed)
        assert options.groups == 1 or not found.exact[user]


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_groups_that_pay_nothing_are_plain_beam_search(groups: int) -> None:
    world = large_world()
    plain = world.search(5, SearchOptions(beams=7))
    grouped = world.search(5, SearchOptions(beams=7, groups=groups, diversity=0.0))
    assert torch.equal(plain.items, grouped.items)
    assert torch.equal(plain.scores, grouped.scores)


def test_a_high_price_gives_every_group_a_first_code_of_its_own() -> None:
    world = large_world()

    def first_codes(options: SearchOptions) -> list[int]:
        items = world.search(5, options).items
        return [len({int(world.codes[item, 0]) for item in row}) for row in items]

    plain = first_codes(SearchOptions(beams=10))
    little = first_codes(SearchOptions(beams=10, groups=5, diversity=1.0))
    assert sum(plain) < sum(little) < 40
    assert first_codes(SearchOptions(beams=10, groups=5, diversity=1e4)) == [5] * 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beams": 0}, "beams: must be 1 or more, got 0"),
        ({"normalise": "softmax"}, "normalise: 'softmax' is neither"),
        ({"temperature": 0.0}, r"temperature: must be in \[0.001, 1000\], got 0.0"),
        ({"temperature": -1.0}, "temperature: .* got -1.0"),
        ({"temperature": 2000.0}, "temperature: .* got 2000.0"),
        ({"temperature": float("nan")}, "temperature: .* got nan"),
        ({"groups": 0}, "groups: 0 is not between 1 and 50 beams"),
        ({"beams": 4, "groups": 5}, "groups: 5 is not between 1 and 4 beams"),
        ({"diversity": -0.1}, "diversity: must be 0 or more, got -0.1"),
        ({"diversity": float("nan")}, "diversity: .* got nan"),
        ({"diversity": float("inf")}, "diversity: .* got inf"),
        ({"exact": True, "groups": 2}, "exact: the best items cannot be diverse"),
    ],
)
def test_options_without_sense_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchOptions(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error(value: float) -> None:
    check_scores(torch.tensor([[0.0, float("-inf")]]))
    with pytest.raises(LlmrecError, match="not finite"):
        check_scores(torch.tensor([[0.0, value]]))
