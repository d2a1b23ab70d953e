"""From a checked recipe to the calls of its stages, in order.

Stages whose section the recipe has are called as :data:`~llmrec.stages.STAGES` says, in its
order: each takes what the ones before it made. Then come the bundles, and what measures and shows.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llmrec.bench.baselines import BASELINES, STRONG, result_name
from llmrec.config import build
from llmrec.errors import ConfigError
from llmrec.flags import config_class
from llmrec.pipeline import report
from llmrec.pipeline.recipe import Recipe, Settings
from llmrec.stages import STAGES, Stage

_OF_MODEL = "models.*."
_SHARED = "index"  # by all trainings of a model
_LAST = ("ctr", "bench ctr", "evaluate", "evaluate domains")  # they need the models


@dataclass(frozen=True)
class Step:
    """One call of a run: ``embed``, ``media/clip``, or of a model ``MODEL/train``."""

    name: str
    run: Callable[[], object]

    @property
    def stage(self) -> str:
        return self.name.rsplit("/", 1)[-1]


def plan(recipe: Recipe, out: Path, where: str, stages: Mapping[str, Stage] = STAGES) -> list[Step]:
    """All steps of a run in order, every section checked, nothing done yet.

    Args:
        recipe: what to run.
        out: the run's folder.
        where: the recipe's file, put in front of every message.
        stages: the table of stages.

    Raises:
        ConfigError: naming the section and the key.
    """
    run = _Run(recipe, out, where, stages)
    shared = [name for name in stages if name not in _LAST and run.has(name)]
    late = [name for name in shared if any("models/" in s for s in stages[name].inputs.values())]
    steps = [run.call(name) for name in shared if name not in late]
    for model in recipe.trainings:
        own = [name for name in stages if model in recipe.models or name != _SHARED]
        steps += [run.call(name, model) for name in own if run.has(name, model)]
    steps += [run.call(name) for name in late]
    steps += _measure_media(run) + _click_model(run)  # names a wrong model before others need it
    measured = _domain_evaluations(run) if run.has("evaluate domains") else _evaluations(run)
    return steps + _bundles(run) + measured


@dataclass(frozen=True)
class _Run:
    """A recipe, the folder of its run, and how one stage is called in it."""

    recipe: Recipe
    out: Path
    where: str
    stages: Mapping[str, Stage]

    def settings(self, section: str, model: str | None) -> Settings | None:
        """A section of the recipe, or None where it has none."""
        if not section.startswith(_OF_MODEL):
            return self.recipe.sections.get(section) if model is None else None
        part = section.removeprefix(_OF_MODEL)
        return None if model is None else getattr(self.recipe.model(model), part)

    def has(self, name: str, model: str | None = None) -> bool:
        """Whether the recipe has a section for a stage."""
        section = self.stages[name].section
        return bool(section) and self.settings(section, model) is not None

    def find(self, sources: str, model: str | None) -> Any:
        """The first of the sources that this run has; see :class:`~llmrec.stages.Stage`."""
        for source in sources.split(", "):
            made = "/" in source
            value = self.folder(source, model) if made else self.recipe.option(source)
            if value is not None:
                return value
        return None

    def folder(self, source: str, model: str | None = None) -> Path | None:
        """Where a folder of another stage, or a file in it, will be; None where none makes it."""
        if source.startswith("models/") and "*" not in source:  # of a model by its name
            _, model, rest = source.split("/", 2)
            source = f"models/*/{rest}"
            if model not in self.recipe.trainings:
                return None
        if source == "features/" and model and self.recipe.model(model).vectors == "fused":
            source = "fusion/"
        for name, stage in self.stages.items():
            if stage.out and source.startswith(stage.out):
                found = self.has(name, model if "*" in stage.out else None)
                owner = self.recipe.trainings[model][0] if model and name == _SHARED else model
                return self.out / source.replace("*", str(owner)) if found else None
        raise ValueError(f"no stage writes {source}")

    def call(
        self,
        name: str,
        model: str | None = None,
        /,
        changed: Settings | None = None,
        **given: Any,
    ) -> Step:
        """A call of a stage with its checked settings and what it takes from other stages.

        Args:
            changed: settings that differ from those of the section.
            given: further arguments.
        """
        stage = self.stages[name]
        section = stage.section.replace("*", str(model))
        function = stage.load()
        settings = dict(self.settings(stage.section, model) or {}) | (changed or {})
        arguments = dict(given)
        for parameter, sources in stage.inputs.items():
            value = self.find(sources, model)
            kind, _, field = parameter.rpartition(".")
            if not kind:
                arguments[parameter] = value
            elif value is not None:
                settings.setdefault(field, str(value))
        parameters = inspect.signature(function).parameters
        for parameter, sources in stage.inputs.items():
            spec = parameters.get(parameter)
            if spec is not None and spec.default is spec.empty and arguments[parameter] is None:
                raise ConfigError(f"{self.where}: {section}: needs {self.maker(sources)}")
        if stage.out:
            arguments.setdefault("out", self.out / stage.out.replace("*", str(model)))
        if "seed" in parameters:
            arguments["seed"] = self.recipe.trainings[model][1] if model else self.recipe.seed
        config = build(config_class(function), settings, f"{self.where}: {section}")
        name = section.removeprefix("models.").replace(".", "/")
        return Step(name, partial(function, config, **arguments))

    def maker(self, sources: str) -> str:
        """What the recipe lacks for a value, as its user would write it."""
        names = []
        for source in sources.split(", "):
            makers = [stage.section for stage in self.stages.values() if stage.out == source]
            names.append(f"`{(makers or [source])[0]}:`")
        return " or ".join(names)


def _measure_media(run: _Run) -> list[Step]:
    """Figures of captions and search where the truth is known, and the sheet of captions."""
    media, name, steps = run.recipe.media, run.recipe.name, []
    captions, features = run.folder("captions/"), run.folder("media_features/")
    for what, folder in (("captions", captions), ("search", run.folder("search_index/"))):
        if folder is None or media.truth is None:
            continue
        takes: dict[str, Any] = {"truth": media.truth, "seed": run.recipe.seed}
        if what == "captions":
            takes["captions"] = captions
        else:
            takes |= {"dataset": run.folder("dataset/"), "media": features}
        measure = run.stages[f"bench {what}"].load()
        result = run.out / "evaluation" / f"{what}-{name}.json"
        steps.append(
            Step(f"media/{what}-bench", partial(report.measured, measure, out=result, **takes))
        )
    if captions is not None and media.sheet and media.root is not None:
        draw = partial(
            report.captions_sheet, captions, run.out / "dataset", media, run.out / "report"
        )
        steps.append(Step("media/sheet", draw))
    return steps


def _click_model(run: _Run) -> list[Step]:
    """The click model, and what it is worth."""
    if not run.has("ctr"):
        return []
    recipe, ctr, known = run.recipe, run.recipe.ctr, run.recipe.indexed
    named = [("models", name) for name in ctr.models or []]
    if ctr.refreshed is not None:
        named.append(("refreshed", ctr.refreshed))
    for option, name in named:
        if name not in known:
            raise ConfigError(
                f"{run.where}: ctr.{option}: {name!r} is no model with item IDs of this recipe; it "
                f"has {', '.join(known) or 'none'}"
            )
    homes = {name: run.out / "models" / name / "model" for name in known}
    models = tuple(homes[name] for name in _scored(recipe))
    steps = [run.call("ctr", models=models)]
    if ctr.bench:
        result = run.out / "report" / f"{recipe.name}.json"
        kept: dict[str, Any] = {"sources": run.out / "ctr_sources", "work": run.out / "ctr_bench"}
        refreshed = None if ctr.refreshed is None else homes[ctr.refreshed]
        bench = run.call("bench ctr", models=models, refreshed=refreshed, out=result, **kept)
        steps.append(Step("ctr-bench", bench.run))
    return steps


def _scored(recipe: Recipe) -> list[str]:
    """The models whose scores the click model reads; the last one serves."""
    if "ctr" not in recipe.sections:
        return []
    if recipe.ctr.models is not None:
        return recipe.ctr.models
    return [name for name in recipe.indexed if name != recipe.ctr.refreshed]


def _bundles(run: _Run) -> list[Step]:
    """A bundle of every model with item IDs, the click model in the last one it reads."""
    serves = _scored(run.recipe)[-1:]
    more = {"scenarios": Path(run.where)} if run.recipe.scenarios else {}
    if run.recipe.policies is not None:
        more["policies"] = run.recipe.policies
    steps = []
    for name in _bundled(run.recipe):
        bundle = partial(
            run.stages["bundle"].load(),
            dataset=run.out / "dataset",
            features=run.folder("features/"),  # what words are compared with
            model=run.out / "models" / name / "model",
            ctr=run.out / "ctr" if name in serves else None,
            hybrid=run.folder("models/*/hybrid/", name),
            out=run.out / "models" / name / "bundle",
            **more,
        )
        steps.append(Step(f"{name}/bundle", bundle))
    return steps


def _bundled(recipe: Recipe) -> list[str]:
    """The trainings of models with item IDs."""
    return [name for name in recipe.trainings if recipe.model(name).index is not None]


def _rankings(run: _Run, bundles: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """What is measured, by the name of its result: arguments of ``llmrec evaluate``.

    Raises:
        ConfigError: for a baseline that there is not.
    """
    recipe, features = run.recipe, run.folder("features/")
    known = [*BASELINES, STRONG]
    for name in recipe.baselines:
        if name not in known:
            raise ConfigError(f"{run.where}: baselines: {name!r} is none of {', '.join(known)}")
    rankings: dict[str, dict[str, Any]] = {
        name: {"baselines" if name == STRONG else "model": name, "features": features}
        for name in recipe.baselines
    }
    hybrids = [name for name, model in recipe.models.items() if model.hybrid is not None]
    for training, (name, _) in recipe.trainings.items():
        model = run.out / "models" / training / "model"
        alone = name in hybrids or training not in bundles
        rankings[training] = {"model": model if alone else bundles[training]}
        if name in hybrids:
            both = "hybrid" if len(hybrids) == 1 else f"{name}-hybrid"
            seed = training.removeprefix(name)
            rankings[both + seed] = {"model": bundles.get(training, model)}
            if training not in bundles:
                rankings[both + seed]["hybrid"] = run.out / "models" / training / "hybrid"
            if recipe.models[name].refreshed:
                again = rankings[both + seed] | {"changed": {"refreshed": True}}
                rankings[f"{both}-refreshed{seed}"] = again
    return rankings


def _evaluations(run: _Run) -> list[Step]:
    """The same evaluation for all, one page of it, and a look at what serves."""
    recipe, steps, results = run.recipe, [], []
    bundles = {name: run.out / "models" / name / "bundle" for name in _bundled(recipe)}
    home, trainings = run.out / "evaluation", dict[str, list[str]]()
    for name, target in _rankings(run, bundles).items():
        result = result_name(recipe.name, name)
        call = run.call("evaluate", out=home / result, **target)
        steps.append(Step(f"{name}/evaluate", call.run))
        trainings.setdefault(re.sub(r"-seed\d+$", "", result), []).append(result)
    for name, some in trainings.items():
        results.append(home / name)
        if len(some) > 1:
            results[-1] = home / f"{name}-seeds"
            of_each = [home / result / f"{result}.json" for result in some]
            mean = partial(run.stages["evaluate seeds"].load(), of_each)
            steps.append(Step(f"{name}/seeds", partial(mean, out=results[-1] / f"{name}.json")))
    if results:
        page = partial(report.evaluations, results, run.out / "report", recipe.results)
        steps.append(Step("report", page))
    asked, index = recipe.media.ask, run.folder("search_index/")
    if index is not None and (asked.text or asked.image or asked.voice):
        steps.append(Step("ask", partial(report.answers, index, asked)))
    if bundles and recipe.show_users:
        shown = (_scored(recipe) or list(bundles))[-1 if _scored(recipe) else 0]
        sheet = run.out / "report" / report.SHEET
        show = partial(
            report.recommendations, bundles[shown], run.out / "dataset", recipe.show_users, sheet
        )
        steps.append(Step("show", show))
    return steps


def _domain_evaluations(run: _Run) -> list[Step]:
    """One evaluation of all trainings of a model, and of a baseline across domains and within."""
    recipe, home, steps = run.recipe, run.out / "evaluation", []
    for name, asked in _asked_by_domain(run).items():
        short = name.removeprefix("item-")
        result = result_name(recipe.name, short)
        given: dict[str, Any] = {"models": asked.models, "hybrids": asked.hybrids}
        given["results"] = recipe.results
        if recipe.domains.shuffled is not None:
            other = recipe.domains.shuffled
            theirs = result_name(other.name, short)
            given["shuffled"] = other / "evaluation" / theirs / f"{theirs}.json"
        changed = {"history": asked.history} if asked.history else None
        call = run.call("evaluate domains", out=home / result, changed=changed, **given)
        steps.append(Step(f"{name}/domains", call.run))
    return steps


@dataclass
class _Asked:
    """What is measured together: models, the item graphs beside them, the history they may read."""

    models: list[str] = field(default_factory=list)
    hybrids: list[Path] = field(default_factory=list)
    history: str = ""


def _asked_by_domain(run: _Run) -> dict[str, _Asked]:
    """By the name of a result.

    Models that learn from one domain each, ``sasrec-food`` and ``sasrec-kitchen``, are one:
    ``sasrec-own``.

    Raises:
        ConfigError: for baselines that are to be tuned over all domains at once.
    """
    recipe, found = run.recipe, dict[str, _Asked]()
    if STRONG in recipe.baselines:
        raise ConfigError(
            f"{run.where}: baselines: {STRONG} tunes over the whole catalogue; with `domains:` "
            "name them"
        )
    bundles = {name: run.out / "models" / name / "bundle" for name in _bundled(recipe)}
    for name, target in _rankings(run, bundles).items():
        if name in recipe.baselines:
            found[name] = _Asked([name], history="all")
            found[f"{name}-own"] = _Asked([name], history="own")
            continue
        group, domain = re.sub(r"-seed\d+$", "", name), ""
        if name in recipe.trainings:
            domain = recipe.model(name).train.get("domain", "")
        if domain:
            group = group.removesuffix(f"-{domain}") + "-own"
        asked = found.setdefault(group, _Asked(history="own" if domain else ""))
        asked.models.append(str(target["model"]))
        asked.hybrids += [target["hybrid"]] if "hybrid" in target else []
    return found
