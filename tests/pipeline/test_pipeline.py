"""``llmrec run``: order, paths, selection and messages, on stages that only note their call.

The stages themselves are tested with their modules.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmrec.config import load_yaml
from llmrec.errors import ConfigError
from llmrec.pipeline import recipe as pipeline
from llmrec.pipeline.recipe import execute, plan, read_recipe, select

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


@dataclass(frozen=True)
class Config:
    width: int = 1
    source: str = ""
    out: Path | None = None
    seed: int | None = None


class Stages:
    """Stage modules that write down how they were called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []

    def load(self, module: str) -> SimpleNamespace:
        def run(config: Config | None = None, **arguments: Any) -> None:
            self.calls.append((module.removeprefix("llmrec."), config, arguments))

        def show(bundle: Path, dataset: Path, users: int) -> str:
            return f"{users} users of {dataset.name} from {bundle.parent.name}"

        def read_result(path: Path) -> dict[str, Any]:
            return {"name": path.stem, "metrics": {"recall@10": 0.25, "ndcg@10": 0.125, "mrr": 0}}

        def write_report(results: list[Path], out: Path, cases: list[Path]) -> Path:
            return out / "index.md"

        return SimpleNamespace(
            Config=Config,
            run=run,
            show=show,
            Bundle=Path,
            Dataset=Path,
            read_result=read_result,
            write_report=write_report,
        )


def write(tmp_path: Path, text: str = RECIPE) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return path


def planned(path: Path, out: Path | None = None) -> tuple[list[pipeline.Step], Stages]:
    stages = Stages()
    recipe, folder = read_recipe(path, out)
    return plan(recipe, folder, str(path), stages.load), stages


def test_every_stage_runs_once_in_order_with_its_settings_and_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    steps, stages = planned(write(tmp_path), out)
    assert [step.name for step in steps] == STEPS
    assert stages.calls == []
    execute(steps)
    home, dataset, features = out / "models", out / "dataset", out / "features"
    inputs = {"dataset": dataset, "features": features}
    evaluation = {"dataset": dataset, "seed": 7}
    assert stages.calls == [
        ("data.demo_shop", Config(3, out=out / "raw", seed=7), {}),
        ("data.ingest", Config(2, f"{out}/raw"), {"out": dataset, "seed": 7}),
        ("features.text", Config(), {"dataset": dataset, "out": features, "seed": 7}),
        ("item_ids.index", Config(), inputs | {"out": home / "atomic/item_ids", "seed": 7}),
        (
            "train.run",
            Config(8),
            inputs
            | {"item_ids": home / "atomic/item_ids", "out": home / "atomic/model", "seed": 7},
        ),
        (
            "train.run",
            Config(source="scratch"),
            inputs | {"item_ids": None, "out": home / "sasrec/model", "seed": 7},
        ),
        (
            "bundle",
            None,
            inputs | {"model": home / "atomic/model", "out": home / "atomic/bundle"},
        ),
        *(
            (
                "evaluation.evaluate",
                Config(5),
                evaluation | {"model": model, "out": out / "evaluation" / f"tiny-{name}"},
            )
            for name, model in [
                ("popularity", "popularity"),
                ("atomic", home / "atomic/bundle"),
                ("sasrec", home / "sasrec/model"),
            ]
        ),
    ]
    printed = capsys.readouterr().out
    headings = [line.split()[-1] for line in printed.splitlines() if line.startswith("== ")]
    assert headings == STEPS
    assert "tiny-sasrec                       0.2500      0.1250      0.0000" in printed
    assert str(out / "report" / "index.md") in printed
    assert "3 users of dataset from atomic" in printed


def test_a_recipe_without_options_has_only_what_it_names(tmp_path: Path) -> None:
    steps, stages = planned(write(tmp_path, "name: n\ningest: {}\nbaselines: [popularity]\n"))
    assert [step.name for step in steps] == ["ingest", "popularity/evaluate", "report"]
    execute(steps)
    assert stages.calls[0][2] == {"out": Path("runs/n/dataset"), "seed": 0}


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
    steps, _ = planned(write(tmp_path))
    assert [step.name for step in select(steps, only, start)] == expected


@pytest.mark.parametrize(("only", "start"), [("traim", None), (None, "traim")])
def test_a_stage_that_is_not_there(tmp_path: Path, only: str | None, start: str | None) -> None:
    steps, _ = planned(write(tmp_path))
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
        ("index: {}", "idnex: {}", r"tiny\.yaml\.models\.atomic: unknown key 'idnex'"),
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
    steps, stages = planned(write(tmp_path))

    def fail() -> None:
        raise ConfigError("no")

    steps[2] = pipeline.Step("embed", fail)
    with pytest.raises(ConfigError, match="no"):
        execute(steps)
    assert [module for module, _, _ in stages.calls] == ["data.demo_shop", "data.ingest"]


def test_where_a_run_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch")
    minimal = "name: n\ningest: {source: '${SCRATCH}/in ${out}'}\n"
    recipe, out = read_recipe(write(tmp_path, minimal))
    assert out == Path("runs/n")
    assert recipe.ingest == {"source": "/scratch/in runs/n"}
    path = write(tmp_path, minimal + "out: ${SCRATCH}/x\n")
    assert read_recipe(path)[1] == Path("/scratch/x")
    assert read_recipe(path, Path("y"))[1] == Path("y")


def test_recipes_that_are_not_mappings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a mapping"):
        read_recipe(write(tmp_path, "- a\n"))
    with pytest.raises(ConfigError, match=r"tiny\.yaml\.ingest: expected"):
        read_recipe(write(tmp_path, "name: n\ningest: 3\n"))


def shipped_recipes() -> list[Path]:
    """The runs among training/*.yaml: those with an ``ingest`` section."""
    folder = Path(__file__).parents[2] / "training"
    return [path for path in sorted(folder.glob("*.yaml")) if "ingest" in load_yaml(path)]


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.name)
def test_every_shipped_recipe_fits_the_real_stages(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMREC_DATA", "data")
    recipe, out = read_recipe(path)
    assert plan(recipe, out, str(path))
