"""What a recipe says, checked: a YAML file with a section a stage.

::

    name: demo
    seed: 0
    demo_shop: {items: 500, users: 3500}   # optional: make the raw files first
    ingest: {events: "${out}/raw/events.csv", ...}
    embed: {}                              # optional: one vector an item, for content
    media: {root: ..., clip: {}, ...}      # optional: pictures, videos, speech (MediaOptions)
    models:                                # as many as one likes; all share the dataset
      atomic: {index: {...}, train: {...}, hybrid: {}} # index, train, hybrid, bundle, evaluate
      sasrec: {train: {kind: sasrec}}      # no index: trained and evaluated, not bundled
    ctr: {...}                             # optional: click probabilities (CtrOptions)
    scenarios: {...}                       # optional: lists of the shop's own, by name
    policies: "${out}/raw/policies.yaml"   # optional: what the shop says of delivery, returns, ...
    baselines: [strong]                    # evaluated only: all, tuned on validation, or names
    evaluate: {}
    domains: {}                            # in place of evaluate: a table a domain (DomainOptions)

``${out}`` is the run's folder, any other ``${NAME}`` an environment variable; paths are
relative to the current folder. Which sections there are stands in :data:`~llmrec.stages.STAGES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from llmrec.config import SEEDS, build, check_keys, check_ranges, load_recipe, shown
from llmrec.errors import ConfigError
from llmrec.serving.scenarios import check_presets
from llmrec.stages import STAGES, Stage

Settings = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """One model of a recipe.

    Attributes:
        train: settings of the train stage.
        index: settings of its item IDs; None for a model that needs none (and gets no bundle).
        hybrid: settings of the item graph that ranks with it; None for the model alone.
        vectors: whose vectors its content comes from: ``text`` of the embed stage, or ``fused``
            of media.fusion.
        seeds: trainings of it, with the recipe's seed and those after it: further models named
            ``NAME-seed1`` and so on, with the same item IDs; figures are means over all.
        refreshed: measure it with ``hybrid`` a second time, its graph having seen every event
            before the targets, as a running service's would have.
    """

    train: Settings = field(default_factory=dict)
    index: Settings | None = None
    hybrid: Settings | None = None
    vectors: Literal["text", "fused"] = "text"
    seeds: int = 1
    refreshed: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "[1, 100]", "seeds")
        if self.refreshed and self.hybrid is None:
            raise ConfigError("refreshed: needs `hybrid`, whose graph learns from newer events")


@dataclass(frozen=True)
class Questions:
    """Queries that a run answers at its end, with the index of ``media.search``.

    Attributes:
        text: words.
        image: file or URL of a picture.
        voice: file or URL of a recording.
        speech_model: a Whisper that transcribes it.
    """

    text: str | None = None
    image: str | None = None
    voice: str | None = None
    speech_model: str = "whisper-tiny.en"


@dataclass(frozen=True)
class MediaOptions:
    """What the section ``media`` says beside its stages.

    Attributes:
        root: where the paths of the catalogue's media start.
        leave_out: file of items that nothing is learned from.
        truth: file that captions and search are measured on.
        model: what captions, a folder or hub id, where none is trained here.
        caption_items: file of the items to caption; all of them when None.
        sheet: pictures on the contact sheet of captions; 0 for none.
        ask: what to search for at the end.
    """

    root: Path | None = None
    leave_out: Path | None = None
    truth: Path | None = None
    model: str | None = None
    caption_items: Path | None = None
    sheet: int = 24
    ask: Questions = field(default_factory=Questions)


@dataclass(frozen=True)
class DomainOptions:
    """What the section ``domains`` says beside the stage's own settings.

    Attributes:
        shuffled: folder of a run of the same models on the log with ties shuffled; its figures
            stand beside.
    """

    shuffled: Path | None = None


@dataclass(frozen=True)
class CtrOptions:
    """What the section ``ctr`` says beside the stage's own settings.

    Attributes:
        models: names of the recipe's models whose scores the click model reads; None for all
            with item IDs but ``refreshed``. The last one serves.
        bench: whether to measure on the test part as well.
        refreshed: name of a model, trained with ``learn_validation``, that the bench ranks with
            alone beside the cascade.
    """

    models: list[str] | None = None
    bench: bool = False
    refreshed: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A whole run.

    Attributes:
        name: of the run; its folder is ``runs/NAME`` unless ``out`` says otherwise.
        seed: given to every stage.
        out: the run's folder.
        models: what to train, by name.
        media, ctr, domains: what their sections say beside the settings of stages.
        baselines: what to evaluate beside the models.
        results: a folder that also gets every result file, or None.
        scenarios: lists of the shop's own, for requests to name; in every bundle.
        policies: file of what the shop says of itself, by topic; in every bundle.
        show_users: for how many users to print recommendations at the end.
        sections: settings of every stage of the recipe, by the place of its section.
    """

    name: str
    seed: int = 0
    out: Path | None = None
    models: dict[str, Model] = field(default_factory=dict)
    media: MediaOptions = field(default_factory=MediaOptions)
    ctr: CtrOptions = field(default_factory=CtrOptions)
    domains: DomainOptions = field(default_factory=DomainOptions)
    baselines: list[str] = field(default_factory=list)
    results: Path | None = None
    scenarios: dict[str, Settings] = field(default_factory=dict)
    policies: Path | None = None
    show_users: int = 3
    sections: dict[str, Settings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ranges(self, SEEDS, "seed")
        for name in [self.name, *self.models, *self.baselines]:
            if not re.fullmatch(r"[\w-][\w.-]*", str(name)):
                raise ConfigError(
                    f"{shown(name)} names a folder: use letters, digits, '_', '-' and '.'"
                )
        check_presets(self.scenarios)
        twice = set(self.models) & set(self.baselines)
        if twice:
            raise ConfigError(f"{min(twice)!r} is both a model and a baseline: rename the model")
        for name, model in self.models.items():
            if model.hybrid is not None and model.index is None:
                self._check_alone(name, model)
            if model.vectors == "fused" and "media.fusion" not in self.sections:
                raise ConfigError(f"models.{name}: vectors: fused needs `media: {{fusion: ...}}`")

    def _check_alone(self, name: str, model: Model) -> None:
        """A model without item IDs has an item graph beside it where domains are measured alone."""
        if model.train.get("kind") != "emf":
            raise ConfigError(f"models.{name}: hybrid: needs `index`, a model with item IDs")
        if "domains" not in self.sections or model.refreshed:
            wrong = "refreshed" if model.refreshed else "hybrid"
            raise ConfigError(
                f"models.{name}: {wrong}: an emf model and its graph are measured by domain, "
                "at one moment; add `domains: {}`, leave out `refreshed`"
            )

    @property
    def indexed(self) -> list[str]:
        """Names of the models with item IDs, which get a bundle."""
        return [name for name, model in self.models.items() if model.index is not None]

    @property
    def trainings(self) -> dict[str, tuple[str, int]]:
        """By the name of each training: the model that it is of, and its seed."""
        return {
            f"{name}-seed{number}" if number else name: (name, self.seed + number)
            for name, model in self.models.items()
            for number in range(model.seeds)
        }

    def model(self, training: str) -> Model:
        """The model that a training is of."""
        return self.models[self.trainings[training][0]]

    def option(self, place: str) -> Any:
        """A value of the recipe by its place, such as ``media.root``; None where there is none."""
        value: Any = self
        for part in place.split("."):
            value = getattr(value, part)
        return value


_OPTIONS: dict[str, type] = {"media": MediaOptions, "ctr": CtrOptions, "domains": DomainOptions}


def read_recipe(
    path: Path, out: Path | None = None, stages: Mapping[str, Stage] = STAGES
) -> tuple[Recipe, Path]:
    """Read a recipe and decide its run's folder.

    Args:
        path: the YAML file.
        out: the run's folder; None takes the recipe's ``out``, or else ``runs/NAME``.
        stages: what may have a section.

    Raises:
        ConfigError: naming the file and the key.
    """
    raw, folder = load_recipe(path, out)
    options, sections = _split(raw, stages)
    for place, section in sections.items():
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: {place}: expected settings, got {shown(section)}")
    known = [f.name for f in fields(Recipe) if f.name != "sections"]
    check_keys(options, [*known, *_children(stages, "")], str(path))
    for name, cls in _OPTIONS.items():
        known = [f.name for f in fields(cls)]
        if isinstance(options.get(name), dict):
            check_keys(options[name], [*known, *_children(stages, name)], f"{path}: {name}")
    return build(Recipe, options | {"sections": sections}, str(path)), folder


def _split(raw: Settings, stages: Mapping[str, Stage]) -> tuple[Settings, Settings]:
    """A recipe without the settings of stages, and these by the place of their section."""
    options, sections = Settings(), Settings()
    for name, value in raw.items():
        own = {f.name for f in fields(_OPTIONS[name])} if name in _OPTIONS else set()
        if own and isinstance(value, dict):
            stage = name in _children(stages, "")
            children = _children(stages, name)
            sections |= {f"{name}.{key}": value[key] for key in value if key in children}
            rest = {key: value[key] for key in value if key not in children}
            options[name] = {k: v for k, v in rest.items() if k in own or not stage}
            if stage:
                sections[name] = {k: v for k, v in rest.items() if k not in own}
        elif name in _children(stages, ""):
            sections[name] = value
        else:
            options[name] = value
    return options, {place: found for place, found in sections.items() if found is not None}


def _children(stages: Mapping[str, Stage], parent: str) -> set[str]:
    """Names of the stages' sections that stand directly in a section; '' is the recipe."""
    split = [stage.section.rpartition(".") for stage in stages.values() if stage.in_run]
    return {name for above, _, name in split if above == parent}
