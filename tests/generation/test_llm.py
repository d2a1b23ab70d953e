"""The language model as a recommender: batches, catalogues that change, contexts that are short."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import random_semantic_ids, semantic_ids, tiny_llm
from worlds import ATOL, every_id, every_score

from llmrec.errors import CatalogError, ConfigError, LlmrecError
from llmrec.generation.beam_search import SearchOptions
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.generation.llm import AtomicLlm, Llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.recommender import recommend_from_scores
from llmrec.types import Histories

N_ITEMS = 40
ROWS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=10), min_size=1, max_size=5)
KINDS = {
    "atomic": ItemIds.atomic(N_ITEMS, spare=6),
    "semantic": random_semantic_ids(N_ITEMS, (4, 5, 6)),
}


@pytest.fixture(scope="module", params=KINDS)
def llm(request: pytest.FixtureRequest) -> Llm:
    return tiny_llm(KINDS[request.param], beams=4)


def grown(kind: str, more: int) -> ItemIds:
    """The same IDs with new items at the end."""
    ids = KINDS[kind]
    if kind == "atomic":
        return ids.assign_new(np.zeros((more, 0), np.float32))
    taken = {tuple(row) for row in ids.codes.tolist()}
    free = [row for row in every_id((4, 5, 6)).tolist() if tuple(row) not in taken]
    return replace(ids, codes=np.concatenate([ids.codes, np.array(free[:more], np.int32)]))


@given(rows=ROWS, batch_size=st.integers(1, 3), data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_neighbours_in_a_batch_change_nothing(
    llm: Llm, rows: list[list[int]], batch_size: int, data: st.DataObject
) -> None:
    histories = Histories.from_lists(rows)
    some = st.lists(st.integers(0, N_ITEMS - 1), max_size=5)
    allow = ItemFilter(np.arange(N_ITEMS) % 3 > 0)
    constraints = [
        Constraints(exclude=data.draw(some), allow=data.draw(st.sampled_from([None, allow])))
        for _ in rows
    ]
    candidates = np.stack([data.draw(st.permutations(range(N_ITEMS))) for _ in rows])[:, :7]
    batch = llm.recommend(histories, 5, constraints=constraints)
    scored = llm.score_items(histories, candidates)
    at_once, llm.batch_size = llm.batch_size, batch_size
    single = llm.recommend(histories, 5, constraints=constraints)
    scored_apart = llm.score_items(histories, candidates)
    llm.batch_size = at_once
    np.testing.assert_array_equal(batch.items, single.items)
    np.testing.assert_allclose(batch.scores, single.scores, atol=ATOL)
    np.testing.assert_allclose(scored, scored_apart, atol=ATOL)


@given(rows=ROWS, exclude=st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_what_it_recommends_has_the_scores_it_gives_when_asked(
    llm: Llm, rows: list[list[int]], exclude: bool
) -> None:
    histories = Histories.from_lists(rows)
    ranking = llm.recommend(histories, 6, exclude_history=exclude)
    np.testing.assert_allclose(ranking.scores, llm.score_items(histories, ranking.items), atol=ATOL)
    for row, history, scores in zip(ranking.items, rows, ranking.scores, strict=True):
        assert (row >= 0).all()
        assert not (exclude and np.isin(row, history).any())
        truth = every_score(llm.engine, llm.ids.codes, llm.encoder.encode(np.array(history, int)))
        np.testing.assert_allclose(scores, truth[row], atol=ATOL)


@pytest.mark.parametrize("exclude", [True, False])
@given(rows=ROWS, n=st.integers(1, N_ITEMS + 2))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_atomic_recommendations_are_scores_in_order(
    exclude: bool, rows: list[list[int]], n: int
) -> None:
    llm = tiny_llm(KINDS["atomic"])
    assert isinstance(llm, AtomicLlm)
    histories = Histories.from_lists(rows)
    found = llm.recommend(histories, n, exclude_history=exclude)
    expected = recommend_from_scores(llm, histories, n, exclude_history=exclude)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_exact_is_an_option_of_a_request() -> None:
    llm = tiny_llm(KINDS["semantic"], beams=1)
    histories = Histories.from_lists([[n] for n in range(N_ITEMS)])
    narrow = llm.recommend(histories, 1).scores
    exact = llm.recommend(histories, 1, options=SearchOptions(beams=1, exact=True)).scores
    every = np.tile(np.arange(N_ITEMS), (N_ITEMS, 1))
    scores = llm.score_items(histories, every)
    scores[np.arange(N_ITEMS), np.arange(N_ITEMS)] = -np.inf  # the history itself
    np.testing.assert_allclose(exact[:, 0], scores.max(1), atol=ATOL)
    assert (narrow < exact - 1e-3).any(), "the example is too easy: a narrow beam misses nothing"


def test_candidates_are_scored_as_the_recommender_searches() -> None:
    llm = tiny_llm(KINDS["semantic"])
    llm.options = SearchOptions(normalise="children", temperature=0.5)
    scores = llm.score_items(
        Histories.from_lists([[1, 2], []]), np.tile(np.arange(N_ITEMS), (2, 1))
    )
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(1), 1, atol=1e-5)


def test_candidates_may_be_padded_and_must_be_known(llm: Llm) -> None:
    histories = Histories.from_lists([[1], [2, 3]])
    scores = llm.score_items(histories, np.array([[5, -1, 7], [-1, -1, -1]]))
    assert np.isfinite(scores).tolist() == [[True, False, True], [False] * 3]
    assert llm.score_items(histories, np.zeros((2, 0), int)).shape == (2, 0)
    for item in (-2, N_ITEMS):
        with pytest.raises(CatalogError, match="a candidate is not among the 40 items"):
            llm.score_items(histories, np.array([[1], [item]]))


@pytest.mark.parametrize("kind", KINDS)
def test_new_items_appear_removed_ones_do_not_and_the_old_recommender_stays(kind: str) -> None:
    old = tiny_llm(KINDS[kind], beams=60)
    histories = Histories.from_lists([[1, 2], [39, 0], []])
    before = old.recommend(histories, N_ITEMS)
    ids = grown(kind, 4)
    available = np.ones(N_ITEMS + 4, dtype=bool)
    gone = [2, 7, 39, 43]
    available[gone] = False
    new = old.with_items(ids, available)
    assert new.n_items == 44
    found = new.recommend(histories, 44, exclude_history=False)
    for row in found.items:
        assert sorted(row[row >= 0]) == np.flatnonzero(available).tolist()
    # removed items stay in histories, excluded or not, and new ones may stand there as well
    excluding = new.recommend(Histories.from_lists([[39, 41, 43, 2]]), 44)
    left = np.setdiff1d(np.flatnonzero(available), [41])
    assert sorted(excluding.items[0][excluding.items[0] >= 0]) == left.tolist()
    scores = new.score_items(histories, np.tile([2, 43, 40, 0], (3, 1)))
    assert np.isfinite(scores).tolist() == [[False, False, True, True]] * 3
    allow = ItemFilter.of_items([39, 42, 43], 44)
    few = new.recommend(histories, 3, constraints=[Constraints(allow=allow)] * 3)
    assert few.items.tolist() == [[42, -1, -1]] * 3
    after = old.recommend(histories, N_ITEMS)
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores, after.scores)


def test_semantic_scores_do_not_depend_on_the_rest_of_the_catalogue() -> None:
    old = tiny_llm(KINDS["semantic"], beams=60)
    new = old.with_items(grown("semantic", 4), np.arange(N_ITEMS + 4) % 2 == 0)
    histories, items = Histories.from_lists([[1, 2]]), np.array([[0, 2, 38]])
    level = SearchOptions(normalise="level")
    np.testing.assert_allclose(
        new.score_items(histories, items, options=level),
        old.score_items(histories, items, options=level),
        atol=ATOL,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalogue_that_does_not_fit_the_model_is_refused(kind: str) -> None:
    llm, ids = tiny_llm(KINDS[kind]), KINDS[kind]
    other = {"atomic": "semantic", "semantic": "atomic"}[kind]
    fewer = replace(ids, codes=ids.codes[:-1])
    for wrong in (KINDS[other], fewer):
        with pytest.raises(CatalogError, match="change those of items the model knows"):
            llm.with_items(wrong)
    with pytest.raises(CatalogError, match="the catalogue is empty"):
        llm.with_items(ids, np.zeros(N_ITEMS, dtype=bool))
    if kind == "semantic":
        swapped = ids.codes.copy()
        swapped[[0, 1]] = swapped[[1, 0]]
        with pytest.raises(CatalogError, match="change those of items the model knows"):
            llm.with_items(replace(ids, codes=swapped))
    sizes = (ids.level_sizes[0] + 1, *ids.level_sizes[1:])
    wider = replace(ids, level_sizes=sizes, token_vectors=np.zeros((sum(sizes), 0), np.float32))
    with pytest.raises(ConfigError, match="tokens that the model has no rows for"):
        llm.with_items(wider)


@pytest.mark.parametrize("fields", [(), ("gap", "hour")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_short_context_drops_the_oldest_events(kind: str, fields: tuple[str, ...]) -> None:
    width = len(fields) + KINDS[kind].levels
    context = 2 + 4 * width + width - 1  # the prefix, four events and not quite a fifth
    plain: dict[str, Any] = {"time_fields": fields, "max_items": 9}
    short = tiny_llm(KINDS[kind], **plain, context=context)
    assert short.max_events == 3, "three events and the answer"
    times = [1e9 + 3600.0 * n for n in range(9)]
    rows = Histories.from_lists([list(range(9)), list(range(2))], [times, times[:2]], [1.1e9] * 2)
    assert max(map(len, short.prompts(rows))) + KINDS[kind].levels <= context
    found = short.recommend(rows, 5, exclude_history=False)
    # the same weights with enough context and only the events that are encoded
    roomy = tiny_llm(KINDS[kind], **plain | {"max_items": 3})
    expected = roomy.recommend(rows, 5, exclude_history=False)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=ATOL)
    if not fields:
        cut = Histories.from_lists([[6, 7, 8], [0, 1]])
        np.testing.assert_array_equal(
            found.items, roomy.recommend(cut, 5, exclude_history=False).items
        )
    assert not np.isin(short.recommend(rows, 5).items[0], range(9)).any(), "still excluded"
    grown_up = short.with_items(KINDS[kind])
    assert grown_up.max_events == 3


def test_a_context_without_room_for_an_event_is_an_error() -> None:
    with pytest.raises(ConfigError, match="a context of 7 tokens cannot hold one event"):
        tiny_llm(KINDS["semantic"], context=7)
    assert tiny_llm(KINDS["semantic"], context=8).max_events == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_weights_are_an_error_whatever_is_asked(kind: str, value: float) -> None:
    llm = tiny_llm(KINDS[kind])
    with torch.no_grad():
        llm.engine.model.model.layers[0].post_attention_layernorm.weight[0] = value
    histories = Histories.from_lists([[1, 2], []])
    plain, exact = SearchOptions(), SearchOptions(beams=2, exact=True)
    children, diverse = SearchOptions(normalise="children"), SearchOptions(groups=2, diversity=1.0)
    for options in (plain, exact, children, diverse):
        with pytest.raises(LlmrecError, match="not finite"):
            llm.recommend(histories, 2, options=options)
    with pytest.raises(LlmrecError, match="not finite"):
        llm.score_items(histories, np.array([[1, 2], [3, -1]]))
    if isinstance(llm, AtomicLlm):
        with pytest.raises(LlmrecError, match="not finite"):
            llm.score(histories)


def test_nothing_left_gives_an_empty_list() -> None:
    ids = semantic_ids([(0, 1), (2, 3)], (3, 4))
    ranking = tiny_llm(ids).recommend(Histories.from_lists([[0, 1, 0], [1]]), 3)
    assert ranking.items.tolist() == [[-1, -1, -1], [0, -1, -1]]


def test_an_empty_catalogue_is_an_error() -> None:
    nothing = semantic_ids(np.zeros((0, 2)), (3, 4))
    with pytest.raises(CatalogError, match="the catalogue is empty"):
        tiny_llm(nothing)


def test_the_kind_of_ids_decides_the_kind_of_recommender() -> None:
    assert isinstance(tiny_llm(KINDS["atomic"]), AtomicLlm)
    assert not isinstance(tiny_llm(KINDS["semantic"]), AtomicLlm)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_asks_for_nothing_is_refused(kind: str) -> None:
    llm = tiny_llm(KINDS[kind])
    with pytest.raises(CatalogError, match="n: 0 items were asked for"):
        llm.recommend(Histories.from_lists([[1]]), 0)


def test_constraints_are_one_a_user() -> None:
    llm = tiny_llm(KINDS["semantic"])
    with pytest.raises(ConfigError, match="1 constraints are given for 2 users"):
        llm.recommend(Histories.from_lists([[1], [2]]), 3, constraints=[Constraints()])


@pytest.mark.parametrize("available", [np.ones(3, dtype=bool), np.arange(N_ITEMS)])
def test_availability_is_a_mask_of_all_items(available: np.ndarray) -> None:
    llm = tiny_llm(KINDS["semantic"])
    with pytest.raises(CatalogError, match="must be a mask of the"):
        llm.with_items(KINDS["semantic"], available)
