"""``llmrec bench ctr`` on a log so small that every figure can be worked out on paper.

Scores are stubs; calibration, metrics, parts, contexts, counts and ranks are the benchmark's own.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusion_world import write_features, write_media

pytest.importorskip("torch", reason="needs the train extra")

from llmrec.bench import ctr_variants
from llmrec.bench.ctr import _counts
from llmrec.bench.ctr_metrics import click_figures
from llmrec.bench.ctr_ranking import llm_ranks
from llmrec.bench.ctr_report import gain, strongest_rival, trainings
from llmrec.bench.ctr_variants import Bench, Trained
from llmrec.cli import run_command
from llmrec.content.features.blocks import FUSION_ENCODER
from llmrec.content.fusion.embedding import embed
from llmrec.content.fusion.encoder import FusionEncoder
from llmrec.content.fusion.modalities import read_modalities
from llmrec.content.fusion.settings import FusionShape
from llmrec.errors import ConfigError
from llmrec.metrics.metrics import NOT_FOUND
from llmrec.metrics.results import read_result
from llmrec.ranking.ctr.cascade import held_out_clicks
from llmrec.ranking.ctr.dataset import ClickDataset, build_dataset, run_source_features
from llmrec.ranking.ctr.impression_log import Folders, ImpressionRows
from llmrec.ranking.ctr.request_context import request_contexts
from llmrec.ranking.ctr.settings import CtrConfig, LabelConfig
from llmrec.recommender import Scorer
from llmrec.stage import Manifest, writing
from llmrec.types import Cases, Histories, Ranking

DAY = 86_400
HOUR = 3_600
START = 1_704_067_200  # 2024


def rows_of(click: list[int], people: list[int]) -> ImpressionRows:
    n = len(click)
    zeros = np.zeros(n, dtype=np.int64)
    return ImpressionRows(
        np.arange(n), zeros, zeros, np.array(people), np.array(click, dtype=float), {}
    )


# Two users of three items each; the first of each was clicked.
TEST = rows_of([1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 1])
EMPTY = rows_of([1, 0] * 4, [0, 0, 1, 1] * 2)  # too few to calibrate on
LOGITS = {
    # beats both of its own, then one of two; over all: 3.5 and 2.5 of 4 pairs each
    "full": [2.0, 1.0, 0.0, 1.0, 2.0, 0.0],
    # 0.5 and 1.5 of 4
    "no_captions": [0.0, 1.0, 2.0, 1.0, 2.0, 0.0],
    # 2 and 2 of 4
    "logistic_regression": [1.0, 2.0, 0.0, 1.5, 2.0, 0.0],
    # 2.5 and 2.5 of 4
    "no_user_attributes": [0.5, 0.5, 0.0, 0.5, 1.0, 0.0],
    # the same order, and surer of less
    "boosted_trees": [1.0, 1.0, 0.0, 1.0, 2.0, 0.0],
}


def figures(
    models: dict[str, list[Trained]], tmp_path: Path, **more: Any
) -> tuple[dict[str, float], dict[str, list[float]], list[dict[str, Any]]]:
    given: dict[str, Any] = {
        "methods": ("none",),
        "rows": {"validation": EMPTY, "test": TEST},
        "seed": 0,
        "resamples": 40,
        "plot": tmp_path / "reliability.png",
    }
    return click_figures(models=models, **(given | more))


def trained(test: list[float], validation: list[float] | None = None) -> Trained:
    return Trained(np.array(validation or [0.0] * 8), np.array(test), {})


def test_auc_groups_differences_and_gains_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    models = {name: [trained(logits)] for name, logits in LOGITS.items()}
    metrics, spans, rows = figures(models, tmp_path)
    assert metrics["auc"] == 6 / 8
    assert metrics["gauc"] == (1.0 + 0.5) / 2
    assert metrics["auc_over_no_captions"] == 6 / 8 - 2 / 8
    assert metrics["gauc_over_no_captions"] == 0.75 - (0.0 + 0.5) / 2
    assert metrics["caption_auc_gain_percent"] == pytest.approx(200.0)  # three times as high
    assert metrics["user_attribute_auc_gain_percent"] == pytest.approx(20.0)  # 6 to 5
    assert metrics["auc_over_logistic_regression"] == 6 / 8 - 4 / 8
    assert metrics["auc_over_boosted_trees"] == 6 / 8 - 5 / 8
    sign = 1 - 2 * TEST.click
    loss = {name: np.log1p(np.exp(sign * np.array(of))).mean() for name, of in LOGITS.items()}
    assert metrics["log_loss"] == pytest.approx(loss["full"])
    for name in list(LOGITS)[1:]:
        assert metrics[f"log_loss_over_{name}"] == pytest.approx(loss["full"] - loss[name])
    assert [row["model"] for row in rows] == list(LOGITS)
    assert [row["auc"][0] for row in rows] == [0.75, 0.25, 0.5, 0.625, 0.625]
    assert "auc_over_best_baseline" not in metrics
    low, high = spans["auc_over_no_captions"]
    assert low <= 0.5 <= high


def test_values_are_means_over_trainings_and_intervals_are_wider_with_them(
    tmp_path: Path,
) -> None:
    people = np.repeat(np.arange(40), 3)
    test = rows_of([1, 0, 0] * 40, people.tolist())
    good, bad = [2.0, 1.0, 0.0] * 40, [1.0, 2.0, 0.0] * 40  # AUC 1 and 1/2
    even = {"full": [trained(good), trained(good)], "popularity": [trained(bad)]}
    mixed = {"full": [trained(good), trained(bad)], "popularity": [trained(bad)]}
    rows = {"validation": EMPTY, "test": test}
    same, spans, _ = figures(even, tmp_path, rows=rows)
    assert same["auc"] == 1.0 and spans["auc"] == [1.0, 1.0]  # users are all alike
    metrics, spans, table = figures(mixed, tmp_path, rows=rows)
    assert metrics["auc"] == 0.75 and table[0]["trainings"] == 2
    assert spans["auc"] == [0.5, 1.0]  # both draws of one training, or of the other
    assert metrics["auc_over_popularity"] == 0.25 and spans["auc_over_popularity"] == [0.0, 0.5]


def test_the_calibrator_is_fitted_on_the_validation_part(tmp_path: Path) -> None:
    """One in ten and six in ten there; the test part, where it is the other way, has no say."""
    validation = rows_of([1] * 10 + [0] * 90 + [1] * 60 + [0] * 40, np.arange(200).tolist())
    logits = [-1.0] * 100 + [1.0] * 100
    test = rows_of([1, 1, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1])
    models = {"full": [trained([-1.0, -1.0, 1.0, 1.0, 1.0, -1.0], logits)],
              "popularity": [trained([0.0] * 6, [0.0] * 200)]}  # fmt: skip
    rows = {"validation": validation, "test": test}
    metrics, _, _ = figures(models, tmp_path, methods=("platt",), rows=rows)
    # Platt's targets of 70 clicks in 200 rows; two scores, so the sigmoid meets both means
    hit, miss = 71 / 72, 1 / 132
    low, high = 0.1 * hit + 0.9 * miss, 0.6 * hit + 0.4 * miss
    expected = (-3 * math.log(low) - 3 * math.log(1 - high)) / 6
    assert metrics["log_loss"] == pytest.approx(expected, rel=1e-6)
    raw = (math.log1p(math.e) * 3 + math.log1p(math.e) * 3) / 6
    assert metrics["log_loss_before"] == pytest.approx(raw)


def result_of(metrics: dict[str, float], spans: dict[str, list[float]]) -> dict[str, Any]:
    return {"metrics": metrics, "intervals": spans}


def test_a_gain_is_claimed_only_where_its_interval_lies_above_0() -> None:
    key = "caption_auc_gain_percent"
    claimed = gain(result_of({key: 0.5}, {key: [0.1, 0.9]}), "caption")
    assert claimed == "AUC gained by captions: +0.50 (+0.10 to +0.90) percent"
    for span in ([0.0, 0.9], [-0.1, 0.9], [-0.9, -0.1]):
        assert gain(result_of({key: 0.5}, {key: span}), "caption").startswith("no gain shown by")


def test_the_strongest_rival_is_chosen_for_each_metric() -> None:
    rows = [
        {"model": "full", "auc": [0.9, 0, 1], "log_loss": [0.1, 0, 1]},
        {"model": "logistic_regression", "auc": [0.8, 0, 1], "log_loss": [0.4, 0, 1]},
        {"model": "boosted_trees", "auc": [0.7, 0, 1], "log_loss": [0.3, 0, 1]},
        {"model": "popularity", "auc": [0.85, 0, 1], "log_loss": [0.2, 0, 1]},
    ]
    assert strongest_rival({"rows": rows}, "auc") == "logistic_regression"
    assert strongest_rival({"rows": rows}, "log_loss") == "boosted_trees"


# ---- a log on disk --------------------------------------------------------------------------
#
# Three users; impressions of three items on day 1 to 10. Days 1-8 train, 9 validation, 10 test.
# A click follows its impression by 20 s; a view of the clicked item lies between them, after 10 s.

ITEMS = ["a", "b", "c", "d", "e", "f"]
IMPRESSIONS = [
    # user, day, items, which was clicked, device
    ("u1", 1, "abc", "a", "phone"),
    ("u2", 1, "bcd", "b", "phone"),
    ("u3", 2, "abd", "", "laptop"),
    ("u1", 3, "bcd", "d", "phone"),
    ("u2", 4, "aef", "a", "laptop"),
    ("u3", 5, "def", "e", "phone"),
    ("u1", 8, "cef", "", "phone"),
    ("u2", 9, "cde", "c", "watch"),
    ("u3", 9, "abf", "", "phone"),
    ("u1", 10, "bef", "e", "tv"),
    ("u3", 10, "abc", "c", "tv"),
]


def start_of(day: int, row: int) -> int:
    return START + day * DAY + 12 * HOUR + row * 60


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> CtrConfig:
    path = tmp_path_factory.mktemp("labels") / "impressions.jsonl"
    lines = [
        {
            "user_id": user,
            "timestamp": start_of(day, row),
            "items": list(items),
            "clicked": [int(item == clicked) for item in items],
            "context": {"device": device},
        }
        for row, (user, day, items, clicked, device) in enumerate(IMPRESSIONS)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return CtrConfig(LabelConfig("impressions", path), snapshots=2)


def write_dataset(home: Path, users: str = "") -> Folders:
    """The log, ingested in a folder.

    Args:
        users: settings of ingest that name a table of users.
    """
    opening = {"user_id": "u4", "item_id": "f", "type": "view"}  # where the parts begin
    events = [opening | {"timestamp": START + day * DAY + HOUR} for day in (9, 10)]
    for row, (user, day, _, clicked, _) in enumerate(IMPRESSIONS):
        if clicked:
            shared = {"user_id": user, "item_id": clicked}
            for kind, after in (("view", 10), ("click", 20)):
                when = start_of(day, row) + after
                events.append(shared | {"type": kind, "timestamp": when})
    (home / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    catalogue = [{"item_id": item, "title": item, "categories": ["x"]} for item in ITEMS]
    (home / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in catalogue))
    recipe = home / "recipe.yaml"
    # 18 events: 10 before day 9, 3 on day 9, 5 on day 10
    recipe.write_text(
        f"name: x\ningest: {{events: '{home}/events.jsonl', items: '{home}/items.jsonl', "
        "timestamp_unit: s, split: global-time, "
        f"validation_share: {3 / 18}, test_share: {5 / 18}{users}}}\n"
    )
    run_command(["ingest", str(recipe), "--out", str(home / "dataset")])
    return Folders(home / "dataset")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_dataset(tmp_path_factory.mktemp("by_hand"))


@pytest.fixture(scope="module")
def data(
    config: CtrConfig, folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> ClickDataset:
    sources = run_source_features(config, folders, tmp_path_factory.mktemp("s") / "sources", 0)
    return build_dataset(config, folders, sources, 0)


def names_of(data: ClickDataset, indices: np.ndarray) -> str:
    ids = data.log.dataset.item_ids
    return "".join(ids[index] for index in indices)


def test_every_impression_is_in_the_part_of_its_day(data: ClickDataset) -> None:
    days = {
        part: ((data.log.impressions.time[rows] - START) // DAY).tolist()
        for part, rows in data.parts.items()
    }
    assert days == {"train": [1, 1, 2, 3, 4, 5, 8], "validation": [9, 9], "test": [10, 10]}


def test_the_targets_of_each_part_are_its_clicks(config: CtrConfig, data: ClickDataset) -> None:
    split = data.log.split
    spans = {
        "train": (0.0, split.validation),
        "validation": (split.validation, split.test),
        "test": (split.test, np.inf),
    }
    targets, histories = {}, {}
    for part, span in spans.items():
        found = held_out_clicks(data.log.impressions, data.log.events, config, *span, 99, 0)
        targets[part] = names_of(data, found.cases.targets)
        histories[part] = [names_of(data, history) for history in found.cases.histories]
    assert targets == {"train": "abdae", "validation": "c", "test": "ec"}
    assert histories == {"train": ["", "", "a", "b", ""], "validation": ["ba"], "test": ["ad", "e"]}


def test_nothing_after_an_impression_is_known_to_the_cascade(
    config: CtrConfig, data: ClickDataset
) -> None:
    """Not even the view that led to the click ten seconds later."""
    log = data.log
    found = held_out_clicks(log.impressions, log.events, config, 0.0, np.inf, 99, 0)
    starts = [
        start_of(day, row) for row, (_, day, _, clicked, _) in enumerate(IMPRESSIONS) if clicked
    ]
    assert found.times.tolist() == starts
    assert found.cases.histories.now is not None
    assert found.cases.histories.now.tolist() == starts
    known = request_contexts(
        log.events, found.cases.users, found.times, np.zeros((len(starts), 0), np.int32), 50
    )
    leaked = (known.items == found.cases.targets[:, None]) & (known.ages < 1.0)
    assert leaked.sum() == 0
    # events known before each: two of every earlier click of the user
    assert (known.items >= 0).sum(axis=1).tolist() == [0, 0, 2, 2, 0, 4, 4, 2]


def test_no_feature_of_an_impression_knows_its_own_events(data: ClickDataset) -> None:
    inputs, clicks = data.inputs, data.log.impressions.click == 1
    own = inputs.items[:, :, None] == inputs.history_items[:, None, :]
    assert (own & clicks[:, :, None]).sum() == 0  # nobody clicked an item twice
    counted = (inputs.history_items >= 0).sum(axis=1).tolist()
    assert counted == [0, 0, 0, 2, 2, 0, 4, 4, 2, 4, 2]


def test_priors_are_of_the_training_part_alone(data: ClickDataset) -> None:
    # 7 impressions of 3 items, 5 clicks; nothing bought, returned or rated
    assert data.rates == ((5 + 0.5) / (21 + 1), 0.5 / (5 + 1), 0.5, 3.0)


def test_context_values_are_those_of_the_training_part(data: ClickDataset) -> None:
    assert data.context.as_dict() == {"device": ["phone", "laptop"]}
    names = [name for name, _, _ in data.inputs.names.categories]
    device = data.inputs.categories[:, names.index("device")]
    # 1 is unknown: the watch of the validation part, the TV of the test part
    assert device.tolist() == [2, 2, 3, 2, 3, 2, 2, 1, 2, 1, 1]


# ---- ablations ------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every training of a network was given; networks answer 0 for everything."""
    calls: list[dict[str, Any]] = []

    class Network:
        def parameters(self) -> list[Any]:
            return []

        def save(self, path: Path) -> None:
            path.write_bytes(b"")

    class State:
        best_score = -0.5

    def train(inputs: Any, targets: Any, validation: Any, *rest: Any, captions: bool) -> Any:
        calls.append(
            {
                "groups": {
                    group
                    for kind in (inputs.names.candidate, inputs.names.request)
                    for _, group in kind
                }
                | {group for _, group, _ in inputs.names.categories},
                "rows": len(inputs),
                "validation": len(validation[0]),
                "captions": captions,
                "seed": rest[-1],
                "fused": rest[0].fused,
                "inputs": inputs,
            }
        )
        return [Network()], [State()]

    monkeypatch.setattr(ctr_variants, "train_networks", train)
    monkeypatch.setattr(
        ctr_variants, "predict", lambda networks, items, inputs: np.zeros((*inputs.items.shape, 1))
    )
    return calls


def bench_of(config: CtrConfig, folders: Folders, data: ClickDataset) -> Bench:
    rows = {
        part: ImpressionRows.of(data.log.impressions, data.parts[part], data.item_features)
        for part in ("validation", "test")
    }
    return Bench(config, folders, data, rows)


def with_captions(data: ClickDataset) -> ClickDataset:
    """As if there were captions: one more feature, and words."""
    inputs = data.inputs
    names = replace(inputs.names, candidate=(*inputs.names.candidate, ("colour", "captions")))
    more = np.zeros((*inputs.items.shape, 1), np.float32)
    candidate = np.concatenate([inputs.candidate, more], axis=2)
    return replace(
        data,
        item_features=replace(data.item_features, token_size=5),
        inputs=replace(inputs, names=names, candidate=candidate),
    )


def test_each_variant_lacks_its_part_and_nothing_else(
    config: CtrConfig, folders: Folders, data: ClickDataset, seen: list[dict[str, Any]]
) -> None:
    variants = bench_of(config, folders, with_captions(data)).variants()
    assert list(variants) == [
        "full", "no_captions", "no_time",
        "logistic_regression", "boosted_trees", "popularity",
    ]  # fmt: skip
    for name in ("full", "no_captions", "no_time"):
        made = variants[name].train(7)
        assert made.validation.shape == (6,) and made.test.shape == (6,)
    full, no_captions, no_time = seen
    assert {"time", "captions"} <= full["groups"] and full["captions"]
    assert no_time["groups"] == full["groups"] - {"time"} and no_time["captions"]
    assert no_captions["groups"] == full["groups"] - {"captions"} and not no_captions["captions"]
    assert {call["rows"] for call in seen} == {7} and {call["validation"] for call in seen} == {2}
    assert {call["seed"] for call in seen} == {7}


def test_what_a_table_says_of_users_can_be_left_out(
    config: CtrConfig, seen: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "users.csv").write_text("user_id,for_whom\nu1,women\nu2,men\nu9,kids\n")
    columns = f", users: '{tmp_path}/users.csv', user_columns: {{for_whom: for_whom}}"
    folders = write_dataset(tmp_path, columns)
    data = build_dataset(config, folders, run_source_features(config, folders, tmp_path / "s"))
    assert data.context.as_dict()["for_whom"] == ["women", "men"]  # three and two lists of train
    variants = bench_of(config, folders, data).variants()
    assert list(variants)[:3] == ["full", "no_time", "no_user_attributes"]
    for name in ("full", "no_user_attributes"):
        variants[name].train(0)
    full, without = (call["inputs"] for call in seen)
    said = [name for name, _, _ in full.names.categories].index("for_whom")
    # of the lists of the training part: u1, u2, u3, ...; nothing is known of u3
    assert full.categories[:, said].tolist() == [2, 3, 0, 2, 3, 0, 2]
    left = [at for at in range(len(full.names.categories)) if at != said]
    assert "device" in [name for name, _, _ in without.names.categories]
    assert list(without.names.categories) == [full.names.categories[at] for at in left]
    np.testing.assert_array_equal(without.categories, full.categories[:, left])
    np.testing.assert_array_equal(without.candidate, full.candidate)
    counts = _counts(data)  # of u1, u2 and u3; of u2 and u3; of u1 and u3
    found = [counts[f"{part}_users_described"] for part in ("train", "validation", "test")]
    assert found == [2, 1, 1]


def similarity(inputs: Any) -> np.ndarray:
    """``[requests, candidates]``, to the last event."""
    names = [name for name, _ in inputs.names.candidate]
    return inputs.candidate[:, :, names.index("similarity_last")]


def test_vectors_of_text_alone_and_raw_ones_are_read_wherever_vectors_are(
    config: CtrConfig,
    folders: Folders,
    data: ClickDataset,
    seen: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    blocks = {name: rng.normal(size=(6, 4)).astype(np.float32) for name in ("text", "image")}
    text = blocks["text"] / np.linalg.norm(blocks["text"], axis=1, keepdims=True)
    features = write_features(tmp_path / "features", text)
    media = write_media(tmp_path / "media", {"image": blocks["image"]}, np.ones(6, bool))
    encoder = FusionEncoder(
        FusionShape(modalities={"text": 4, "image": 4}, dim=5, width=8, heads=2)
    ).eval()
    with writing(tmp_path / "fusion", Manifest("fusion", {})) as stage:
        encoder.save(stage.folder / FUSION_ENCODER)
    bench = bench_of(config, replace(folders, fusion=tmp_path / "fusion"), data)
    variants = replace(bench, features=features, media=media).variants()
    assert list(variants)[:4] == ["full", "no_time", "no_media", "raw_text"]
    for name in ("no_media", "raw_text"):
        variants[name].train(0)
    alone, raw = seen
    modalities = read_modalities(features, media, 6)
    hidden = np.array([[True, False]] * 6)
    np.testing.assert_array_equal(alone["fused"], embed(encoder, modalities, hidden))
    np.testing.assert_array_equal(raw["fused"], text)
    for call in seen:  # u1 on day 3: the last event is on item a, candidates are b, c, d
        wanted = call["fused"][1:4] @ call["fused"][0]
        np.testing.assert_allclose(similarity(call["inputs"])[3], wanted, atol=1e-6)


def test_what_does_not_depend_on_a_seed_is_trained_once(
    config: CtrConfig, folders: Folders, data: ClickDataset
) -> None:
    random = {name: one.random for name, one in bench_of(config, folders, data).variants().items()}
    assert random == {
        "full": True, "no_time": True, "logistic_regression": False,
        "boosted_trees": True, "popularity": False,
    }  # fmt: skip


# ---- ranking --------------------------------------------------------------------------------


class Scores:
    """Scores the items by their index, the last one highest."""

    n_items = 6

    def score(self, histories: Histories) -> np.ndarray:
        return np.tile(np.arange(6, dtype=np.float32), (len(histories), 1))


class Lists:
    """The same as lists."""

    n_items = 6

    def recommend(
        self, histories: Histories, n: int, *, constraints: Any, exclude_history: bool = True
    ) -> Ranking:
        lists = np.full((len(histories), n), -1, dtype=np.int64)
        for user, history in enumerate(histories):
            known = set(history.tolist()) if exclude_history else set()
            allowed = constraints[user].allow.passes
            found = [item for item in range(5, -1, -1) if item not in known and allowed[item]]
            lists[user, : len(found)] = found[:n]
        return Ranking(lists, np.zeros(lists.shape, np.float32))


@pytest.mark.parametrize("model", [Scores(), Lists()])
def test_the_language_model_ranks_what_the_cascade_ranks(model: Any) -> None:
    """Without the history, and without what came into the catalogue later."""
    assert isinstance(model, Scorer) == isinstance(model, Scores)
    histories = Histories.from_lists([[5, 4], [], [0, 3], [2]])
    cases = Cases(np.arange(4), histories, np.array([3, 0, 3, 1]))
    available = np.ones((4, 6), dtype=bool)
    assert llm_ranks(model, cases, available).tolist() == [0, 5, NOT_FOUND, 3]
    available[1, [1, 2]] = False
    available[3, 1] = False
    assert llm_ranks(model, cases, available).tolist() == [0, 3, NOT_FOUND, NOT_FOUND]


# ---- the command ----------------------------------------------------------------------------


def test_a_killed_run_goes_on_and_seeds_share_no_network(
    config: CtrConfig,
    folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds: list[int] = []
    real = ctr_variants.train_networks

    def train(*given: Any, captions: bool) -> Any:
        seeds.append(given[-1])
        if len(seeds) == 3:
            raise KeyboardInterrupt
        return real(*given, captions=captions, quiet=True)

    monkeypatch.setattr(ctr_variants, "train_networks", train)
    network = {"id_dim": 4, "fused_dim": 4, "cross_rank": 4, "hidden": [8], "bins": 2, "heads": 1,
               "head_dim": 4, "copies": 2}  # fmt: skip
    section = {
        "labels": {"kind": "impressions", "file": str(config.labels.file)},
        "network": network,
        "fit": {"epochs": 1},
        "snapshots": 2,
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"name": "x", "seed": 4, "ctr": section}))
    out = tmp_path / "results" / "ctr-toy.json"
    command = ["bench", "ctr", str(recipe), "--dataset", str(folders.dataset), "--out", str(out),
               "--work", str(tmp_path / "work"), "--seeds", "2", "--resamples", "20"]  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        run_command(command)
    assert seeds == [4, 6, 4] and not out.exists()  # full twice, then no_time
    run_command(command)
    assert seeds == [4, 6, 4, 4, 6]
    assert "training no_time, seed 6" in capsys.readouterr().out
    result = read_result(out)
    assert result["seeds"] == 2 and result["seed"] == 4
    assert {row["model"]: row["trainings"] for row in result["rows"]} == {
        "full": 2, "no_time": 2, "logistic_regression": 1, "boosted_trees": 2, "popularity": 1,
    }  # fmt: skip
    page = (out.parent / "ctr-toy.md").read_text()
    assert "over 2 trainings of each model" in page and "one training" not in page
    for picture in ("ctr-toy.png", "ctr-toy-reliability.png", "ctr-toy-candidates.png"):
        assert picture in page and (out.parent / picture).stat().st_size > 5000
    run_command(command)
    assert len(seeds) == 5
    assert read_result(out)["metrics"] == result["metrics"]


def test_a_page_of_one_training_says_so() -> None:
    one = "one training, no interval over seeds"
    assert one in trainings({"seeds": 1})
    assert one not in trainings({"seeds": 5})


def test_only_the_variants_that_are_named_are_trained(
    config: CtrConfig, folders: Folders, tmp_path: Path
) -> None:
    section = {
        "labels": {"kind": "impressions", "file": str(config.labels.file)},
        "network": {"id_dim": 4, "fused_dim": 4, "hidden": [8], "bins": 2, "heads": 1},
        "fit": {"epochs": 1},
        "snapshots": 2,
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"name": "x", "ctr": section}))
    out = tmp_path / "ctr-toy.json"
    command = ["bench", "ctr", str(recipe), "--dataset", str(folders.dataset), "--out", str(out),
               "--work", str(tmp_path / "work"), "--seeds", "1", "--resamples", "20"]  # fmt: skip
    run_command([*command, "--variants", "no_time"])
    assert [row["model"] for row in read_result(out)["rows"]] == ["full", "no_time"]
    page = (tmp_path / "ctr-toy.md").read_text()
    assert "by time" in page and "strongest rival" not in page
    with pytest.raises(ConfigError, match="--variants: 'no_tim' is none of full, no_time, log"):
        run_command([*command, "--variants", "no_tim"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "0"], "--seeds: 0 is too small; give at least 1"),
        (["--out", "x.csv"], "--out x.csv: give the name of a .json file"),
    ],
)
def test_a_wrong_flag_is_one_line(
    flags: list[str], message: str, folders: Folders, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("ctr: {labels: {kind: ratings}}\n")
    given = ["--dataset", str(folders.dataset), "--out", str(tmp_path / "x.json")]
    with pytest.raises(ConfigError, match=message):
        run_command(["bench", "ctr", str(recipe), *given, *flags])
