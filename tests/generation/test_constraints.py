"""Whatever a request forbids, the search finds all that is left and nothing else."""

from collections.abc import Callable

import numpy as np
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
    every_score,
    make_world,
)

from llmrec.errors import CatalogError
from llmrec.generation import constraints as constraints_module
from llmrec.generation.beam_search import SearchOptions, SearchResult, beam_search
from llmrec.generation.constraints import Constraints, ItemFilter, LeafConstraints
from llmrec.generation.exact_search import exact_search
from llmrec.generation.trie import ItemTrie

LISTS, COUNTS = 10**9, -1  # values of FEW that keep filters as lists, and as counts
IDS = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


def search(
    world: World,
    requests: list[Constraints],
    few: int,
    n: int,
    beams: int,
    how: Callable[..., SearchResult] = beam_search,
) -> SearchResult:
    """Search with filters made for ``few``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constraints_module, "FEW", few)
        shared = {r.allow: r.allow and ItemFilter(r.allow.passes) for r in requests}
        again = [Constraints(r.exclude, shared[r.allow]) for r in requests]
        return world.search(n, SearchOptions(beams=beams), again, how)


@pytest.mark.parametrize("few", [LISTS, COUNTS])
@given(case=constrained_worlds())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_with_room_for_all_it_finds_all_that_is_allowed_in_true_order(
    case: tuple[World, list[Constraints]], few: int
) -> None:
    world, requests = case
    found = search(world, requests, few, world.n_items + 1, world.n_items)
    for user, (request, truth) in enumerate(zip(requests, world.truth(), strict=True)):
        check_best(found, user, truth, allowed_items(request, world.n_items))
        assert bool(found.exact[user])


@pytest.mark.parametrize("few", [LISTS, COUNTS])
@given(case=constrained_worlds(), beams=st.integers(1, 4), n=st.integers(1, 6))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_with_few_beams_lists_are_as_long_as_what_is_allowed(
    case: tuple[World, list[Constraints]], few: int, beams: int, n: int
) -> None:
    world, requests = case
    found = search(world, requests, few, n, beams)
    for user, (request, truth) in enumerate(zip(requests, world.truth(), strict=True)):
        allowed = allowed_items(request, world.n_items)
        check_answer(found.items[user], found.scores[user], truth, allowed)


@pytest.mark.parametrize("few", [LISTS, COUNTS])
def test_an_exact_search_looks_under_each_users_own_filter(few: int) -> None:
    sizes = (5, 6, 4)
    world = make_world(every_id(sizes), sizes, (3, 5, 8, 4, 6, 7, 9, 2))
    filters = [ItemFilter(np.arange(120) % step == 0) for step in (2, 3)]
    requests = [Constraints(allow=filters[user % 2]) for user in range(8)]
    narrow = search(world, requests, few, 3, 1)
    assert not narrow.exact.all(), "the example is too easy: nothing to look beneath"
    found = search(world, requests, few, 3, 1, exact_search)
    for user, (request, truth) in enumerate(zip(requests, world.truth(), strict=True)):
        check_best(found, user, truth, allowed_items(request, world.n_items))


@given(case=constrained_worlds(), beams=st.integers(1, 4), n=st.integers(1, 6))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_lists_and_counts_give_the_same_answer(
    case: tuple[World, list[Constraints]], beams: int, n: int
) -> None:
    world, requests = case
    by_list = search(world, requests, LISTS, n, beams)
    by_count = search(world, requests, COUNTS, n, beams)
    assert torch.equal(by_list.items, by_count.items)
    assert torch.equal(by_list.scores, by_count.scores)
    assert torch.equal(by_list.exact, by_count.exact)


@given(case=constrained_worlds(), multiple=st.sampled_from([1, 4, 64]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_padding_changes_nothing(case: tuple[World, list[Constraints]], multiple: int) -> None:
    world, requests = case
    limits = LeafConstraints(world.trie, requests)
    padded = limits.padded(multiple)
    assert padded.excluded.shape[1] % multiple == 0
    assert padded.excluded.shape[1] >= max(1, limits.excluded.shape[1])
    nodes = torch.zeros(len(requests), 1, dtype=torch.int64)
    for depth in range(len(world.trie.levels)):
        children = world.trie.children(depth, nodes)
        alive = limits.allowed_children(depth, nodes, children)
        assert torch.equal(padded.allowed_children(depth, nodes, children), alive)
        nodes = torch.arange(len(world.trie.levels[depth])).repeat(len(requests), 1)


@given(case=constrained_worlds(), data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_neighbours_constraints_change_nothing(
    case: tuple[World, list[Constraints]], data: st.DataObject
) -> None:
    world, requests = case
    user = data.draw(st.integers(0, len(requests) - 1))
    batch = world.search(3, SearchOptions(beams=3), requests)
    single = world.alone(user).search(3, SearchOptions(beams=3), [requests[user]])
    torch.testing.assert_close(batch.scores[user], single.scores[0], atol=ATOL, rtol=1e-5)
    assert torch.equal(batch.items[user], single.items[0])


@pytest.mark.parametrize("few", [0, 4096])
@pytest.mark.parametrize("how", ["items", "mask", "exclude"])
def test_three_items_of_a_large_catalogue_are_found(
    monkeypatch: pytest.MonkeyPatch, how: str, few: int
) -> None:
    monkeypatch.setattr(constraints_module, "FEW", few)
    rng = np.random.default_rng(0)
    n_items, wanted = 200_000, np.array([3, 77_777, 199_999])
    numbers = rng.choice(64**3, n_items, replace=False)
    codes = np.stack(np.unravel_index(numbers, (64, 64, 64)), axis=1)
    world = make_world(codes, (64, 64, 64), (4, 7))
    passes = np.isin(np.arange(n_items), wanted)
    request = {
        "items": Constraints(allow=ItemFilter.of_items(wanted, n_items)),
        "mask": Constraints(allow=ItemFilter(passes)),
        "exclude": Constraints([5, 9], ItemFilter.of_items([5, 9, *wanted], n_items)),
    }[how]
    found = world.search(5, SearchOptions(beams=2), [request, Constraints()])
    assert set(found.items[0].tolist()) == {*wanted.tolist(), -1}
    truth = every_score(world.engine, world.codes, world.prompts[0], chosen=wanted)
    torch.testing.assert_close(
        found.scores[0, :3], truth.sort(descending=True).values, atol=ATOL, rtol=1e-5
    )
    assert (found.items[1] >= 0).all()


def test_a_long_allow_list_is_kept_as_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a list it would cost a comparison with every beam for each of its items."""
    monkeypatch.setattr(constraints_module, "FEW", 2)
    world = make_world(IDS, (3, 2))
    allow = ItemFilter.of_items(range(5), 5) & ItemFilter(np.array([True, True, True, True]))
    request = Constraints([1], allow)
    few = Constraints(allow=ItemFilter.of_items([4, 0], 5))
    limits = LeafConstraints(world.trie, [request, few])
    assert limits.allowed is not None
    assert limits.allowed.shape == (2, 2)
    found = world.search(5, SearchOptions(), [request])
    assert sorted(found.items[0].tolist()) == [-1, -1, 0, 2, 3]


@pytest.mark.parametrize("few", [LISTS, COUNTS])
@pytest.mark.parametrize("excluded", range(3))
def test_a_node_whose_passing_items_are_all_excluded_takes_no_beam(
    monkeypatch: pytest.MonkeyPatch, excluded: int, few: int
) -> None:
    """Others are left beneath it, but the filter has taken those."""
    monkeypatch.setattr(constraints_module, "FEW", few)
    world = make_world(every_id((3, 2)), (3, 2), range(1, 9))
    request = Constraints([2 * excluded], ItemFilter(np.arange(6) % 2 == 0))
    found = world.search(1, SearchOptions(beams=1), [request] * 8)
    left = [item for item in (0, 2, 4) if item != 2 * excluded]
    assert set(found.items[:, 0].tolist()) <= set(left)


def test_items_newer_than_a_filter_do_not_pass() -> None:
    world = make_world(IDS, (3, 2))
    allow = ItemFilter(np.array([False, False, True]))
    found = world.search(5, SearchOptions(), [Constraints(allow=allow)])
    assert found.items[0].tolist() == [2, -1, -1, -1, -1]
    both = Constraints(allow=allow & ItemFilter.of_items([1, 2, 4], 5))
    assert world.search(2, SearchOptions(), [both]).items[0].tolist() == [2, -1]


@pytest.mark.parametrize("few", [LISTS, COUNTS])
def test_a_filter_may_know_items_newer_than_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(constraints_module, "FEW", few)
    world = make_world(IDS, (3, 2))
    allow = ItemFilter(np.arange(9) >= 4)
    found = world.search(3, SearchOptions(), [Constraints(allow=allow)])
    assert found.items[0].tolist() == [4, -1, -1]


@pytest.mark.parametrize(
    "request_",
    [
        Constraints(allow=ItemFilter.of_items([], 5)),
        Constraints(exclude=range(5)),
        Constraints([1], ItemFilter.of_items([1], 5)),
    ],
)
@pytest.mark.parametrize("how", ["beam", "exact"])
def test_nothing_allowed_gives_an_empty_list_and_spares_the_neighbours(
    request_: Constraints, how: str
) -> None:
    world = make_world(IDS, (3, 2), (4, 6))
    options = SearchOptions(beams=2, exact=how == "exact")
    requests = [request_, Constraints()]
    found = (
        world.search(2, options, requests, how=exact_search)
        if options.exact
        else world.search(2, options, requests)
    )
    assert found.items[0].tolist() == [-1, -1]
    assert (found.scores[0] == float("-inf")).all()
    assert (found.items[1] >= 0).all()


def test_items_that_are_no_longer_there_may_be_named() -> None:
    trie = ItemTrie(np.array([[0, 0], [1, 1]]), np.array([1, 3]))
    requests = [Constraints([0, 2, 1]), Constraints(allow=ItemFilter.of_items([2], 4))]
    limits = LeafConstraints(trie, requests)
    root = torch.zeros(2, 1, dtype=torch.int64)
    alive = limits.allowed_children(0, root, trie.children(0, root))
    assert alive.sum(-1).tolist() == [[1], [0]]


@pytest.mark.parametrize(("items", "wrong"), [([5], 5), ([-1, 2], -1), ([0, 9, 1], 9)])
def test_an_unknown_item_is_named(items: list[int], wrong: int) -> None:
    trie = ItemTrie(np.array(IDS))
    unknown = f"item index {wrong} is not in the catalogue of 5"
    with pytest.raises(CatalogError, match=unknown):
        LeafConstraints(trie, [Constraints(), Constraints(items)])
    with pytest.raises(CatalogError, match=unknown):
        Constraints(items).passes(5)
    with pytest.raises(CatalogError, match=unknown):
        ItemFilter.of_items(items, 5)


def test_a_mask_is_not_a_list_of_items() -> None:
    for wrong in (Constraints, lambda mask: ItemFilter.of_items(mask, 5)):
        with pytest.raises(CatalogError, match="by their indices, not by a mask"):
            wrong(np.zeros(5, dtype=bool))


def test_a_filter_works_its_counts_out_once_a_trie() -> None:
    trie, other = ItemTrie(np.array(IDS)), ItemTrie(np.array(IDS[:3]))
    allow = ItemFilter(np.array([True, False, True, True, False]))
    assert allow.counts(trie).tolist() == [0, 1, 1, 2, 3, 3]
    assert allow.counts(trie) is allow.counts(trie)
    assert allow.counts(other).tolist() == [0, 1, 1, 2]
    request = Constraints([1], allow)
    assert request.excluding([2]).allow is allow, "what is worked out goes with it"


def test_a_filter_does_not_change_with_what_it_was_made_of() -> None:
    mask = np.array([True, False])
    allow = ItemFilter(mask)
    mask[1] = True
    assert allow.passes.tolist() == [True, False]
    with pytest.raises(ValueError, match="read-only"):
        allow.passes[1] = True
    Constraints(allow=allow).passes(2)[1] = True  # a mask of one's own
    assert allow.passes.tolist() == [True, False]


@given(case=constrained_worlds(), more=st.lists(st.integers(0, 0)))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_mask_of_the_catalogue_says_the_same(
    case: tuple[World, list[Constraints]], more: list[int]
) -> None:
    world, requests = case
    for request in requests:
        allowed = set(allowed_items(request, world.n_items))
        assert set(np.flatnonzero(request.passes(world.n_items))) == allowed
        fewer = request.excluding(more).passes(world.n_items)
        assert set(np.flatnonzero(fewer)) == allowed - set(more)
