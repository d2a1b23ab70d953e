"""``llmrec ctr`` and ``llmrec bench ctr`` from a recipe, on a small demo shop."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from llmrec import Recommender
from llmrec.cli import main
from llmrec.config import build
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError
from llmrec.metrics.results import read_result
from llmrec.pipeline.recipe import execute, plan, read_recipe, select
from llmrec.ranking.ctr.features import Signals
from llmrec.ranking.ctr.fit import predict
from llmrec.ranking.ctr.lists import read_lists
from llmrec.ranking.ctr.log import open_log
from llmrec.ranking.ctr.material import Folders, Material, Rows, gather, open_shop
from llmrec.ranking.ctr.model import ClickModel, combined
from llmrec.ranking.ctr.moments import moments_of
from llmrec.ranking.ctr.prepare import boundaries
from llmrec.ranking.ctr.ranking import choices
from llmrec.ranking.ctr.run import run as train
from llmrec.ranking.ctr.settings import CtrConfig, Labels, split_section
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
show_users: 0
ctr:
  bench: true
  log: {event_types: []}
  labels: {kind: impressions, file: "${out}/raw/impressions.jsonl"}
  past: {types: [click], events: 20, attended: 8}
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
    assert recipe.ctr is not None
    return build(CtrConfig, split_section(recipe.ctr, "ctr")[1], "ctr")


def folders_of(run: Path) -> Folders:
    models = tuple(run / "models" / name / "model" for name in ("early", "final"))
    return Folders(run / "dataset", run / "log", models=models)


@pytest.fixture(scope="module")
def material(run: Path) -> Material:
    return gather(config_of(run), folders_of(run), run / "ctr_signals", 3)


def test_a_click_model_does_better_than_the_mean(run: Path) -> None:
    counts = read_manifest(run / "ctr", "ctr").counts
    figures = json.loads((run / "ctr" / "figures.json").read_text(encoding="utf-8"))
    assert counts["validation"]["auc"] > 0.65
    assert counts["tasks"] == ["click", "purchase", "rating"]
    assert figures["calibrator"] and figures["ndcg@10_by_llm_weight"]


def test_parts_follow_each_other_in_time(material: Material) -> None:
    lists, parts = material.shop.lists, material.parts
    times = {name: lists.time[rows] for name, rows in parts.items()}
    assert times["train"].max() < material.shop.bounds.validation <= times["validation"].min()
    assert times["validation"].max() < material.shop.bounds.test <= times["test"].min()
    assert sum(map(len, parts.values())) == len(lists)


def test_a_model_never_scores_what_it_has_learned(run: Path, material: Material) -> None:
    lists, signals = material.shop.lists, material.signals
    assert signals.names[0] == "generated"
    until = [read_manifest(folder).counts["learned_until"] for folder in folders_of(run).models]
    scored = ~np.isnan(signals.score[:, :, 0]).all(axis=1)
    assert until[0] < until[1] < material.shop.bounds.validation
    assert not scored[lists.time <= until[0]].any()
    assert scored[lists.time > until[0]].mean() > 0.99


def test_what_the_future_holds_changes_no_input(run: Path, material: Material) -> None:
    """The inputs of what was shown early, made again without anything that happened later."""
    lists, log = material.shop.lists, material.shop.log
    cut = float(np.quantile(lists.time, 0.5))
    early = lists.time < cut
    from llmrec.ranking.ctr.prepare import assemble
    from llmrec.ranking.ctr.shelf import happenings

    before = dataclasses.replace(
        log,
        **{
            name: getattr(log, name)[log.time < cut]
            for name in ("user", "item", "kind", "time", "rating")
        },
    )
    shown = lists.select(np.flatnonzero(early))
    said = material.signals
    part = Signals(said.names, said.rank[early], said.score[early], said.counts[early])
    config = config_of(run)
    again = assemble(
        material.assembler, shown, before, happenings(shown, before), part, config.past
    )
    whole = material.inputs.select(np.flatnonzero(early))
    np.testing.assert_array_equal(again.pair, whole.pair)
    np.testing.assert_array_equal(again.whole, whole.whole)
    np.testing.assert_array_equal(again.past_items, whole.past_items)


def test_an_opened_click_model_says_what_training_said(run: Path, material: Material) -> None:
    """Serving's way to a logit, one moment at a time, and the way of training agree."""
    model = ClickModel.load(run / "ctr", engine="torch")
    heads = model.heads.heads
    row = int(material.parts["validation"][5])
    inputs = material.inputs.select(np.array([row]))
    expected = predict(heads, material.shelf, inputs)[0, :, 0]
    found, added = model.heads.run(inputs)
    position = inputs.position.astype(np.int64)
    np.testing.assert_allclose(found[0, :, 0] + added[0, position[0]], expected, atol=1e-5)


def test_probabilities_lie_between_0_and_1_for_anything(run: Path, material: Material) -> None:
    model = ClickModel.load(run / "ctr", engine="torch")
    logits = np.array([-800.0, 0.0, 800.0])
    unknown = {"category": np.array([-1, 9999, 0]), "position": np.array([-1, 500, 0])}
    p = model.probabilities(logits, unknown)
    assert ((p > 0) & (p < 1)).all()
    inputs = material.inputs.select(np.array([0]))
    blank = dataclasses.replace(
        inputs,
        pair=np.full_like(inputs.pair, np.nan),
        whole=np.full_like(inputs.whole, np.nan),
        categories=np.zeros_like(inputs.categories),
        past_items=np.full_like(inputs.past_items, -1),
        past_kinds=np.full_like(inputs.past_kinds, -1),
    )
    assert np.isfinite(model.heads.run(blank)[0]).all()


def test_without_a_calibrator_the_head_speaks_for_itself(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run / "ctr", tmp_path / "ctr")
    (copy / "calibrator.json").unlink()
    model = ClickModel.load(copy, engine="torch")
    assert not model.calibrated
    assert model.probabilities(np.array([0.0])).tolist() == [0.5]
    (copy / "head-0.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"head-0\.safetensors"):
        ClickModel.load(copy, engine="torch")


def test_the_reference_holds_what_the_head_reads(run: Path, material: Material) -> None:
    reference = Reference.load(run / "ctr" / "reference.json")
    names = material.inputs.names
    assert {name for name, _ in (*names.pair, *names.whole)} <= set(reference.columns)


def test_a_finished_click_model_is_not_made_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = read_recipe(run.parent / "recipe.yaml", run)
    execute(select(plan(recipe, out, "recipe.yaml"), "ctr", None))
    printed = capsys.readouterr().out
    assert "ctr-signals: up to date" in printed and "ctr: up to date" in printed


def test_the_bench_writes_figures_a_page_and_pictures(run: Path) -> None:
    recipe = run.parent / "recipe.yaml"
    out = run / "figures" / "tiny.json"
    flags = ["--dataset", run / "dataset", "--log", run / "log", "--out", out, "--resamples", 20,
             "--signals", run / "ctr_signals", "--seed", 3]  # fmt: skip
    for model in folders_of(run).models:
        flags += ["--model", model]
    # the recipe is read as written, so its run folder is named here
    text = recipe.read_text(encoding="utf-8").replace("${out}", str(run))
    written = run / "recipe.yaml"
    written.write_text(text, encoding="utf-8")
    main(["bench", "ctr", str(written), *map(str, flags)])
    result = read_result(out)
    metrics = result["metrics"]
    for name in ("auc", "gauc", "log_loss", "ne", "ece", "ece_before", "time_auc_gain_percent"):
        assert np.isfinite(metrics[name]), name
    assert 0.5 < metrics["auc"] < 1
    assert metrics["recall@200_union"] >= metrics["recall@200_generated"] > 0
    assert {row["model"] for row in result["rows"]} >= {"full", "no_time", "trees", "llm_alone"}
    page = (run / "figures" / "tiny.md").read_text(encoding="utf-8")
    for picture in ("tiny.png", "tiny-reliability.png", "tiny-candidates.png"):
        assert picture in page and (run / "figures" / picture).stat().st_size > 5000


def test_rows_know_their_list_category_and_place(material: Material) -> None:
    rows = Rows.of(material.shop.lists, material.parts["test"], material.shelf)
    lists = material.shop.lists
    assert (lists.items[rows.lists, rows.place] == rows.item).all()
    assert (rows.fields["position"] == rows.place).all()
    assert (rows.fields["category"] >= 0).all()
    values = lists.click[material.parts["test"]]
    np.testing.assert_array_equal(rows.take(values, material.parts["test"]), rows.click)


def test_a_dataset_that_is_not_split_by_time_is_refused(run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "ingest.yaml"
    recipe.write_text(
        f"name: x\ningest: {{events: '{run}/raw/events.jsonl', items: '{run}/raw/items.jsonl'}}\n",
        encoding="utf-8",
    )
    main(["ingest", str(recipe), "--out", str(tmp_path / "dataset")])
    with pytest.raises(ConfigError, match="is not split by time"):
        boundaries(Dataset(tmp_path / "dataset"))


def test_a_log_of_other_items_is_refused(run: Path, tmp_path: Path) -> None:
    main(["data", "demo", "--out", str(tmp_path / "raw"), "--items", "110", "--users", "20"])
    recipe = tmp_path / "ingest.yaml"
    recipe.write_text(
        f"name: x\ningest: {{events: '{tmp_path}/raw/events.jsonl', "
        f"items: '{tmp_path}/raw/items.jsonl', split: global-time}}\n",
        encoding="utf-8",
    )
    main(["ingest", str(recipe), "--out", str(tmp_path / "log")])
    folders = dataclasses.replace(folders_of(run), log=tmp_path / "log")
    with pytest.raises(ConfigError, match="its items are not those of"):
        open_shop(config_of(run), folders, 0)


def test_what_people_chose_is_not_in_what_is_known_of_them(material: Material) -> None:
    """A click is preceded by a view of the same item, which no ranking may look at."""
    asked = choices(
        material.shop.lists, material.shop.log, CtrConfig(Labels("ratings")), 0.0, np.inf, 500, 0
    )
    assert len(asked.cases) == 500
    moments = moments_of(
        material.shop.log, asked.cases.users, asked.times, np.zeros((500, 0), np.int32), 50
    )
    seen = (moments.items == asked.cases.targets[:, None]) & (moments.ages < 0.5 / 24)
    assert seen.mean(axis=1).sum() < 5  # views without a click may come again, not just before


def test_sampled_labels_need_no_impressions(run: Path) -> None:
    config = config_of(run)
    labels = dataclasses.replace(config.labels, kind="sampled", file=None, types=("click",))
    dataset = Dataset(run / "log")
    log = open_log(dataset)
    lists = read_lists(labels, log, [None] * len(log), dataset.item_index, 1)
    assert 0 < len(lists) <= (log.kind == 1).sum()
    assert np.nanmean(lists.click) == pytest.approx(1 / 9, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("labels: {kind: impressions}", "`file:` names the lists"),
        ("labels: {kind: ratings, file: x}", "`file:` names the lists"),
        ("labels: {kind: ratings}\n  past: {types: [klick]}", "'klick' is not one"),
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


def test_a_log_in_which_everything_was_clicked_has_a_defined_answer(
    run: Path, tmp_path: Path
) -> None:
    """Nothing tells clicks apart, so all are as likely as (k + 1) / (n + 2)."""
    lines = (run / "raw" / "impressions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    ones = [row | {"clicked": [1] * len(row["items"])} for row in rows]
    (tmp_path / "ones.jsonl").write_text("\n".join(map(json.dumps, ones)), encoding="utf-8")
    config = config_of(run)
    labels = dataclasses.replace(config.labels, file=tmp_path / "ones.jsonl")
    folders = Folders(run / "dataset", run / "log")
    made = train(dataclasses.replace(config, labels=labels), folders, tmp_path / "ctr", 1)
    model = ClickModel.load(made, engine="torch")
    p = model.probabilities(np.array([-3.0, 0.0, 9.0]))
    n = read_manifest(tmp_path / "ctr_signals").counts["lists"]
    assert n > 0 and (p < 1).all() and (p > 0.99).all()
    assert np.ptp(p) < 1e-3


def test_a_click_model_is_bundled_with_a_model_that_it_has_read(run: Path, tmp_path: Path) -> None:
    made = bundle(
        run / "dataset", None, run / "models/final/model", tmp_path / "b", ctr=run / "ctr"
    )
    item = Dataset(run / "dataset").item_ids[0]
    shown = Recommender.load(made).recommend(history=[item], n=3, context={"device": "phone"})
    assert [one.rank for one in shown.recommendations] == [1, 2, 3]
    assert all(0 < one.p_click < 1 for one in shown.recommendations if one.p_click is not None)
    copy = shutil.copytree(run / "ctr", tmp_path / "ctr")
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["inputs"] |= {"model/0": "another", "model/1": "another"}
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match="scores of other models than this one"):
        bundle(run / "dataset", None, run / "models/final/model", tmp_path / "c", ctr=copy)


def test_onnx_and_torch_say_the_same(run: Path, material: Material) -> None:
    onnx, plain = (ClickModel.load(run / "ctr", engine=name) for name in ("onnx", "torch"))
    rows = material.parts["test"][:20]
    for row in rows:
        inputs = material.inputs.select(np.array([row]))
        for one, other in zip(onnx.heads.run(inputs), plain.heads.run(inputs), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
