"""Exact search is scoring the whole catalogue and sorting."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    World,
    allowed_items,
    check_best,
    constrained_worlds,
    every_id,
    make_world,
    scorings,
)

from llmrec.errors import LlmrecError
from llmrec.generation import exact_search as exact_module
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.constraints import Constraints
from llmrec.generation.engine import TorchEngine
from llmrec.generation.exact_search import exact_search
from llmrec.generation.frontier import Scoring

SIZES = (5, 6, 4)


def with_model(world: World, model: Any) -> World:
    engine = TorchEngine(model, world.engine.vocabulary)
    return replace(world, make_engine=lambda: engine)


@pytest.mark.parametrize("chunk", [2, 256])
@given(
    case=constrained_worlds(),
    scoring=scorings(),
    beams=st.integers(1, 3),
    n=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_it_finds_the_best_items_that_are_allowed(
    case: tuple[World, list[Constraints]], scoring: Scoring, beams: int, n: int, chunk: int
) -> None:
    world, requests = case
    options = SearchOptions(beams, scoring.normalise, scoring.temperature, exact=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_module, "CHUNK", chunk)
        found = world.search(n, options, requests, exact_search)
    assert found.exact.all()
    for user, (request, truth) in enumerate(zip(requests, world.truth(scoring), strict=True)):
        check_best(found, user, truth, allowed_items(request, world.n_items))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [3, 256])
def test_it_finds_what_a_narrow_beam_misses(
    monkeypatch: pytest.MonkeyPatch, chunk: int, seed: int
) -> None:
    monkeypatch.setattr(exact_module, "CHUNK", chunk)
    world = make_world(every_id(SIZES), SIZES, (3, 5, 8, 4, 6, 7, 9, 2), seed)
    narrow = world.search(4, SearchOptions(beams=4))
    assert not narrow.exact.all(), "the example is too easy: nothing to look beneath"
    found = world.search(4, SearchOptions(beams=4), how=exact_search)
    for user, truth in enumerate(world.truth()):
        check_best(found, user, truth, list(range(world.n_items)))
    assert torch.equal(found.items[narrow.exact], narrow.items[narrow.exact])


@pytest.mark.parametrize("temperature", [1.0, 1e-2, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lists_stay_full_where_scores_are_rounded(temperature: float, dtype: torch.dtype) -> None:
    """An item's score differs between two batches, by more than it does between some items."""
    world = make_world(every_id(SIZES)[::2], SIZES, [5] * 60, seed=1)
    rounded = with_model(world, copy.deepcopy(world.engine.model).to(dtype))
    options = SearchOptions(beams=3, temperature=temperature)
    found = rounded.search(3, options, how=exact_search)
    assert (found.items >= 0).all()
    assert all(len(set(row)) == 3 for row in found.items.tolist())
    assert (found.scores.diff() <= 0).all()
    beams = rounded.search(3, options)
    slack = 1e-3 * beams.scores.abs() if dtype == torch.float32 else 0.05 * beams.scores.abs()
    assert (found.scores >= beams.scores - slack - 1e-3).all(), "worse than beam search"


def test_damaged_weights_are_an_error() -> None:
    world = make_world(every_id(SIZES), SIZES, (3, 5))
    model = copy.deepcopy(world.engine.model)
    torch.nn.init.constant_(model.model.norm.weight, float("nan"))
    with pytest.raises(LlmrecError, match="not finite"):
        with_model(world, model).search(2, SearchOptions(beams=2), how=exact_search)


def test_a_list_stays_where_nothing_beneath_is_worth_a_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rounding may hold back the certificate of a list that is better than all beside it."""
    world = make_world(every_id(SIZES), SIZES, (3, 5, 8, 4), seed=0)
    wide = world.search(3, SearchOptions(beams=world.n_items))
    withheld = replace(wide, exact=torch.zeros_like(wide.exact), scores=0 * wide.scores)
    monkeypatch.setattr(exact_module, "beam_search", lambda *_: withheld)
    found = world.search(3, SearchOptions(beams=3), how=exact_search)
    assert torch.equal(found.items, wide.items)
    assert found.exact.all()
