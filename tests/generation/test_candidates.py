"""Scoring given items gives each the score that a plain forward pass gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import ATOL, LEVEL, World, every_id, make_world, scorings, worlds

from llmrec.generation.beam_search import decode_slots
from llmrec.generation.candidates import score_candidates
from llmrec.generation.frontier import Scoring
from llmrec.generation.trie import ItemTrie


def score(world: World, items: torch.Tensor, scoring: Scoring = LEVEL) -> torch.Tensor:
    return score_candidates(world.engine, world.trie, world.prefix(items.shape[1]), items, scoring)


@given(world=worlds(), scoring=scorings(), data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_scores_are_those_of_plain_forward_passes(
    world: World, scoring: Scoring, data: st.DataObject
) -> None:
    every = list(range(world.n_items))
    width = data.draw(st.integers(1, world.n_items))
    rows = []
    for _ in world.prompts:
        chosen = data.draw(st.permutations(every))[: data.draw(st.integers(0, width))]
        unknown = [world.n_items + 5] if len(chosen) < width and data.draw(st.booleans()) else []
        padded = [*chosen, *unknown, *[-1] * (width - len(chosen) - len(unknown))]
        rows.append(data.draw(st.permutations(padded)))
    items = torch.tensor(rows)
    known = (items >= 0) & (items < world.n_items)
    found = score(world, items, scoring)
    truth = world.truth(scoring).gather(1, items.where(known, 0))
    assert (found[~known] == float("-inf")).all()
    torch.testing.assert_close(found[known], truth[known], atol=ATOL, rtol=1e-5)


@pytest.mark.parametrize("normalise", ["level", "children"])
def test_the_whole_catalogue_at_once(normalise: str) -> None:
    sizes = (5, 6, 4)
    world = make_world(every_id(sizes), sizes, (3, 9))
    scoring = Scoring(normalise)  # type: ignore[arg-type]
    items = torch.stack([torch.arange(120), torch.arange(120).flip(0)])
    found = score(world, items, scoring)
    torch.testing.assert_close(found, world.truth(scoring).gather(1, items), atol=ATOL, rtol=1e-5)
    total = found.double().exp().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


@given(world=worlds(), data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_another_users_candidates_change_nothing(world: World, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, world.n_items))
    some = st.permutations(range(world.n_items)).map(lambda order: order[:width])
    rows = [data.draw(some) for _ in world.prompts]
    batch = score(world, torch.tensor(rows))
    for user, row in enumerate(rows):
        single = score(world.alone(user), torch.tensor([row]))[0]
        torch.testing.assert_close(batch[user], single, atol=ATOL, rtol=1e-5)


def test_items_that_the_trie_lacks_have_no_score() -> None:
    world = make_world(every_id((3, 2)), (3, 2), (4, 6))
    kept = np.array([1, 4])
    part = ItemTrie(world.codes[kept], kept)
    prefix = world.engine.prefill(
        torch.tensor([[1, 5]] * 2), torch.ones(2, 2, dtype=torch.bool), slots=decode_slots(part, 4)
    )
    items = torch.tensor([[0, 4, 1, 5], [3, 2, 0, -1]])
    found = score_candidates(world.engine, part, prefix, items, Scoring())
    assert (found > float("-inf")).tolist() == [[False, True, True, False], [False] * 4]


def test_nobody_has_a_candidate() -> None:
    world = make_world(every_id((3, 2)), (3, 2), (4, 6))
    assert (score(world, torch.full((2, 3), -1)) == float("-inf")).all()
