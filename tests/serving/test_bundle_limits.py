"""What one request may ask of a bundle: only some items, in the model's own order."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ask_bundle import rank, recommend
from edit_manifest import edit_manifest
from tiny_shop import TinyRun

from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError, ConfigError
from llmrec.generation import constraints
from llmrec.generation.beam_search import SearchOptions
from llmrec.serving.bundle import Bundle
from llmrec.serving.filters import CatalogFilter
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.types import Item, Recommendation

QUERY = "a warm woolen scarf"
LEFT = "only {} of {} items: no more are left to recommend"


def ids(answer: list[Recommendation]) -> list[str]:
    return [found.item_id for found in answer]


@pytest.fixture(scope="session")
def shop(tiny_data: Dataset) -> list[Item]:
    """The catalogue, by item index."""
    return [tiny_data.item(row) for row in range(tiny_data.n_items)]


def like(shop: list[Item], test: Any) -> set[str]:
    return {item.item_id for item in shop if test(item)}


def in_order(bundle: Bundle, history: list[str], among: set[str]) -> list[str]:
    """Some items as they follow each other when the whole catalogue is ranked."""
    return [item for item in ids(recommend(bundle, history, 120)) if item in among]


@pytest.mark.parametrize("query", ["", QUERY])
@pytest.mark.parametrize("beams", [1, 2, 50])
@pytest.mark.parametrize("n", [3, 4, 100, 5000])
def test_a_filter_that_leaves_three_items_gives_these_three(
    bundle: Bundle, shop: list[Item], n: int, beams: int, query: str
) -> None:
    prices = sorted(item.price for item in shop if item.price is not None)
    where = CatalogFilter(price_min=prices[40], price_max=prices[44])
    within = like(shop, lambda i: i.price is not None and prices[40] <= i.price <= prices[44])
    exclude = sorted(within)[3:]
    options = SearchOptions(beams=beams)
    asked = RecommendRequest([], n, exclude=exclude, where=where, query=query, options=options)
    answer = Recommender(bundle).answer(asked)
    assert set(ids(answer.recommendations)) == set(sorted(within)[:3])
    assert answer.notes == ([] if n == 3 else [LEFT.format(3, n)])


def test_allowed_and_not_excluded(bundle: Bundle) -> None:
    history, allow = bundle.item_ids[8:13], bundle.item_ids[10:20]
    answer = Recommender(bundle).answer(
        RecommendRequest(history, 10, allow=allow, exclude=bundle.item_ids[18:40])
    )
    assert ids(answer.recommendations) == in_order(bundle, history, set(bundle.item_ids[13:18]))
    assert answer.notes == [LEFT.format(5, 10)]
    kept = recommend(bundle, history, 10, allow=allow, exclude_history=False)
    assert set(ids(kept)) == set(allow)


@pytest.mark.parametrize("few", [constraints.FEW, 1], ids=["as a list", "as counts"])
def test_every_filter_is_the_order_of_all_items_thinned_out(
    bundle: Bundle, shop: list[Item], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constraints, "FEW", few)
    fresh = Bundle(bundle.folder, beams=30)
    category, brand = shop[0].categories[-1], shop[5].brand
    name, value = next(iter(shop[7].attributes.items()))
    questions: list[tuple[dict[str, Any], Any]] = [
        ({"in_stock": True}, lambda i: i.in_stock),
        ({"in_stock": False}, lambda i: not i.in_stock),
        ({"categories": [category.upper()]}, lambda i: category in i.categories),
        ({"brands": [brand]}, lambda i: i.brand == brand),
        ({"domains": [shop[0].domain]}, lambda i: i.domain == shop[0].domain),
        ({"attributes": {name: [value]}}, lambda i: i.attributes.get(name) == value),
        ({"price_min": 30.0}, lambda i: i.price is not None and i.price >= 30),
    ]
    history = bundle.item_ids[30:34]
    for fields, test in questions:
        among = like(shop, test)
        assert 0 < len(among) < 120, fields
        found = recommend(fresh, history, 120, where=CatalogFilter(**fields))
        assert ids(found) == in_order(bundle, history, among), fields


def test_words_look_only_among_what_may_be_recommended(bundle: Bundle, shop: list[Item]) -> None:
    brand = shop[5].brand
    allowed = like(shop, lambda i: i.brand == brand)
    closest = [item for item in ids(recommend(bundle, [], 120, query=QUERY)) if item in allowed]
    limits = {"where": CatalogFilter(brands=(brand,)), "exclude": closest[:1]}
    assert ids(recommend(bundle, [], 2, query=QUERY, **limits)) == closest[1:3]
    history = bundle.item_ids[60:63]
    found = recommend(bundle, history, 120, query=QUERY, **limits)
    expected = in_order(bundle, history, set(closest[1:]) - set(history))
    assert ids(found) == expected
    only = recommend(bundle, [], 5, query=QUERY, allow=closest[-2:])
    assert ids(only) == closest[-2:]


@pytest.mark.parametrize("query", ["", QUERY])
@pytest.mark.parametrize("how", ["allow", "where", "history"])
def test_nothing_left_is_an_empty_answer_with_a_note(
    bundle: Bundle, shop: list[Item], how: str, query: str
) -> None:
    asked: dict[str, Any] = {"allow": []}
    if how == "where":
        highest = max(item.price or 0 for item in shop)
        asked = {"where": CatalogFilter(price_min=highest + 1)}
    elif how == "history":
        asked = {"exclude": bundle.item_ids[4:]}
    answer = Recommender(bundle).answer(
        RecommendRequest(bundle.item_ids[:4], 5, query=query, **asked)
    )
    assert answer.recommendations == []
    assert answer.notes == ["nothing in the catalogue is left to recommend"]


@pytest.mark.parametrize("field", ["history", "exclude", "allow", "candidates"])
def test_an_unknown_item_is_left_out_and_named_with_its_field(atomic: Bundle, field: str) -> None:
    asked = Recommender(atomic).recommend(**{field: [atomic.item_ids[0], "no-such-thing"]})
    known = Recommender(atomic).recommend(**{field: [atomic.item_ids[0]]})
    assert asked.recommendations == known.recommendations
    note = f"{field}: 'no-such-thing' is not in the catalogue and left out"
    assert asked.notes == [note, *known.notes]


def test_a_name_that_no_item_has(atomic: Bundle, shop: list[Item]) -> None:
    name = shop[0].categories[0]
    with pytest.raises(CatalogError, match=f"categories: no item has '{name}x'; close: '{name}'"):
        recommend(atomic, [], where=CatalogFilter(categories=(f"{name}x",)))


def test_a_long_history_is_said_to_be_cut(bundle: Bundle) -> None:
    reads = bundle.llm.max_events
    history = (bundle.item_ids * 2)[: reads + 7]
    answer = Recommender(bundle).answer(RecommendRequest(history, 3, exclude_history=False))
    assert (answer.history_given, answer.history_read) == (reads + 7, reads)
    assert answer.notes == [
        f"the model reads the newest {reads} events of a history; the oldest 7 of {reads + 7} "
        "were left out"
    ]
    assert answer.recommendations == recommend(bundle, history[7:], 3, exclude_history=False)
    whole = Recommender(bundle).answer(RecommendRequest(history[7:], 3))
    assert (whole.history_given, whole.history_read, whole.notes) == (reads, reads, [])


def test_the_same_filter_is_worked_out_once(atomic: Bundle) -> None:
    one = atomic.items.filter(CatalogFilter(price_min=30, categories=()))
    assert one is atomic.items.filter(CatalogFilter(price_min=30.0))
    assert one is not atomic.items.filter(CatalogFilter(price_min=31.0))
    assert atomic.items.filter(CatalogFilter()) is None


def test_with_and_without_the_cache_answers_are_equal(bundle: Bundle) -> None:
    cached = Bundle(bundle.folder, beams=30, cache_mib=8)
    limits = {"where": CatalogFilter(in_stock=True), "exclude": bundle.item_ids[:9]}
    for start, end in ((4, 16), (4, 17), (4, 30), (4, 16), (4, 14), (60, 75), (5, 30)):
        history = bundle.item_ids[start:end]
        for asked in ({}, limits, {"query": QUERY}):
            found, expected = (recommend(b, history, 20, **asked) for b in (cached, bundle))
            assert ids(found) == ids(expected)
            assert [f.score for f in found] == pytest.approx([e.score for e in expected], abs=1e-4)
        pairs = [rank(b, history, bundle.item_ids[:20]) for b in (cached, bundle)]
        assert ids(pairs[0]) == ids(pairs[1])
    cache = cached.llm.cache
    assert cache is not None
    assert cache.metrics["hits"] > 10
    assert bundle.llm.cache is None
    with pytest.raises(ConfigError, match="cache_mib: -1 is not a size"):
        Bundle(bundle.folder, cache_mib=-1)


def test_ranked_candidates_have_the_order_and_scores_of_the_whole_catalogue(
    bundle: Bundle,
) -> None:
    history = bundle.item_ids[50:55]
    candidates = bundle.item_ids[45:80]
    ranked = rank(bundle, history, [*candidates, candidates[0]])
    everything = recommend(bundle, history, 120, exclude_history=False)
    expected = [found for found in everything if found.item_id in candidates]
    assert ids(ranked) == ids(expected)
    assert [r.score for r in ranked] == pytest.approx([e.score for e in expected], abs=1e-4)
    assert [r.rank for r in ranked] == list(range(1, 36))
    assert all(repr(bundle.titles[54]) in r.reason for r in ranked)
    assert rank(bundle, history, []) == []


def test_too_many_candidates(atomic: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.serving.request.MAX_CANDIDATES", 100)
    assert len(rank(atomic, [], atomic.item_ids[:100])) == 100
    with pytest.raises(ConfigError, match="candidates: 101 were given; at most 100 are ranked"):
        rank(atomic, [], atomic.item_ids[:101])


def test_options_reach_the_search_and_the_scores(semantic: Bundle) -> None:
    history, options = semantic.item_ids[3:9], SearchOptions(exact=True, normalise="children")
    everything = recommend(semantic, history, 120, exclude_history=False, options=options)
    # All items' probabilities add up to one only where each token's are of real items.
    assert sum(np.exp(found.score) for found in everything) == pytest.approx(1, abs=1e-3)
    ranked = rank(semantic, history, semantic.item_ids, options=options)
    assert [r.score for r in ranked] == pytest.approx([e.score for e in everything], abs=1e-4)
    asked = recommend(semantic, history, 5, query=QUERY, options=options)
    scores = {found.item_id: found.score for found in everything}
    assert [a.score for a in asked] == pytest.approx([scores[a.item_id] for a in asked], abs=1e-4)
    warm = rank(semantic, history, semantic.item_ids, options=replace(options, temperature=2.0))
    assert warm[0].score < ranked[0].score
    assert semantic.llm.options == SearchOptions(beams=30)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"history_times": [float("inf")]}, r"history_times\[0\]: inf is not a time in seconds"),
        (
            {"history_times": [1.7e12]},
            r"history_times\[0\]: .* is not a time in seconds since 1970",
        ),
        ({"now": -float("inf")}, "now: -inf is not a time in seconds"),
    ],
)
def test_times_that_are_none(atomic: Bundle, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recommend(atomic, atomic.item_ids[:1], **asked)
    with pytest.raises(ConfigError, match=message):
        rank(atomic, atomic.item_ids[:1], atomic.item_ids[:2], **asked)


def test_an_unknown_time_is_no_mistake(atomic: Bundle) -> None:
    nan = float("nan")
    expected = recommend(atomic, atomic.item_ids[:2], 5)
    assert recommend(atomic, atomic.item_ids[:2], 5, history_times=[nan, nan], now=nan) == expected


def test_a_bundle_whose_catalogue_says_less(tiny_run: TinyRun, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run.bundle("atomic"), tmp_path / "bundle"))
    path = folder / "items.parquet"
    pq.write_table(pq.read_table(path).select(["item_id", "title", "price"]), path)
    edit_manifest(folder)
    bundle = Bundle(folder)
    assert recommend(bundle, [], 3, where=CatalogFilter(price_max=1e9))
    with pytest.raises(ConfigError, match="in_stock: the catalogue has no column 'in_stock'"):
        recommend(bundle, [], 3, where=CatalogFilter(in_stock=True))
