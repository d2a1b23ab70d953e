"""The demo shop: sound, repeatable, and with the structure that models are meant to find."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from llmrec.cli import run_command
from llmrec.demo_shop import DemoShop, DemoShopConfig, generate, run
from llmrec.demo_shop.choice import click_probabilities
from llmrec.demo_shop.ground_truth import oracle_ndcg
from llmrec.demo_shop.kinds import KIND_INDEX, KINDS
from llmrec.demo_shop.users import month_of
from llmrec.demo_shop.vocabulary import BRANDS, COLOUR_PARTNERS, COLOURS
from llmrec.errors import ConfigError, LlmrecError
from llmrec.types import EVENT_TYPES

SMALL = {"seed": 7, "n_items": 120, "n_users": 40}


@pytest.fixture(scope="module")
def shop() -> DemoShop:
    return generate(seed=0)


@pytest.fixture(scope="module")
def item_row(shop: DemoShop) -> dict[str, int]:
    return {item.item_id: row for row, item in enumerate(shop.items)}


@pytest.fixture(scope="module")
def sequences(shop: DemoShop, item_row: dict[str, int]) -> list[list[int]]:
    """Item rows that each user clicked, oldest first; users with at least three clicks."""
    clicks = defaultdict(list)
    for event in shop.events:
        if event.type == "click":
            clicks[event.user_id].append(item_row[event.item_id])
    return [items for items in clicks.values() if len(items) >= 3]


def digest(shop: DemoShop) -> str:
    text = repr((shop.items, shop.events, shop.impressions))
    return hashlib.sha256(text.encode()).hexdigest()


def ndcg_of_last(sequences: list[list[int]], score) -> float:
    """NDCG@10 of the last item of every sequence; the history is removed from the ranking."""
    gains = []
    for items in sequences:
        history, target = items[:-1], items[-1]
        scores = np.array(score(history), dtype=float)
        scores[history] = -np.inf
        rank = 1 + (scores > scores[target]).sum() + ((scores == scores[target]).sum() - 1) / 2
        gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
    return float(np.mean(gains))


# --- sound ---------------------------------------------------------------------------------


def test_tables_are_consistent():
    assert len(KIND_INDEX) == len(KINDS)
    for kind in KINDS:
        assert all(name in KIND_INDEX and name != kind.name for name in kind.then)
        assert set(kind.colours) <= set(COLOURS)
        assert any(kind.domain in brand.domains for brand in BRANDS)
    assert set(COLOUR_PARTNERS) == set(COLOURS)
    assert all(set(partners) <= set(COLOURS) for partners in COLOUR_PARTNERS.values())


def test_same_seed_same_shop_in_another_process():
    code = (
        "import hashlib; from llmrec.demo_shop import generate;"
        f"s = generate(**{SMALL!r});"
        "print(hashlib.sha256(repr((s.items, s.events, s.impressions)).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    run_ = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert run_.stdout.strip() == digest(generate(**SMALL))


def test_another_seed_is_another_shop():
    assert digest(generate(**SMALL)) != digest(generate(**{**SMALL, "seed": 8}))


def test_size(shop):
    assert len(shop.items) == 500
    assert 60_000 <= len(shop.events) <= 120_000
    assert {event.type for event in shop.events} == set(EVENT_TYPES)
    times = [event.timestamp for event in shop.events if event.session]
    assert 17 * 30 * 86_400 < max(times) - min(times) < 19 * 31 * 86_400


def test_items_are_complete(shop):
    titles = [item.title.lower() for item in shop.items]
    assert len(set(titles)) == len(titles)
    for item in shop.items:
        assert item.price > 0
        assert item.description and item.brand and item.title == item.title.strip()
        assert "{" not in item.title + item.description
        assert "  " not in item.title + item.description
        assert len(item.categories) == 2
        assert item.categories[1].lower() == item.attributes["category"]
        assert item.domain in ("clothing", "home")
        assert item.attributes["motion"] in ("still", "turning", "in_use")
    assert {item.in_stock for item in shop.items} == {True, False}


def test_titles_use_other_words_than_attributes(shop):
    """Otherwise matching strings would do what an encoder is for."""
    literal = sum(item.attributes["colour"] in item.title.lower() for item in shop.items)
    meant = sum(
        any(word in item.title.lower() for word in COLOURS[item.attributes["colour"]])
        for item in shop.items
    )
    assert literal < 0.5 * meant
    assert meant < 0.9 * len(shop.items)  # and some titles name no colour at all


def test_events_refer_to_items_that_are_on_sale(shop, item_row):
    span = 549 * 86_400
    start = np.datetime64("2024-07-01", "s").astype(np.int64)
    for event in shop.events:
        row = item_row[event.item_id]
        if event.session:
            share = (event.timestamp - start) / span
            assert shop.catalogue.arrives[row] <= share + 1e-4
            assert share - 1e-4 < shop.catalogue.leaves[row]
        assert (event.rating is not None) == (event.type in ("rating", "review"))
        assert bool(event.text) == (event.type == "review")


def test_sessions_are_ordered_and_do_not_overlap(shop):
    spans = defaultdict(list)
    previous = None
    for event in shop.events:
        if previous is not None and event.user_id == previous.user_id:
            assert event.timestamp >= previous.timestamp
        previous = event
        if event.session:
            assert event.session.startswith(event.user_id)
            assert set(event.context) == {"device", "place", "membership"}
            spans[event.user_id, event.session].append(event.timestamp)
    last_end: dict[str, float] = {}
    for (user, _), times in spans.items():
        assert times == sorted(times)
        assert min(times) > last_end.get(user, 0.0)
        last_end[user] = max(times)


def test_the_funnel_is_in_order(shop):
    """view -> click -> cart -> purchase in one session; opinions only on what was bought."""
    seen: dict[str, set] = {kind: set() for kind in EVENT_TYPES}
    needs = {"click": "view", "cart": "click", "purchase": "cart"}
    bought = set()
    for event in shop.events:
        key = (event.user_id, event.session, event.item_id)
        if event.type in needs:
            assert key in seen[needs[event.type]], event
        if event.type in ("rating", "review", "return"):
            assert (event.user_id, event.item_id) in bought, event
        if event.type == "purchase":
            bought.add((event.user_id, event.item_id))
        seen[event.type].add(key)


def test_clicked_impressions_are_the_click_events(shop):
    clicks = Counter(
        (event.user_id, event.session, event.item_id)
        for event in shop.events
        if event.type == "click"
    )
    shown = Counter()
    for impression in shop.impressions:
        assert len(set(impression.items)) == len(impression.items) == len(impression.clicked)
        assert sum(impression.clicked) <= 1
        if any(impression.clicked):
            item = impression.items[impression.clicked.index(True)]
            shown[impression.user_id, impression.session, item] += 1
    assert shown == clicks
    assert max(clicks.values()) == 1


# --- with structure to find ----------------------------------------------------------------


def test_popularity_has_a_long_tail(sequences):
    counts = np.sort(np.bincount(np.concatenate(sequences), minlength=500))[::-1]
    assert counts[:100].sum() > 0.4 * counts.sum()
    assert counts[:5].mean() > 4 * np.median(counts)


def test_order_beats_popularity_and_sets_and_leaves_headroom(shop, sequences):
    popularity = np.zeros(500)
    follows = np.zeros((500, 500))
    together = np.zeros((500, 500))
    for items in sequences:
        train = items[:-1]
        np.add.at(popularity, train, 1)
        np.add.at(follows, (train[:-1], train[1:]), 1)
        together[np.ix_(train, train)] += 1
    norm = np.sqrt(np.diag(together)) + 1e-9
    cosine = together / np.outer(norm, norm)
    prior = 3 * popularity / popularity.sum()
    by_popularity = ndcg_of_last(sequences, lambda history: popularity)
    by_set = ndcg_of_last(sequences, lambda history: cosine[history].sum(axis=0))
    by_order = ndcg_of_last(sequences, lambda history: follows[history[-1]] + prior)
    oracle = oracle_ndcg(shop.simulated)
    print(f"{by_popularity=:.4f} {by_set=:.4f} {by_order=:.4f} {oracle=:.4f}")
    assert 0.02 < by_popularity < 0.06
    assert by_order > 2 * by_popularity
    assert by_order > 1.2 * by_set
    assert oracle > 2 * by_order


def test_running_shoes_are_followed_by_socks(shop):
    """Bought rather than only seen: the next click in the session is a complement."""
    category = {item.item_id: item.attributes["category"] for item in shop.items}
    complements = {kind.name: set(kind.then) for kind in KINDS}
    hits, chances, reverse = [], [], []
    buyer = None  # the purchase that the same session's next click may follow
    for event in shop.events:
        if event.type == "purchase":
            buyer = event
        elif event.type == "click" and buyer is not None:
            if (event.user_id, event.session) == (buyer.user_id, buyer.session):
                first, then = category[buyer.item_id], category[event.item_id]
                hits.append(then in complements[first])
                reverse.append(then not in complements[first] and first in complements[then])
                chances.append(3 / len(KINDS))
            buyer = None
    assert np.mean(hits) > 5 * np.mean(chances)
    assert np.mean(hits) > 5 * np.mean(reverse)


def test_coats_sell_in_winter_and_sandals_in_summer(shop):
    category = {item.item_id: item.attributes["category"] for item in shop.items}
    clicks = [event for event in shop.events if event.type == "click"]
    months = month_of(np.array([event.timestamp for event in clicks], dtype=np.int64))
    kinds = np.array([category[event.item_id] for event in clicks])
    winter, summer = np.isin(months, [11, 12, 1, 2]), np.isin(months, [5, 6, 7, 8])

    def shares(names: list[str]) -> tuple[float, float]:
        chosen = np.isin(kinds, names)
        return float(chosen[winter].mean()), float(chosen[summer].mean())

    cold = shares(["winter coat", "gloves", "beanie"])
    hot = shares(["sandals", "shorts", "sun hat"])
    assert cold[0] > 2.5 * cold[1]
    assert hot[1] > 2.5 * hot[0]


def test_office_things_are_looked_at_on_weekday_mornings(shop):
    occasion = {item.item_id: item.attributes["occasion"] for item in shop.items}
    office: dict[bool, list[bool]] = {True: [], False: []}
    for event in shop.events:
        if event.type == "click":
            weekday, hour = int(event.timestamp // 86_400 + 3) % 7, event.timestamp % 86_400 / 3600
            at_work = weekday < 5 and 6 <= hour < 17
            office[at_work].append(occasion[event.item_id] == "office")
    assert np.mean(office[True]) > 1.3 * np.mean(office[False])


def test_click_rate_falls_with_position(shop):
    clicked = np.array([impression.clicked for impression in shop.impressions])
    shuffled = np.array([impression.shuffled for impression in shop.impressions])
    rates = clicked.mean(axis=0)
    assert (np.diff(rates) < 0).all()
    random_order = clicked[shuffled].mean(axis=0)  # position bias alone
    assert random_order[:2].mean() > 1.2 * random_order[-2:].mean()


def test_true_click_probabilities_are_calibrated(shop):
    p_click = shop.simulated.p_click.ravel()
    clicked = np.array([impression.clicked for impression in shop.impressions]).ravel()
    edges = np.quantile(p_click, np.linspace(0, 1, 11)[1:-1])
    bucket = np.digitize(p_click, edges)
    for number in range(10):
        inside = bucket == number
        expected = p_click[inside].mean()
        error = np.sqrt(expected * (1 - expected) / inside.sum())
        assert abs(clicked[inside].mean() - expected) < 5 * error


def test_click_probabilities_by_hand():
    """Two equal items shown of three on sale; the second position counts half at weight 1."""
    utility = np.array([[0.0, 0.0, 0.0, -np.inf]])
    found = click_probabilities(utility, np.array([[2, 0]]), np.array([1.0]))
    total = 1.0 + 0.5 + 3 * 0.015
    assert found == pytest.approx(np.array([[1.0 / total, 0.5 / total]]))


def test_good_items_are_rated_better_and_poor_ratings_returned(shop, item_row):
    ratings = [event for event in shop.events if event.rating is not None]
    quality = [shop.catalogue.quality[item_row[event.item_id]] for event in ratings]
    stars = [event.rating for event in ratings]
    assert np.corrcoef(quality, stars)[0, 1] > 0.3
    returned = {(event.user_id, event.item_id) for event in shop.events if event.type == "return"}
    sent_back = np.array([(event.user_id, event.item_id) in returned for event in ratings])
    poor = np.array(stars) <= 2
    assert sent_back[poor].mean() > 3 * sent_back[~poor].mean()


def test_people_cross_between_domains(shop):
    domain = {item.item_id: item.domain for item in shop.items}
    domains = defaultdict(set)
    for event in shop.events:
        domains[event.user_id].add(domain[event.item_id])
    assert np.mean([len(seen) == 2 for seen in domains.values()]) > 0.6


# --- written -------------------------------------------------------------------------------


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_write_round_trip(tmp_path):
    small = generate(**SMALL)
    folder = run(DemoShopConfig(items=120, users=40), tmp_path / "demo", seed=7)
    names = {"items.jsonl", "events.jsonl", "impressions.jsonl", "truth.json", "README.txt"}
    names.add("policies.yaml")
    assert {path.name for path in folder.iterdir()} == names | {"manifest.json"}
    assert [row["title"] for row in lines(folder / "items.jsonl")] == [
        item.title for item in small.items
    ]
    events = lines(folder / "events.jsonl")
    assert [(row["user_id"], row["item_id"], row["type"], row["timestamp"]) for row in events] == [
        (event.user_id, event.item_id, event.type, event.timestamp) for event in small.events
    ]
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    for row in lines(folder / "impressions.jsonl"):
        assert len(truth["lists"][row["list_id"]]["p_click"]) == len(row["items"])
    assert list(tmp_path.iterdir()) == [folder]  # nothing is left beside it


def test_run_skips_what_is_there_and_redoes_what_differs(tmp_path, capsys):
    out = tmp_path / "demo"
    run_command(["data", "demo", "--out", str(out), "--items", "100", "--users", "5"])
    first = (out / "events.jsonl").stat().st_mtime_ns
    run(DemoShopConfig(items=100, users=5), out)
    assert "up to date" in capsys.readouterr().out
    assert (out / "events.jsonl").stat().st_mtime_ns == first
    run(DemoShopConfig(items=100, users=5), out, seed=1)
    assert (out / "events.jsonl").stat().st_mtime_ns != first


def test_write_leaves_a_strangers_folder_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LlmrecError, match="was not written by llmrec"):
        run(DemoShopConfig(items=100, users=2), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"seed": -1}, "--seed"), ({"n_items": 99}, "--items"), ({"n_users": 0}, "--users")],
)
def test_impossible_sizes_are_refused(arguments, named):
    with pytest.raises(ConfigError, match=named):
        generate(**arguments)


def test_nothing_happens_to_an_item_before_it_is_available() -> None:
    shop = generate(3, 200, 300)
    available = {item.item_id: item.available_from for item in shop.items}
    assert len(set(available.values())) > 10  # some come later than the shop's beginning
    assert all(available[event.item_id] <= event.timestamp for event in shop.events)
    for shown in shop.impressions:
        assert all(available[item] <= shown.timestamp for item in shown.items)
