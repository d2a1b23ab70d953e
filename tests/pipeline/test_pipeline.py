"""``llmrec run``: order, paths, selection and messages, on stages that only note their call.

The stages themselves are tested with their modules.
"""

import json
import re
from pathlib import Path

import pytest
from toy_stages import CALLS, ToyConfig, toy_stages

from llmrec.config import load_recipe
from llmrec.errors import ArtifactError, ConfigError
from llmrec.files import locked
from llmrec.pipeline import report
from llmrec.pipeline.plan import Step, plan
from llmrec.pipeline.recipe import read_recipe
from llmrec.pipeline.run import execute, run, select

RECIPE = """
name: tiny
seed: 7
demo_shop: {width: 3}
ingest: {source: "${out}/raw", width: 2}
embed: {}
models:
  atomic: {index: {}, train: {width: 8}}
  sasrec: {train: {source: scratch}}
baselines: [popularity]
evaluate: {width: 5}
"""

STEPS = [
    "demo_shop",
    "ingest",
    "embed",
    "atomic/index",
    "atomic/train",
    "sasrec/train",
    "atomic/bundle",
    "popularity/evaluate",
    "atomic/evaluate",
    "sasrec/evaluate",
    "report",
    "show",
]


def write(tmp_path: Path, text: str = RECIPE) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return path


def planned(path: Path, out: Path | None = None) -> list[Step]:
    stages = toy_stages()
    recipe, folder = read_recipe(path, out, stages)
    return plan(recipe, folder, str(path), stages)


def test_every_stage_runs_once_in_order_with_its_settings_and_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    steps = planned(write(tmp_path), out)
    assert [step.name for step in steps] == STEPS
    assert CALLS == []
    execute(steps[:-2])
    home, dataset, features = out / "models", out / "dataset", out / "features"
    inputs = {"dataset": dataset, "features": features}
    ids = home / "atomic/item_ids"
    assert [
        ("data demo", ToyConfig(3), {"out": out / "raw", "seed": 7}),
        ("ingest", ToyConfig(2, f"{out}/raw"), {"out": dataset, "seed": 7}),
        ("embed", ToyConfig(), {"dataset": dataset, "enhanced": None, "out": features, "seed": 7}),
        ("index", ToyConfig(), inputs | {"out": ids, "seed": 7}),
        (
            "train",
            ToyConfig(8),
            inputs | {"item_ids": ids, "media": None, "out": home / "atomic/model", "seed": 7},
        ),
        (
            "train",
            ToyConfig(source="scratch"),
            inputs | {"item_ids": None, "media": None, "out": home / "sasrec/model", "seed": 7},
        ),
        (
            "bundle",
            None,
            inputs
            | {"model": home / "atomic/model", "ctr": None, "hybrid": None}
            | {"out": home / "atomic/bundle"},
        ),
        *(
            (
                "evaluate",
                ToyConfig(5),
                {
                    "dataset": dataset,
                    "out": out / "evaluation" / f"tiny-{name}",
                    "seed": 7,
                }
                | target,
            )
            for name, target in [
                ("popularity", {"model": "popularity", "features": features}),
                ("atomic", {"model": home / "atomic/bundle"}),
                ("sasrec", {"model": home / "sasrec/model"}),
            ]
        ),
    ] == CALLS
    printed = capsys.readouterr().out
    headings = [line.split()[-1] for line in printed.splitlines() if line.startswith("== ")]
    assert headings == STEPS[:-2]


def test_a_model_is_trained_from_several_seeds_and_its_figures_are_means(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = RECIPE.replace("train: {width: 8}}", "train: {width: 8}, hybrid: {}, seeds: 2}")
    steps = planned(write(tmp_path, text), out)
    names = [step.name for step in steps]
    assert names[3:8] == [
        *("atomic/index", "atomic/train", "atomic/hybrid"),
        *("atomic-seed1/train", "atomic-seed1/hybrid"),
    ]
    assert names[-4:] == ["tiny-atomic/seeds", "tiny-hybrid/seeds", "report", "show"]
    execute(steps[:-2])
    made = {call["out"]: (call.get("seed"), call) for _, _, call in CALLS[:-2]}
    home = out / "models"
    for name, seed in (("atomic", 7), ("atomic-seed1", 8)):
        assert made[home / name / "model"][0] == seed
        assert made[home / name / "model"][1]["item_ids"] == home / "atomic/item_ids"
        assert made[home / name / "hybrid"][1]["model"] == home / name / "model"
        assert made[home / name / "bundle"][1]["hybrid"] == home / name / "hybrid"
    assert made[out / "evaluation/tiny-atomic-seed1"][1]["model"] == home / "atomic-seed1/model"
    assert made[out / "evaluation/tiny-hybrid-seed1"][1]["model"] == home / "atomic-seed1/bundle"
    stage, of_each, mean = CALLS[-1]
    folder = out / "evaluation"
    assert stage == "evaluate seeds"
    assert of_each == [folder / n / f"{n}.json" for n in ("tiny-hybrid", "tiny-hybrid-seed1")]
    assert mean["out"] == folder / "tiny-hybrid-seeds" / "tiny-hybrid.json"


def test_a_hybrid_is_measured_once_more_with_a_graph_that_has_seen_newer_events(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    text = RECIPE.replace("train: {width: 8}}", "train: {width: 8}, hybrid: {}, refreshed: true}")
    execute(
        [step for step in planned(write(tmp_path, text), out) if step.name.endswith("/evaluate")]
    )
    measured = {call["out"].name: (call["model"], config) for _, config, call in CALLS}
    bundle = out / "models" / "atomic" / "bundle"
    assert measured["tiny-hybrid"] == (bundle, ToyConfig(5))
    assert measured["tiny-hybrid-refreshed"] == (bundle, ToyConfig(5, refreshed=True))
    with pytest.raises(ConfigError, match=r"models\.atomic\.refreshed: needs `hybrid`"):
        planned(write(tmp_path, text.replace("hybrid: {}, ", "")), out)


def test_several_domains_are_measured_together_and_apart(tmp_path: Path) -> None:
    out = tmp_path / "run"
    models = "\n".join(
        [
            "  emf: {train: {}, seeds: 2}",
            "  sasrec-food: {train: {domain: food}}",
            "  sasrec-kitchen: {train: {domain: kitchen}}",
        ]
    )
    text = re.sub(r"  atomic.*\n  sasrec.*", models, RECIPE)
    text = text.replace("evaluate: {width: 5}", "domains: {width: 5, shuffled: runs/other}")
    steps = planned(write(tmp_path, text), out)
    names = ["popularity", "popularity-own", "emf", "sasrec-own"]
    assert [step.name for step in steps[-4:]] == [f"{name}/domains" for name in names]
    execute(steps[-4:])
    home = out / "models"
    asked = [
        (["popularity"], "all"),
        (["popularity"], "own"),
        ([str(home / name / "model") for name in ("emf", "emf-seed1")], "all"),
        ([str(home / f"sasrec-{name}" / "model") for name in ("food", "kitchen")], "own"),
    ]
    assert [(call["models"], config.history) for _, config, call in CALLS] == asked
    for name, (_, config, call) in zip(names, CALLS, strict=True):
        assert config.width == 5
        assert call["out"] == out / "evaluation" / f"tiny-{name}"
        other = f"other-{name}"
        assert call["shuffled"] == Path("runs/other/evaluation") / other / f"{other}.json"
    with pytest.raises(ConfigError, match="strong tunes over the whole catalogue"):
        planned(write(tmp_path, text.replace("[popularity]", "[strong]")), out)


def test_results_are_printed_a_line_each_and_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tmp_path / "tiny-sasrec.json"
    result.write_text(
        json.dumps(
            {
                "name": "tiny-sasrec",
                "metrics": {"recall@10": 0.25, "ndcg@10": 0.125, "mrr": 0},
                "history_removed": True,
            }
        )
    )
    monkeypatch.setattr(
        "llmrec.bench.evaluation_report.write_report", lambda results, out: print(out / "index.md")
    )
    report.evaluations([result.parent], tmp_path / "report", tmp_path / "copies")
    printed = capsys.readouterr().out
    assert "tiny-sasrec                       0.2500      0.1250      0.0000" in printed
    assert str(tmp_path / "report" / "index.md") in printed
    assert (tmp_path / "copies" / result.name).read_text() == result.read_text()


def test_scenarios_of_a_shop_go_into_its_bundles(tmp_path: Path) -> None:
    text = "name: n\ningest: {}\nmodels: {a: {index: {}, train: {}}}\nscenarios: "
    recipe = write(tmp_path, text + "{hats: {scenario: trending, n: 3}}\n")
    steps = planned(recipe)
    execute([step for step in steps if step.stage == "bundle"])
    assert CALLS[0][2]["scenarios"] == recipe
    with pytest.raises(ConfigError, match=r"scenarios\.hats\.scenario: give one of home"):
        planned(write(tmp_path, text + "{hats: {scenario: trendy}}\n"))


def test_a_recipe_without_options_has_only_what_it_names(tmp_path: Path) -> None:
    steps = planned(write(tmp_path, "name: n\ningest: {}\nbaselines: [popularity]\n"))
    assert [step.name for step in steps] == ["ingest", "popularity/evaluate", "report"]
    execute(steps[:1])
    assert CALLS[0][2] == {"out": Path("runs/n/dataset"), "seed": 0}


@pytest.mark.parametrize(
    ("only", "start", "expected"),
    [
        (None, None, STEPS),
        ("train", None, ["atomic/train", "sasrec/train"]),
        ("sasrec/train", None, ["sasrec/train"]),
        (None, "atomic/train", STEPS[4:]),
        (None, "evaluate", STEPS[7:]),
        (None, "demo_shop", STEPS),
    ],
)
def test_some_of_the_stages(
    tmp_path: Path, only: str | None, start: str | None, expected: list[str]
) -> None:
    steps = planned(write(tmp_path))
    assert [step.name for step in select(steps, only, start)] == expected


@pytest.mark.parametrize(("only", "start"), [("traim", None), (None, "traim")])
def test_a_stage_that_is_not_there(tmp_path: Path, only: str | None, start: str | None) -> None:
    steps = planned(write(tmp_path))
    with pytest.raises(ConfigError, match="traim: no such stage in this recipe; it has demo_shop"):
        select(steps, only, start)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 7", "sed: 7", r"tiny\.yaml: unknown key 'sed'; did you mean 'seed'\?"),
        ("seed: 7", "seed: x", r"tiny\.yaml\.seed: expected int, got 'x'"),
        ("width: 2", "widht: 2", r"tiny\.yaml: ingest: unknown key 'widht'; did you mean 'width'"),
        ("width: 8", "width: a", r"tiny\.yaml: models\.atomic\.train\.width: expected int"),
        ("index: {}", "index: {x: 1}", r"tiny\.yaml: models\.atomic\.index: unknown key 'x'"),
        (
            "index: {}",
            "idnex: {}",
            r"tiny\.yaml\.models\.atomic: unknown key 'idnex'; did you mean 'index'",
        ),
        ("width: 5", "width: 5, k: 1", r"tiny\.yaml: evaluate: unknown key 'k'"),
        ("[popularity]", "[atomic]", r"tiny\.yaml: 'atomic' is both a model and a baseline"),
        ("sasrec:", "../x:", r"tiny\.yaml: '\.\./x' names a folder: use letters"),
        ("name: tiny", "title: tiny", r"tiny\.yaml: unknown key 'title'"),
        ("ingest: {", "Ingest: {", r"tiny\.yaml: unknown key 'Ingest'; did you mean 'ingest'"),
        ("${out}", "${LLMREC_NOT_SET}", r"tiny\.yaml\.ingest\.source: \$\{LLMREC_NOT_SET\} is not"),
    ],
)
def test_a_mistake_names_its_section_before_anything_runs(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert RECIPE.count(old) == 1
    with pytest.raises(ConfigError, match=message) as caught:
        planned(write(tmp_path, RECIPE.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_a_stage_that_fails_stops_the_run(tmp_path: Path) -> None:
    steps = planned(write(tmp_path))

    def fail() -> None:
        raise ConfigError("no")

    steps[2] = Step("embed", fail)
    with pytest.raises(ConfigError, match="no"):
        execute(steps)
    assert [name for name, _, _ in CALLS] == ["data demo", "ingest"]


def test_a_folder_has_one_run_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also between two stages, when none of them writes."""
    recipe, out = write(tmp_path, "name: n\ndemo_shop: {items: 100, users: 20}\n"), tmp_path / "run"
    with locked(out):
        with pytest.raises(ArtifactError, match=r"run: another run writes here \(process"):
            run(recipe, out=out)
        assert not out.exists()
    run(recipe, out=out)
    assert (out / "raw" / "items.jsonl").is_file()
    assert "demo: wrote" in capsys.readouterr().out
    assert not (tmp_path / ".run.lock").exists()


def test_where_a_run_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch")
    minimal = "name: n\ningest: {source: '${SCRATCH}/in ${out}'}\n"
    recipe, out = read_recipe(write(tmp_path, minimal))
    assert out == Path("runs/n")
    assert recipe.sections["ingest"] == {"source": "/scratch/in runs/n"}
    path = write(tmp_path, minimal + "out: ${SCRATCH}/x\n")
    assert read_recipe(path)[1] == Path("/scratch/x")
    assert read_recipe(path, Path("y"))[1] == Path("y")


def test_recipes_that_are_not_mappings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a mapping"):
        read_recipe(write(tmp_path, "- a\n"))
    with pytest.raises(ConfigError, match=r"tiny\.yaml: ingest: expected"):
        read_recipe(write(tmp_path, "name: n\ningest: 3\n"))


def shipped_recipes() -> list[Path]:
    """The runs among training/*.yaml: those with an ``ingest`` section."""
    folder = Path(__file__).parents[2] / "training"
    return [path for path in sorted(folder.glob("*.yaml")) if "ingest" in load_recipe(path)[0]]


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.name)
def test_every_shipped_recipe_fits_the_real_stages(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMREC_DATA", "data")
    recipe, out = read_recipe(path)
    assert plan(recipe, out, str(path))


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("sasrec", "domains: {}", "hybrid: needs `index`"),
        ("emf", "", "hybrid: an emf model and its graph are measured by domain"),
        ("emf, refreshed", "domains: {}", "refreshed: an emf model"),
    ],
)
def test_an_item_graph_beside_a_model_without_item_ids(
    tmp_path: Path, kind: str, more: str, message: str
) -> None:
    kind, _, refreshed = kind.partition(", ")
    option = f", {refreshed}: true" if refreshed else ""
    model = f"models: {{m: {{train: {{kind: {kind}}}, hybrid: {{}}{option}}}}}"
    path = write(tmp_path, f"name: n\n{model}\n{more}\n")
    with pytest.raises(ConfigError, match=message):
        read_recipe(path)


def test_a_baseline_that_there_is_not_is_named_before_anything_runs(tmp_path: Path) -> None:
    path = write(tmp_path, RECIPE.replace("popularity", "popular"))
    with pytest.raises(
        ConfigError, match="baselines: 'popular' is none of popularity, personal-frequency"
    ):
        planned(path)
