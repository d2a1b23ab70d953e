"""An item's score is the sum of its own tokens' log-probabilities, however they are normalised."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from worlds import ATOL, World, check_best, every_id, make_world, scorings, worlds

from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.frontier import Normalise, Scoring


def as_options(scoring: Scoring, beams: int) -> SearchOptions:
    return SearchOptions(beams, normalise=scoring.normalise, temperature=scoring.temperature)


@given(world=worlds(), scoring=scorings())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_scores_are_what_the_model_itself_says(world: World, scoring: Scoring) -> None:
    found = world.search(world.n_items, as_options(scoring, world.n_items))
    for user, truth in enumerate(world.truth(scoring)):
        check_best(found, user, truth, list(range(world.n_items)))


@given(world=worlds(), scoring=scorings())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_over_children_the_probabilities_of_all_items_add_up_to_one(
    world: World, scoring: Scoring
) -> None:
    options = as_options(Scoring("children", scoring.temperature), world.n_items)
    total = world.search(world.n_items, options).scores.double().exp().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


def test_over_levels_they_do_where_every_id_is_an_item() -> None:
    world = make_world(every_id((3, 2, 4)), (3, 2, 4), (4, 9))
    total = world.search(24, SearchOptions(beams=24)).scores.double().exp().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


@pytest.mark.parametrize("normalise", ["level", "children"])
def test_a_short_id_costs_its_own_tokens_alone(normalise: Normalise) -> None:
    codes = [(0, -1, -1), (1, 0, -1), (1, 1, 0), (1, 1, 1)]
    world = make_world(codes, (3, 2, 2), (6,))
    found = world.search(4, SearchOptions(beams=4, normalise=normalise))
    with torch.inference_mode():
        logits = world.engine.model(torch.from_numpy(world.prompts[0])[None]).logits[0, -1]
    first = world.engine.vocabulary.item_offset
    choices = logits[first : first + (3 if normalise == "level" else 2)]
    short = found.scores[0][found.items[0] == 0]
    torch.testing.assert_close(short, choices.log_softmax(-1)[:1], atol=ATOL, rtol=0)


def test_over_children_a_token_without_alternative_costs_nothing() -> None:
    world = make_world([(0, 1, 2), (2, 0, 1)], (3, 2, 3), (4,))
    alone = make_world([(0, 1, 2)], (3, 2, 3), (4,))
    options = SearchOptions(beams=2, normalise="children")
    assert alone.search(1, options).scores.tolist() == [[0.0]]
    both = world.search(2, options).scores
    with torch.inference_mode():
        logits = world.engine.model(torch.from_numpy(world.prompts[0])[None]).logits[0, -1]
    first = world.engine.vocabulary.item_offset
    expected = logits[[first, first + 2]].log_softmax(-1).sort(descending=True).values
    torch.testing.assert_close(both[0], expected, atol=ATOL, rtol=0)


def test_where_only_one_item_is_left_beneath_the_model_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = np.array([(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 0, 2), (2, 1, 1)])
    world = make_world(codes, (3, 2, 3), (5,))
    decoded: list[int] = []
    extend = world.engine.extend

    def counting(codes: torch.Tensor, *rest: object) -> object:
        decoded.append(codes.shape[1])
        return extend(codes, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(world.engine, "extend", counting)
    world.search(5, SearchOptions(beams=5, normalise="children"))
    assert decoded == [1, 1], "only (0,) and (0, 1) leave a choice"
    decoded.clear()
    world.search(5, SearchOptions(beams=5, normalise="level"))
    assert decoded == [3, 4]
