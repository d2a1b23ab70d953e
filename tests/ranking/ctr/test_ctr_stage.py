"""``llmrec ctr`` and ``llmrec bench ctr`` from a recipe, on a small demo shop."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
from edit_manifest import edit_manifest

from llmrec import Recommender
from llmrec.bench.ctr_ranking import open_refreshed
from llmrec.cli import main
from llmrec.config import build
from llmrec.data.dataset import Dataset
from llmrec.data.event_store import EventStore
from llmrec.data.ingest import run as ingest
from llmrec.data.settings import IngestConfig
from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.metrics.results import read_result
from llmrec.pipeline.plan import plan
from llmrec.pipeline.recipe import read_recipe
from llmrec.pipeline.run import execute, select
from llmrec.ranking.ctr.cascade import held_out_clicks
from llmrec.ranking.ctr.dataset import ClickDataset, build_dataset, build_features
from llmrec.ranking.ctr.fit import predict
from llmrec.ranking.ctr.impression_log import Folders, ImpressionLog, ImpressionRows, TimeSplit
from llmrec.ranking.ctr.impressions import read_impressions
from llmrec.ranking.ctr.item_features import available_from, count_events, prior_rates
from llmrec.ranking.ctr.model import ClickModel, combined
from llmrec.ranking.ctr.run import run as train
from llmrec.ranking.ctr.settings import CtrConfig, LabelConfig
from llmrec.ranking.monitor.reference import Reference
from llmrec.serving.build import run as bundle
from llmrec.stage import read_manifest

RECIPE = """
name: tiny-ctr
seed: 3
demo_shop: {items: 120, users: 250}
ingest:
  events: "${out}/raw/events.jsonl"
  items: "${out}/raw/items.jsonl"
  event_types: [click]
  split: global-time
embed: {fields: [title], attributes: true, attribute_dim: 16}
models:
  early:
    index: &index {kind: atomic}
    train: &train
      base: nano
      content: {text: 16, attributes: 16}
      dropout: 0.1
      share: 0.6
      loop: {epochs: 2, warmup_steps: 5}
  final:
    index: *index
    train: {<<: *train, share: 1.0}
  refreshed:
    index: *index
    train: {<<: *train, share: 1.0, learn_validation: true}
show_users: 0
ctr:
  bench: true
  refreshed: refreshed
  labels: {kind: impressions, file: "${out}/raw/impressions.jsonl"}
  history: {types: [click], events: 20, attended: 8}
  network: &network
    {id_dim: 8, fused_dim: 8, cross_rank: 8, hidden: [16, 8], bins: 4, heads: 2, head_dim: 4}
  fit: &fit {epochs: 1, rows: 256, learning_rate: 3e-3}
  ranked: 40
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run up to the click model."""
    home = tmp_path_factory.mktemp("ctr")
    (home / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe, out = read_recipe(home / "recipe.yaml", home / "run")
    steps = plan(recipe, out, "recipe.yaml")
    execute([step for step in steps if step.stage not in ("bundle", "evaluate", "report",
                                                          "ctr-bench")])  # fmt: skip
    return out


def config_of(run: Path) -> CtrConfig:
    recipe, _ = read_recipe(run.parent / "recipe.yaml", run)
    return build(CtrConfig, recipe.sections["ctr"], "ctr")


def folders_of(run: Path) -> Folders:
    models = tuple(run / "models" / name / "model" for name in ("early", "final"))
    return Folders(run / "dataset", models=models)


@pytest.fixture(scope="module")
def data(run: Path) -> ClickDataset:
    return build_dataset(config_of(run), folders_of(run), run / "ctr_sources", 3)


def test_a_click_model_does_better_than_the_mean(run: Path) -> None:
    counts = read_manifest(run / "ctr", "ctr").counts
    figures = json.loads((run / "ctr" / "figures.json").read_text(encoding="utf-8"))
    assert counts["validation"]["auc"] > 0.65
    assert counts["tasks"] == ["click", "purchase", "rating"]
    assert figures["calibrator"] and figures["ndcg@10_by_llm_weight"]


def test_parts_follow_each_other_in_time(data: ClickDataset) -> None:
    impressions, parts = data.log.impressions, data.parts
    times = {name: impressions.time[rows] for name, rows in parts.items()}
    assert times["train"].max() < data.log.split.validation <= times["validation"].min()
    assert times["validation"].max() < data.log.split.test <= times["test"].min()
    assert sum(map(len, parts.values())) == len(impressions)


def test_a_model_never_scores_what_it_has_learned(run: Path, data: ClickDataset) -> None:
    impressions, source_features = data.log.impressions, data.source_features
    assert source_features.names[0] == "generated"
    until = [read_manifest(folder).counts["learned_until"] for folder in folders_of(run).models]
    scored = ~np.isnan(source_features.score[:, :, 0]).all(axis=1)
    assert until[0] < until[1] < data.log.split.validation
    assert not scored[impressions.time <= until[0]].any()
    assert scored[impressions.time > until[0]].mean() > 0.99


def test_what_the_future_holds_changes_no_input(run: Path, data: ClickDataset) -> None:
    """The features of early impressions, made again without anything that happened later."""
    impressions, log = data.log.impressions, data.log.events
    cut = float(np.quantile(impressions.time, 0.5))
    early = impressions.time < cut
    before = dataclasses.replace(
        log,
        **{
            name: getattr(log, name)[log.time < cut]
            for name in ("user", "item", "kind", "time", "rating")
        },
    )
    part = impressions.select(np.flatnonzero(early))
    again = build_features(
        data.builder, part, before, count_events(part, before), data.source_features[early]
    )
    wanted = data.inputs.select(np.flatnonzero(early))
    np.testing.assert_array_equal(again.candidate, wanted.candidate)
    np.testing.assert_array_equal(again.request, wanted.request)
    np.testing.assert_array_equal(again.history_items, wanted.history_items)


def test_an_opened_click_model_predicts_what_training_predicted(
    run: Path, data: ClickDataset
) -> None:
    """Serving's way to a logit, one request at a time, and the way of training agree."""
    model = ClickModel.load(run / "ctr", engine="torch")
    networks = model.networks.networks
    row = int(data.parts["validation"][5])
    inputs = data.inputs.select(np.array([row]))
    expected = predict(networks, data.item_features, inputs)[0, :, 0]
    found, bias = model.networks.run(inputs)
    position = inputs.position.astype(np.int64)
    np.testing.assert_allclose(found[0, :, 0] + bias[0, position[0]], expected, atol=1e-5)


def test_probabilities_lie_between_0_and_1_for_anything(run: Path, data: ClickDataset) -> None:
    model = ClickModel.load(run / "ctr", engine="torch")
    logits = np.array([-800.0, 0.0, 800.0])
    unknown = {"category": np.array([-1, 9999, 0]), "position": np.array([-1, 500, 0])}
    p = model.probabilities(logits, unknown)
    assert ((p > 0) & (p < 1)).all()
    inputs = data.inputs.select(np.array([0]))
    blank = dataclasses.replace(
        inputs,
        candidate=np.full_like(inputs.candidate, np.nan),
        request=np.full_like(inputs.request, np.nan),
        categories=np.zeros_like(inputs.categories),
        history_items=np.full_like(inputs.history_items, -1),
        history_types=np.full_like(inputs.history_types, -1),
    )
    assert np.isfinite(model.networks.run(blank)[0]).all()


def test_without_a_calibrator_probabilities_are_those_of_the_network(
    run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run / "ctr", tmp_path / "ctr")
    (copy / "calibrator.json").unlink()
    edit_manifest(copy)
    model = ClickModel.load(copy, engine="torch")
    assert not model.calibrated
    assert model.probabilities(np.array([0.0])).tolist() == [0.5]
    (copy / "network-0.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"network-0\.safetensors"):
        ClickModel.load(copy, engine="torch")


def test_the_reference_holds_what_the_network_reads(run: Path, data: ClickDataset) -> None:
    reference = Reference.load(run / "ctr" / "reference.json")
    names = data.inputs.names
    assert {name for name, _ in (*names.candidate, *names.request)} <= set(reference.columns)


def test_a_finished_click_model_is_not_made_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = read_recipe(run.parent / "recipe.yaml", run)
    execute(select(plan(recipe, out, "recipe.yaml"), "ctr", None))
    printed = capsys.readouterr().out
    assert "ctr-sources: up to date" in printed and "ctr: up to date" in printed


def test_the_bench_writes_figures_a_page_and_pictures(run: Path) -> None:
    recipe = run.parent / "recipe.yaml"
    out = run / "figures" / "tiny.json"
    flags = ["--dataset", run / "dataset", "--out", out, "--resamples", 20,
             "--sources", run / "ctr_sources", "--work", run / "bench", "--seed", 3,
             "--seeds", 1]  # fmt: skip
    flags += ["--models", *folders_of(run).models]
    flags += ["--refreshed", run / "models" / "refreshed" / "model", "--features", run / "features"]
    # the recipe is read as written, so its run folder is named here
    text = recipe.read_text(encoding="utf-8").replace("${out}", str(run))
    for option in ("  bench: true\n", "  refreshed: refreshed\n"):  # of the run, not of the stage
        text = text.replace(option, "")
    written = run / "recipe.yaml"
    written.write_text(text, encoding="utf-8")
    main(["bench", "ctr", str(written), *map(str, flags)])
    result = read_result(out)
    metrics = result["metrics"]
    for name in ("auc", "gauc", "log_loss", "ne", "ece", "ece_before", "time_auc_gain_percent"):
        assert np.isfinite(metrics[name]), name
    assert 0.5 < metrics["auc"] < 1
    assert metrics["recall@200_union"] >= metrics["recall@200_generated"] > 0
    llms = [metrics[f"{name}_ndcg@10"] for name in ("llm", "llm_refreshed")]
    assert llms[0] > 0 and llms[1] > 0 and llms[0] != llms[1]
    lost = metrics["cascade_ndcg@10"] - llms[1]
    assert metrics["cascade_minus_llm_refreshed_ndcg@10"] == pytest.approx(lost)
    low, high = result["intervals"]["cascade_minus_llm_refreshed_ndcg@10"]
    assert low <= lost <= high
    assert {row["model"] for row in result["rows"]} >= {
        "full",
        "no_time",
        "raw_text",
        "boosted_trees",
        "llm_alone",
    }
    page = (run / "figures" / "tiny.md").read_text(encoding="utf-8")
    assert "Less one that has also learned from the validation part" in page
    for picture in ("tiny.png", "tiny-reliability.png", "tiny-candidates.png"):
        assert picture in page and (run / "figures" / picture).stat().st_size > 5000


def test_a_refreshed_model_has_learned_until_the_test_part(run: Path, data: ClickDataset) -> None:
    opened = open_refreshed(run / "models" / "refreshed" / "model", data)
    assert data.log.split.validation <= opened.until < data.log.split.test
    with pytest.raises(ConfigError, match="has learned from nothing of the validation part"):
        open_refreshed(run / "models" / "final" / "model", data)
    early = TimeSplit(data.log.split.validation, opened.until)
    log = dataclasses.replace(data.log, split=early)
    with pytest.raises(ConfigError, match="has learned from the test part"):
        open_refreshed(run / "models" / "refreshed" / "model", dataclasses.replace(data, log=log))


def test_rows_know_their_impression_category_and_position(data: ClickDataset) -> None:
    rows = ImpressionRows.of(data.log.impressions, data.parts["test"], data.item_features)
    impressions = data.log.impressions
    assert (impressions.items[rows.impression, rows.column] == rows.item).all()
    assert (rows.fields["position"] == rows.column).all()
    assert (rows.fields["category"] >= 0).all()
    values = impressions.click[data.parts["test"]]
    np.testing.assert_array_equal(rows.take(values, data.parts["test"]), rows.click)


def test_a_dataset_that_is_not_split_by_time_is_refused(run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "ingest.yaml"
    recipe.write_text(
        f"name: x\ningest: {{events: '{run}/raw/events.jsonl', items: '{run}/raw/items.jsonl'}}\n",
        encoding="utf-8",
    )
    main(["ingest", str(recipe), "--out", str(tmp_path / "dataset")])
    with pytest.raises(ConfigError, match="is not split by time"):
        TimeSplit.of(Dataset(tmp_path / "dataset"))


def test_no_click_to_predict_is_known_from_its_own_impression(
    run: Path, data: ClickDataset
) -> None:
    """A click is preceded by a view of the same item, which no ranking may look at."""
    impressions, events = data.log.impressions, data.log.events
    config = CtrConfig(LabelConfig("ratings"))
    clicks = held_out_clicks(impressions, events, config, 0.0, np.inf, 500, 0)
    rows = (run / "raw" / "impressions.jsonl").read_text(encoding="utf-8").splitlines()
    times: dict[tuple[int, int], list[float]] = {}  # of the impressions that were clicked
    for row in map(json.loads, rows):
        user = events.user_index.get(row["user_id"], -1)
        for item, clicked in zip(row["items"], row["clicked"], strict=True):
            if clicked:
                key = (user, data.log.dataset.item_index[item])
                times.setdefault(key, []).append(row["timestamp"])
    ends = events.ends(clicks.cases.users, clicks.times)
    starts = events.starts(clicks.cases.users)
    leaks = viewed = 0
    cases = zip(clicks.cases.users, clicks.cases.targets, clicks.times, starts, ends, strict=True)
    for user, item, time, start, end in cases:
        at = max(shown for shown in times[int(user), int(item)] if shown <= time)
        of_item = np.flatnonzero(events.item[start:end] == item) + start
        leaks += int((events.time[of_item] >= at).sum())
        own = (events.user == user) & (events.item == item) & (events.time >= at)
        viewed += bool(own.any())
    assert len(clicks.cases) == 500 and viewed == 500  # there is something that could leak
    assert leaks == 0


def test_rates_are_those_of_the_training_part(data: ClickDataset) -> None:
    n = data.item_features.n_items
    train = data.counters.before(np.arange(n), np.full(n, data.log.split.validation))
    assert data.rates == prior_rates(train) != prior_rates(data.counters.totals(n))


def test_context_values_are_those_of_the_training_part(run: Path, tmp_path: Path) -> None:
    """Values that only come later are unknown, as they will be in serving."""
    split = TimeSplit.of(Dataset(run / "dataset"))
    rows = (run / "raw" / "impressions.jsonl").read_text(encoding="utf-8").splitlines()
    with open(tmp_path / "later.jsonl", "w", encoding="utf-8") as file:
        for row in map(json.loads, rows):
            part = int(row["timestamp"] >= split.validation) + int(row["timestamp"] >= split.test)
            row["context"] = {"device": ("phone", "watch", "glasses")[part]}
            file.write(json.dumps(row) + "\n")
    config = config_of(run)
    config = dataclasses.replace(
        config, labels=dataclasses.replace(config.labels, file=tmp_path / "later.jsonl")
    )
    later = build_dataset(config, folders_of(run), run / "ctr_sources", 3)
    assert later.context.as_dict() == {"device": ["phone"]}
    device = [name for name, _, _ in later.inputs.names.categories].index("device")
    codes = {name: set(later.inputs.categories[rows, device]) for name, rows in later.parts.items()}
    assert codes == {"train": {2}, "validation": {1}, "test": {1}}


def test_an_item_does_not_come_with_its_first_event(data: ClickDataset) -> None:
    """When it came is for the catalogue to say: from the log, a rival that nobody has clicked yet
    would not exist, and a new item only from the click on that is to be predicted."""
    first = np.full(data.item_features.n_items, np.inf)
    np.minimum.at(first, data.log.events.item, data.log.events.time)
    where, column = np.nonzero(data.log.impressions.mask)
    items, times = data.log.impressions.items, data.log.impressions.time
    np.minimum.at(first, items[where, column], times[where])
    came = data.item_features.available_from
    assert (np.isnan(came) | (came < first)).all()


def test_the_catalogue_says_when_an_item_came() -> None:
    table = pa.table({"item_id": ["a", "b"], "available_from": [86_400.0, None]})
    dataset = cast(Dataset, SimpleNamespace(items=table, n_items=2))
    np.testing.assert_array_equal(available_from(dataset), [86_400.0, np.nan])
    nothing = cast(Dataset, SimpleNamespace(items=table.select(["item_id"]), n_items=2))
    assert np.isnan(available_from(nothing)).all()


def test_sampled_labels_need_no_impressions(run: Path) -> None:
    config = config_of(run)
    labels = dataclasses.replace(config.labels, kind="sampled", file=None, types=("click",))
    dataset = Dataset(run / "dataset")
    log = EventStore.open(dataset)
    impressions = read_impressions(labels, log, [None] * len(log), dataset.item_index, 1)
    assert 0 < len(impressions) <= (log.kind == 1).sum()
    assert (impressions.click[:, 0] == 1).all()
    known = impressions.items[:, 1:] >= 0
    assert (impressions.click[:, 1:][known] == 0).all() and known.any(axis=1).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("labels: {kind: impressions}", "`file:` is for kind impressions"),
        ("labels: {kind: ratings, file: x}", "`file:` is for kind impressions"),
        ("labels: {kind: ratings, columns: {user_id: u}}", "how a log is read is said for kind"),
        ("labels: {kind: impressions, file: x, max_unknown: 2}", "max_unknown: must be in"),
        ("labels: {kind: impressions, file: x, columns: {usr: u}}", "columns: 'usr' is not one"),
        ("labels: {kind: ratings}\n  history: {types: [klick]}", "'klick' is not one"),
        ("labels: {kind: ratings}\n  network: {hidden: []}", "network.hidden"),
        ("labels: {kind: ratings}\n  fit: {epochs: 0}", "fit.epochs: must be 1 or more"),
        ("labels: {kind: ratings}\n  calibration: []", "names no method"),
        ("labels: {kind: ratings}\n  models: [nobody]", "'nobody' is no model with item IDs"),
        ("labels: {kind: ratings}\n  colour: red", "unknown key 'colour'"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, changes: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: x\ningest: {{events: e.csv}}\nctr:\n  {changes}\n", encoding="utf-8")
    recipe, out = read_recipe(path, tmp_path / "run")
    with pytest.raises(ConfigError, match=said):
        plan(recipe, out, str(path))


def test_an_item_that_the_language_model_does_not_know_ranks_as_its_lowest() -> None:
    score = np.zeros((1, 3))
    llm = np.array([[-1.0, -4.0, np.nan]])
    np.testing.assert_allclose(combined(score, llm, 0.5), [[-0.5, -2.0, -2.0]])
    np.testing.assert_array_equal(combined(score, np.full((1, 3), np.nan), 0.5), score)
    assert combined(score, None, 0.5) is score


@pytest.mark.parametrize(
    ("clicked", "said"),
    [
        (lambda part, flag: 1, "the train part .* has nothing that was not clicked among"),
        (lambda part, flag: flag * (part != 0), "the train part .* has no click among"),
        (lambda part, flag: flag * (part != 1), "the validation part .* has no click among"),
        (lambda part, flag: flag * (part != 2), ""),
    ],
)
def test_a_log_without_both_kinds_of_row_is_refused(
    run: Path, tmp_path: Path, clicked: Callable[[int, int], int], said: str
) -> None:
    """Nothing could be learned from it, and no calibrator be fitted to it."""
    split = TimeSplit.of(Dataset(run / "dataset"))
    rows = (run / "raw" / "impressions.jsonl").read_text(encoding="utf-8").splitlines()
    with open(tmp_path / "lists.jsonl", "w", encoding="utf-8") as file:
        for row in map(json.loads, rows):
            part = int(row["timestamp"] >= split.validation) + int(row["timestamp"] >= split.test)
            row["clicked"] = [clicked(part, flag) for flag in row["clicked"]]
            file.write(json.dumps(row) + "\n")
    config = config_of(run)
    labels = dataclasses.replace(config.labels, file=tmp_path / "lists.jsonl")
    config = dataclasses.replace(config, labels=labels)
    if not said:
        assert len(ImpressionLog.open(config, folders_of(run), 1).impressions) == len(rows)
        return
    with pytest.raises(DataError, match=said):
        train(config, run / "dataset", tmp_path / "ctr", seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["lists.jsonl"]


def test_what_is_known_of_users_is_a_feature(run: Path, tmp_path: Path) -> None:
    """A file about users is read by ingest and reaches the network as the context does."""
    events = run / "raw" / "events.jsonl"
    names = sorted({json.loads(line)["user_id"] for line in events.read_text().splitlines()})
    ages = ["young" if number % 2 else "old" for number in range(len(names))]
    lines = [f"{name},{age}" for name, age in zip(names, ages, strict=True)]
    (tmp_path / "users.csv").write_text("\n".join(["user_id,age", *lines]))
    config = IngestConfig(
        events=events, items=run / "raw" / "items.jsonl", users=tmp_path / "users.csv",
        event_types=["click"], split="global-time",
    )  # fmt: skip
    made = ingest(config, tmp_path / "dataset", seed=3)
    folders = dataclasses.replace(folders_of(run), dataset=made)
    data = build_dataset(config_of(run), folders, run / "ctr_sources", 3)
    assert sorted(data.context.as_dict()["age"]) == ["old", "young"]
    column = [name for name, _, _ in data.inputs.names.categories].index("age")
    known = dict(zip(names, ages, strict=True))
    expected = [known[data.log.events.user_ids[user]] for user in data.log.impressions.user]
    values = ["", "", *data.context.as_dict()["age"]]
    assert [values[at] for at in data.inputs.categories[:, column]] == expected


def test_a_click_model_is_bundled_with_a_model_that_it_has_read(run: Path, tmp_path: Path) -> None:
    made = bundle(run / "dataset", run / "models/final/model", tmp_path / "b", ctr=run / "ctr")
    item = Dataset(run / "dataset").item_ids[0]
    shown = Recommender.load(made).recommend(history=[item], n=3, context={"device": "phone"})
    assert [one.rank for one in shown.recommendations] == [1, 2, 3]
    assert all(0 < one.p_click < 1 for one in shown.recommendations if one.p_click is not None)
    copy = shutil.copytree(run / "ctr", tmp_path / "ctr")
    inputs = read_manifest(copy).inputs | {"model/0": "another", "model/1": "another"}
    edit_manifest(copy, inputs=inputs)
    with pytest.raises(ArtifactError, match="scores of other models than this one"):
        bundle(run / "dataset", run / "models/final/model", tmp_path / "c", ctr=copy)


def test_onnx_and_torch_say_the_same(run: Path, data: ClickDataset) -> None:
    onnx, plain = (ClickModel.load(run / "ctr", engine=name) for name in ("onnx", "torch"))
    rows = data.parts["test"][:20]
    for row in rows:
        inputs = data.inputs.select(np.array([row]))
        for one, other in zip(onnx.networks.run(inputs), plain.networks.run(inputs), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
