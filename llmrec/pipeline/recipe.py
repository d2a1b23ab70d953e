"""``llmrec run RECIPE.yaml``: every stage in order, from raw files to shown recommendations.

A recipe is one YAML file, a section a stage::

    name: demo
    seed: 0
    demo_shop: {items: 500, users: 3500}   # optional: make the raw files first
    ingest: {events: "${out}/raw/events.csv", ...}
    embed: {}                              # optional: one vector an item, for content
    models:                                # as many as one likes; all share the dataset
      atomic: {index: {...}, train: {...}} # index, train, bundle, evaluate
      sasrec: {train: {kind: sasrec}}      # no index: trained and evaluated, not bundled
    baselines: [popularity, item-knn]      # evaluated only
    evaluate: {}
    media: {...}                           # optional: pictures, videos, speech (media_pipeline.py)
    ctr: {...}                             # optional: click probabilities (ctr_pipeline.py)

``${out}`` is the run's folder, any other ``${NAME}`` an environment variable; paths are
relative to the current folder. The whole recipe is checked before the first stage starts.
Each stage skips itself when its folder is up to date, so running a recipe again continues it.

The run's folder: ``raw/  dataset/  features/  models/NAME/{item_ids,model,bundle}/
evaluation/RECIPE-NAME/  report/``, and with media ``clip/  temporal/  media_features/  multimodal/
captions/  categorical_features/  fusion/  search_index/``, with ctr ``log/  ctr_signals/  ctr/``.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from llmrec.config import build, load_recipe
from llmrec.errors import ConfigError
from llmrec.flags import config_class
from llmrec.pipeline.ctr import CtrPlan, ctr_plan
from llmrec.pipeline.media import MediaRecipe, media_steps

Settings = dict[str, Any]
Load = Callable[[str], Any]

MODULES = {
    "demo_shop": "llmrec.demo_shop",
    "ingest": "llmrec.data.ingest",
    "embed": "llmrec.content.features.text",
    "index": "llmrec.item_ids.index",
    "train": "llmrec.training.next_item.run",
    "bundle": "llmrec.serving.build",
    "opened": "llmrec.serving.bundle",
    "dataset": "llmrec.data.dataset",
    "evaluate": "llmrec.bench.evaluate",
    "results": "llmrec.metrics.results",
    "report": "llmrec.bench.evaluation_report",
    "show": "llmrec.serving.recommend",
}
_SHOWN = ("recall@10", "ndcg@10", "mrr")


@dataclass(frozen=True)
class Model:
    """One model of a recipe.

    Attributes:
        train: settings of the train stage.
        index: settings of its item IDs; None for a model that needs none (and gets no bundle).
        vectors: whose vectors its content comes from: ``text`` of the embed stage, or ``fused``
            of media.fusion.
    """

    train: Settings = field(default_factory=dict)
    index: Settings | None = None
    vectors: Literal["text", "fused"] = "text"


@dataclass(frozen=True)
class Recipe:
    """A whole run.

    Attributes:
        name: of the run; its folder is ``runs/NAME`` unless ``out`` says otherwise.
        ingest: settings of the ingest stage.
        seed: given to every stage.
        out: the run's folder.
        demo_shop: settings of the made-up shop, or None to use raw files that exist.
        embed: settings of the embed stage, or None for models without content.
        media: what is made of pictures, videos and speech, or None.
        ctr: what is made of lists that were shown, or None.
        models: what to train, by name.
        baselines: what to evaluate beside the models.
        evaluate: settings of the evaluation.
        results: a folder that also gets every result file, or None.
        show_users: for how many users to print recommendations at the end.
    """

    name: str
    ingest: Settings
    seed: int = 0
    out: Path | None = None
    demo_shop: Settings | None = None
    embed: Settings | None = None
    media: MediaRecipe | None = None
    ctr: Settings | None = None
    models: dict[str, Model] = field(default_factory=dict)
    baselines: list[str] = field(default_factory=list)
    evaluate: Settings = field(default_factory=dict)
    results: Path | None = None
    show_users: int = 3

    def __post_init__(self) -> None:
        for name in [self.name, *self.models, *self.baselines]:
            if not re.fullmatch(r"[\w-][\w.-]*", str(name)):
                raise ConfigError(f"{name!r} names a folder: use letters, digits, '_', '-' and '.'")
        twice = set(self.models) & set(self.baselines)
        fuses = self.media is not None and self.media.fusion is not None
        for name, model in self.models.items():
            if model.vectors == "fused" and not fuses:
                raise ConfigError(f"models.{name}: vectors: fused needs `media: {{fusion: ...}}`")
        if twice:
            raise ConfigError(f"{min(twice)!r} is both a model and a baseline: rename the model")


@dataclass(frozen=True)
class Step:
    """One stage of a run: ``stage`` alone, or ``MODEL/stage``."""

    name: str
    run: Callable[[], object]

    @property
    def stage(self) -> str:
        return self.name.rsplit("/", 1)[-1]


def read_recipe(path: Path, out: Path | None = None) -> tuple[Recipe, Path]:
    """Read a recipe and decide its run's folder.

    Args:
        path: the YAML file.
        out: the run's folder; None takes the recipe's ``out``, or else ``runs/NAME``.

    Raises:
        ConfigError: naming the file and the key.
    """
    raw, folder = load_recipe(path, out)
    return build(Recipe, raw, str(path)), folder


def plan(recipe: Recipe, out: Path, where: str, load: Load = importlib.import_module) -> list[Step]:
    """All steps of a run in order, every section checked, nothing done yet.

    Args:
        recipe: what to run.
        out: the run's folder.
        where: the recipe's file, put in front of every message.
        load: imports a stage's module.

    Raises:
        ConfigError: naming the section and the key.
    """

    def stage(name: str, section: str, settings: Settings, **folders: Any) -> partial[object]:
        """A call of one stage's ``run`` with its checked settings."""
        module = load(MODULES[name])
        config = build(config_class(module.run), settings, f"{where}: {section}")
        return partial(module.run, config, seed=recipe.seed, **folders)

    dataset = out / "dataset"
    features = out / "features" if recipe.embed is not None else None
    steps: dict[str, Callable[[], object]] = {}

    # 1. The data, shared by all models.
    if recipe.demo_shop is not None:
        shop = {"out": str(out / "raw"), "seed": recipe.seed} | recipe.demo_shop
        module = load(MODULES["demo_shop"])
        steps["demo_shop"] = partial(
            module.run, build(config_class(module.run), shop, f"{where}: demo_shop")
        )
    steps["ingest"] = stage("ingest", "ingest", recipe.ingest, out=dataset)
    if recipe.embed is not None:
        steps["embed"] = stage("embed", "embed", recipe.embed, dataset=dataset, out=features)

    if recipe.media is not None:
        steps |= media_steps(
            recipe.media,
            name=recipe.name,
            out=out,
            seed=recipe.seed,
            features=features,
            where=where,
            load=load,
        )

    # 2. Each model: item IDs, training.
    for name, model in recipe.models.items():
        section, home = f"models.{name}", out / "models" / name
        trained, item_ids = home / "model", None
        vectors = out / "fusion" if model.vectors == "fused" else features
        inputs = {"dataset": dataset, "features": vectors}
        if model.index is not None:
            item_ids = home / "item_ids"
            steps[f"{name}/index"] = stage(
                "index", f"{section}.index", model.index, **inputs, out=item_ids
            )
        steps[f"{name}/train"] = stage(
            "train", f"{section}.train", model.train, **inputs, item_ids=item_ids, out=trained
        )

    # 3. Probabilities of a click, of all models' scores.
    clicks = CtrPlan({})
    if recipe.ctr is not None:
        clicks = ctr_plan(
            recipe.ctr,
            name=recipe.name,
            out=out,
            seed=recipe.seed,
            ingest=recipe.ingest,
            models=recipe.models,
            media=recipe.media,
            has_text=features is not None,
            where=where,
            load=load,
        )
    steps |= clicks.steps | clicks.after

    # 4. What serves.
    evaluated: dict[str, str | Path] = {name: name for name in recipe.baselines}
    bundles = []
    for name, model in recipe.models.items():
        evaluated[name] = trained = out / "models" / name / "model"
        if model.index is not None:
            bundle = out / "models" / name / "bundle"
            more = {"ctr": clicks.folder} if name == clicks.serves else {}
            run = load(MODULES["bundle"]).run
            steps[f"{name}/bundle"] = partial(
                run, dataset=dataset, features=features, model=trained, out=bundle, **more
            )
            evaluated[name] = bundle
            bundles.append(bundle)

    # 5. The same evaluation for all, one page of it, and a look at the first model.
    results = []
    for name, target in evaluated.items():
        run_name = f"{recipe.name}-{name.replace('item-knn', 'itemknn')}"
        folder = out / "evaluation" / run_name
        steps[f"{name}/evaluate"] = stage(
            "evaluate", "evaluate", recipe.evaluate, dataset=dataset, model=target, out=folder
        )
        results.append(folder / f"{recipe.evaluate.get('name') or run_name}.json")
    if results:
        steps["report"] = partial(_report, load, results, out / "report", recipe.results)
    if bundles and recipe.show_users:
        shown = out / "models" / clicks.serves / "bundle" if clicks.serves else bundles[0]
        steps["show"] = partial(_show, load, shown, dataset, recipe.show_users)
    return [Step(name, run) for name, run in steps.items()]


def _report(load: Load, results: list[Path], out: Path, copies: Path | None) -> None:
    """Print one line a result, write the page, copy the result files to ``copies``."""
    found = [load(MODULES["results"]).read_result(path) for path in results]
    shown = [name for name in _SHOWN if all(name in result["metrics"] for result in found)]
    print(f"{'history removed':<28}" + "".join(f"{name:>12}" for name in shown))
    for result in found:
        row = "".join(f"{result['metrics'][name]:12.4f}" for name in shown)
        print(f"{result['name']:<28}{row}")
    print(load(MODULES["report"]).write_report(results, out, []), flush=True)
    if copies is not None:
        copies.mkdir(parents=True, exist_ok=True)
        for path in results:
            shutil.copyfile(path, copies / path.name)


def _show(load: Load, bundle: Path, dataset: Path, users: int) -> None:
    """Print some people's histories and what the bundle recommends to them."""
    opened = load(MODULES["opened"]).Bundle(bundle)
    data = load(MODULES["dataset"]).Dataset(dataset)
    print(load(MODULES["show"]).show(opened, data, users=users), flush=True)


def select(steps: Sequence[Step], only: str | None, start: str | None) -> list[Step]:
    """The steps asked for, by full name (``atomic/train``) or stage (``train``: of every model).

    Args:
        only: names of the steps to run, with commas between; None for all.
        start: name of the first step to run; None for the first of all.

    Raises:
        ConfigError: if a name matches no step.
    """
    chosen = [] if only is None else only.split(",")
    for flag, name in [("--only", name) for name in chosen] + [("--from", start)]:
        if name is not None and not any(name in (s.name, s.stage) for s in steps):
            known = ", ".join(s.name for s in steps)
            raise ConfigError(f"{flag} {name}: no such stage in this recipe; it has {known}")
    if only is not None:
        return [s for s in steps if s.name in chosen or s.stage in chosen]
    first = next((i for i, s in enumerate(steps) if start in (s.name, s.stage)), 0)
    return list(steps[first:])


def execute(steps: Sequence[Step]) -> None:
    """Run the steps, each under a heading and with its time."""
    for number, step in enumerate(steps, 1):
        print(f"\n== {number}/{len(steps)} {step.name}", flush=True)
        started = time.monotonic()
        step.run()
        print(f"   {time.monotonic() - started:.1f} s", flush=True)


def main(argv: list[str]) -> None:
    """``llmrec run``."""
    parser = argparse.ArgumentParser(
        prog="llmrec run", description="Run a recipe's stages in order; finished ones are skipped."
    )
    parser.add_argument("recipe", type=Path, help="YAML file, such as training/demo.yaml")
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/NAME)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--only", metavar="STAGE", help="run this stage alone, or STAGE,STAGE,...")
    choice.add_argument("--from", metavar="STAGE", dest="start", help="start at this stage")
    args = parser.parse_args(argv)
    recipe, out = read_recipe(args.recipe, args.out)
    started = time.monotonic()
    execute(select(plan(recipe, out, str(args.recipe)), args.only, args.start))
    print(f"\n{recipe.name}: done in {time.monotonic() - started:.1f} s; see {out}")
