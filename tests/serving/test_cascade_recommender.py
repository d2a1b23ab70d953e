"""From a person to a list with click probabilities."""

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ask_bundle import rank
from edit_manifest import edit_manifest

import llmrec
from llmrec.bench.random_shop import NOW, RandomShop
from llmrec.cli import run_command
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.ranking.calibration.calibrator import Calibrator
from llmrec.ranking.ctr.model import ClickModel
from llmrec.ranking.rerank import RerankConfig
from llmrec.ranking.retrieval.sources import SOURCES
from llmrec.serving import click_ranker
from llmrec.serving.build import run as bundle_run
from llmrec.serving.bundle import Bundle
from llmrec.serving.query_reader import NO_HISTORY, NOT_CALIBRATED
from llmrec.serving.recommender import NOTHING_LEFT, Recommender
from llmrec.serving.request import RecommendRequest, RecommendResponse
from llmrec.stage import Manifest, writing
from llmrec.types import Event, Recommendation


def lists(found: list[Recommendation]) -> list[str]:
    return [one.item_id for one in found]


def test_every_item_says_all_that_is_known(recommender: Recommender, shop: RandomShop) -> None:
    history = shop.history(3)
    shown = recommender.recommend(history=history, n=8, context={"device": "mobile"}, now=NOW)
    found = shown.recommendations
    assert [one.rank for one in found] == list(range(1, 9))
    assert len(set(lists(found))) == 8 and shown.notes == []
    chosen = {one["item_id"] for one in history if one["type"] in ("click", "purchase")}
    for one in found:
        assert 0 < one.p_click < 1 and 0 < one.p_purchase < one.p_click
        assert 1 <= one.expected_rating <= 5 and one.llm_logp < 0
        assert one.sources and set(one.sources) <= set(SOURCES)
        assert one.reason and one.item_id not in chosen
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert set(shown.timings_ms) == {"retrieve", "llm", "features", "head", "rerank", "total"}
    assert sum(shown.timings_ms.values()) <= 2 * shown.timings_ms["total"]


def test_the_language_models_word_is_passed_on(recommender: Recommender, shop: RandomShop) -> None:
    history = [one["item_id"] for one in shop.history(4)]
    found = recommender.recommend(history=history, n=5).recommendations
    ranked = rank(recommender.bundle, history, lists(found))
    told = {one.item_id: one.score for one in ranked}
    for one in found:
        assert one.llm_logp == pytest.approx(told[one.item_id], abs=1e-4)


def test_p_click_is_that_of_the_place_where_an_item_ends_up(
    recommender: Recommender, shop: RandomShop
) -> None:
    """The random heads take 0.1 from the logit for every place further down."""
    history = shop.history(5)
    alone = {
        one.item_id: recommender.recommend(
            history=history, n=1, allow=[one.item_id], now=NOW
        ).recommendations[0]
        for one in recommender.recommend(history=history, n=6, now=NOW).recommendations
    }
    calibrator = recommender.click_model.calibrator
    slope = calibrator.apply(np.array([0.0, 1.0]))
    slope = np.diff(np.log(slope / (1 - slope)))[0]
    for one in recommender.recommend(history=history, n=6, now=NOW).recommendations:
        first = alone[one.item_id].p_click
        apart = np.log(first / (1 - first)) - np.log(one.p_click / (1 - one.p_click))
        assert apart == pytest.approx(0.1 * slope * (one.rank - 1), abs=1e-4)


def test_onnx_and_torch_agree(recommender: Recommender, shop: RandomShop) -> None:
    other = Recommender.load(shop.bundle, engine="torch")
    for user in (0, 7):
        one, two = (
            r.recommend(history=shop.history(user), n=10, now=NOW).recommendations
            for r in (recommender, other)
        )
        assert lists(one) == lists(two)
        assert [x.p_click for x in one] == pytest.approx([x.p_click for x in two], abs=1e-5)


def test_a_plain_id_counts_as_a_choice(recommender: Recommender) -> None:
    plain = recommender.recommend(history=["item-3", "item-9"], n=5, now=NOW)
    events = [Event("", item, type="click") for item in ("item-3", "item-9")]
    assert (
        plain.recommendations == recommender.recommend(history=events, n=5, now=NOW).recommendations
    )
    views = [{"item_id": item, "type": "view"} for item in ("item-3", "item-9")]
    assert (
        plain.recommendations != recommender.recommend(history=views, n=5, now=NOW).recommendations
    )


def test_times_put_events_in_order(recommender: Recommender) -> None:
    events = [{"item_id": f"item-{n}", "timestamp": NOW - 1000 * (n + 1)} for n in range(4)]
    one, two = (
        recommender.recommend(history=order, n=5, now=NOW).recommendations
        for order in (events, events[::-1])
    )
    assert one == two


def test_what_is_not_before_the_request_is_not_read(recommender: Recommender) -> None:
    past = {"item_id": "item-1", "timestamp": NOW - 60}
    later = {"item_id": "item-2", "timestamp": NOW}
    shown = recommender.recommend(history=[past, later], n=5, now=NOW)
    assert shown.notes == ["history: 1 events are not before the request and were left out"]
    assert (
        shown.recommendations == recommender.recommend(history=[past], n=5, now=NOW).recommendations
    )


def test_a_person_is_found_in_what_is_given_to_load(shop: RandomShop) -> None:
    known = {"anna": ["item-3", "item-9"]}
    by_map = Recommender.load(shop.bundle, histories=known)
    by_call = Recommender.load(by_map.bundle, histories=known.get)
    expected = by_map.recommend(history=known["anna"], n=4, now=NOW)
    for asked in (by_map, by_call):
        assert (
            asked.recommend(user="anna", n=4, now=NOW).recommendations == expected.recommendations
        )
        assert asked.recommend(user="bob", n=4).notes == [
            "user: 'bob' is not known and is taken as new", NO_HISTORY
        ]  # fmt: skip


def test_without_a_history_context_and_popularity_decide(recommender: Recommender) -> None:
    shown = recommender.recommend(n=5, context={"device": "mobile"}, now=NOW)
    assert shown.notes == [NO_HISTORY] and len(shown.recommendations) == 5
    assert all(0 < one.p_click < 1 for one in shown.recommendations)
    other = recommender.recommend(n=5, context={"device": "desktop"}, now=NOW)
    p = [{one.item_id: one.p_click for one in x.recommendations} for x in (shown, other)]
    assert p[0] != p[1]


def test_what_is_known_of_a_user_is_read_beside_the_context(recommender: Recommender) -> None:
    attributes = {"anna": {"device": "mobile", "age": "30"}}
    knows = Recommender(
        recommender.bundle,
        recommender.click_model,
        {"anna": [], "bob": []},
        lambda user: attributes.get(user, {}),
    )
    ask = {"n": 5, "now": NOW}

    def p_click(**fields: Any) -> list[float | None]:
        return [one.p_click for one in knows.recommend(None, **ask, **fields).recommendations]

    mobile, desktop = ({"context": {"device": name}} for name in ("mobile", "desktop"))
    assert p_click(user="anna") == p_click(user="bob", **mobile)
    assert p_click(user="anna", **desktop) == p_click(user="bob", **desktop)
    assert p_click(user="anna") != p_click(user="bob")
    assert not any("age" in note for note in knows.recommend(None, user="anna", **ask).notes)


def test_an_unknown_value_of_the_context_is_defined(recommender: Recommender) -> None:
    strange = recommender.recommend(n=3, context={"device": "fridge"}, now=NOW)
    absent = recommender.recommend(n=3, now=NOW)
    assert strange.notes == absent.notes == [NO_HISTORY]
    assert [x.p_click for x in strange.recommendations] != [
        x.p_click for x in absent.recommendations
    ]
    said = recommender.recommend(n=3, context={"mood": "good"}, now=NOW).notes
    assert (
        said[0]
        == "context: 'mood' is not read by the click model; it reads device, membership, place"
    )


def test_filters_that_leave_nothing_give_an_empty_list(recommender: Recommender) -> None:
    shown = recommender.recommend(history=["item-3"], allow=["item-5"], exclude=["item-5"])
    assert shown.recommendations == [] and shown.notes == [NOTHING_LEFT]


def test_filters_hold(recommender: Recommender) -> None:
    brands = recommender.recommend(history=["item-3"], where={"brands": ["Brand 4"]}, n=10)
    assert {int(one.item_id[5:]) % 17 for one in brands.recommendations} == {4}
    assert brands.notes == [f"only {len(brands.recommendations)} of 10 items: no more are left to "
                            "recommend"]  # fmt: skip
    two = recommender.recommend(history=["item-3"], allow=["item-7", "item-8"], n=2)
    assert set(lists(two.recommendations)) == {"item-7", "item-8"}


def test_a_request_may_rerank_in_its_own_way(recommender: Recommender) -> None:
    plain = recommender.recommend(history=["item-3"], n=15, now=NOW).recommendations
    spread = recommender.recommend(history=["item-3"], n=15, rerank={"per_category": 1}, now=NOW)
    category = recommender.click_model.item_features.category
    seen = [int(category[int(one.item_id[5:])]) for one in spread.recommendations]
    assert len(set(seen)) == 15
    assert lists(plain) != lists(spread.recommendations)
    for given in ({"diversity": "mmr"}, {"diversity": "dpp"}, {"freshness": 1.0}):
        assert len(recommender.recommend(n=8, rerank=given).recommendations) == 8
    with pytest.raises(ConfigError, match="colour"):
        recommender.recommend(rerank={"colour": 1})


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"history": "item-3"}, "history: expected a list"),
        ({"allow": ["item-x"]}, "allow: 'item-x'"),
        ({"history": [{"item_id": "item-3", "timestamp": 1.7e12}]}, r"history\[0\].timestamp"),
        ({"history": [{"item_id": "item-3", "type": "sneeze"}]}, r"history\[0\].type: 'sneeze'"),
        ({"history": [{"id": "item-3"}]}, r"history\[0\]"),
        ({"history": [{"item_id": "item-3", "when": 3}]}, r"history\[0\]: has no field 'when'"),
        ({"history": [{"item_id": "item-3", "rating": "good"}]}, r"history\[0\].rating"),
        ({"now": 1.7e12}, "now: "),
        ({"n": 0}, "n: 0"),
        ({"context": {"device": ["a"]}}, "context.device"),
        ({"where": {"colour": "red"}}, "colour"),
        ({"similar_to": "item-x"}, "similar_to: 'item-x'"),
    ],
)
def test_a_mistake_is_named(recommender: Recommender, wrong: dict, match: str) -> None:
    with pytest.raises((ConfigError, CatalogError), match=match):
        recommender.recommend(**wrong)


def test_a_time_that_is_not_known_is_no_mistake(recommender: Recommender) -> None:
    events = [{"item_id": "item-3", "timestamp": None}, {"item_id": "item-4", "timestamp": 1.6e9}]
    shown = recommender.recommend(history=events, n=5, now=float("nan"))
    assert len(shown.recommendations) == 5
    assert all(0 < one.p_click < 1 for one in shown.recommendations)


def test_many_may_ask_at_once(recommender: Recommender, shop: RandomShop) -> None:
    def ask(user: int) -> list[Recommendation]:
        return recommender.recommend(history=shop.history(user), n=5, now=NOW).recommendations

    alone = [ask(user) for user in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(12))) == alone


def test_without_a_calibrator_the_answer_says_so(shop: RandomShop) -> None:
    model = ClickModel.load(shop.ctr)
    model.calibrated, model.calibrator = False, Calibrator.identity()
    shown = Recommender(Bundle(shop.bundle), model).recommend(history=["item-3"], n=3)
    assert shown.notes == [NOT_CALIBRATED]
    assert all(0 < one.p_click < 1 for one in shown.recommendations)


def test_a_bundle_without_a_click_model_is_ranked_by_its_language_model(
    recommender: Recommender, shop: RandomShop, tmp_path: Path
) -> None:
    home = shop.bundle.parent
    plain = Recommender.load(bundle_run(home / "dataset", home / "model", tmp_path / "plain"))
    assert plain.bundle.ctr is None
    history = ["item-3", "item-9"]
    found = plain.recommend(history, 7)
    assert all(one.p_click is None for one in found.recommendations)
    for other in (
        recommender.recommend(history, 7, calibrated=False),
        Recommender.load(shop.bundle, calibrated=False).recommend(history, 7),
    ):
        assert other.recommendations == found.recommendations


def test_a_click_model_of_other_items_is_not_bundled(shop: RandomShop, tmp_path: Path) -> None:
    home = shop.bundle.parent
    with writing(tmp_path / "ctr", Manifest("ctr", {}, {"dataset": "other"})) as stage:
        stage.counts["items"] = 61
    with pytest.raises(ArtifactError, match="was not made from"):
        bundle_run(home / "dataset", home / "model", tmp_path / "b", ctr=tmp_path / "ctr")
    with pytest.raises(ArtifactError, match="expected 'ctr'"):
        bundle_run(home / "dataset", home / "model", tmp_path / "b", ctr=home / "model")


def test_a_bundle_keeps_how_it_is_reranked(shop: RandomShop, tmp_path: Path) -> None:
    home = shop.bundle.parent
    parts = (home / "dataset", home / "model", tmp_path / "b")
    with pytest.raises(ConfigError, match="--ctr"):
        bundle_run(*parts, rerank=RerankConfig(per_category=1))
    flags = ["--dataset", home / "dataset", "--model", home / "model", "--ctr", home / "ctr"]
    with pytest.raises(ConfigError, match="per_category"):
        run_command(
            ["bundle", *map(str, flags), "--out", str(tmp_path), "--rerank.per-category", "0"]
        )
    opened = Recommender.load(
        bundle_run(*parts, ctr=home / "ctr", rerank=RerankConfig(per_category=1))
    )
    assert opened.bundle.rerank.per_category == 1
    items = [int(one[5:]) for one in lists(opened.recommend(n=8).recommendations)]
    assert len(set(opened.click_model.item_features.category[items])) == 8


def test_a_click_model_that_was_swapped_is_noticed(copied: Path) -> None:
    edit_manifest(copied / "ctr", seed=1)
    edit_manifest(copied)
    with pytest.raises(ArtifactError, match="click model is not the one"):
        Bundle(copied)


def test_a_missing_part_is_named(copied: Path) -> None:
    network = min((copied / "ctr").glob("*.onnx"))
    network.write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=network.name):
        Recommender.load(copied)
    shutil.rmtree(copied / "ctr" / "snapshot")
    with pytest.raises(ArtifactError, match=r"ctr/.*run llmrec bundle again"):
        Recommender.load(copied, engine="torch")


def test_the_package_names_it_without_loading_torch() -> None:
    import subprocess
    import sys

    assert llmrec.Recommender is Recommender
    code = "import sys, llmrec; print('torch' in sys.modules, 'Recommender' in llmrec.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="Recomender"):
        llmrec.Recomender  # noqa: B018


def test_unknown_fields_are_left_out_of_json() -> None:
    plain = Recommendation("a", "A", 1, 0.5, "because")
    assert list(plain.as_dict()) == ["item_id", "title", "rank", "score", "reason"]
    full = dataclasses.replace(plain, p_click=0.2, sources=("popular",))
    assert full.as_dict()["p_click"] == 0.2 and full.as_dict()["sources"] == ("popular",)


def test_requests_together_get_what_each_gets_alone(
    recommender: Recommender,
    shop: RandomShop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of all kinds, so that histories, filters and numbers of candidates differ within a batch."""
    monkeypatch.setattr(click_ranker, "AT_ONCE", 2)  # more go to the network before any is back
    where = {"in_stock": True}
    kinds: list[dict[str, Any]] = [
        {},
        {"history": []},
        {"where": where},
        {"where": where, "exclude": [f"i{n}" for n in range(9)]},
        {"exclude_history": False},
        {"context": {"device": "mobile"}, "n": 3},
        {"candidates": recommender.bundle.item_ids[:7]},
        {"rerank": {"per_category": 1}},
        {"allow": recommender.bundle.item_ids[5:9]},
    ]
    bodies = [
        {"history": shop.history(number % 7), "now": NOW} | kind
        for number, kind in enumerate(kinds * 3)
    ]
    requests = [RecommendRequest(**body) for body in bodies]
    with caplog.at_level("DEBUG", "llmrec.serving.recommender"):
        together = recommender.answer_each(requests)
    assert "failed" not in caplog.text, "each was answered alone after all"
    for request, found in zip(requests, together, strict=True):
        alone = recommender.answer(request)
        assert isinstance(found, RecommendResponse)
        assert lists(found.recommendations) == lists(alone.recommendations)
        for one, same in zip(found.recommendations, alone.recommendations, strict=True):
            assert one.p_click == pytest.approx(same.p_click, rel=1e-4)
            assert (one.reason, one.sources) == (same.reason, same.sources)
        assert found.notes == alone.notes
