"""The file of ``llmrec serve --experiments FILE``.

::

    exploration: {share: 0.02, places: 5}     # off where it is not said
    experiments:
      summer:                                 # salts the assignment; a changed one needs a new name
        metric: click                         # that decides: click, purchase or revenue
        control: today                        # the first variant where it is not said
        variants:
          today: {share: 0.5}                 # as the service answers without an experiment
          diverse: {share: 0.25, rerank: {diversity: mmr}}
          tuned: {share: 0.25, adapter: recommend}
          semantic: {share: 0, bundle: runs/semantic/bundle}   # never shown, see off-policy

A variant may set ``bundle`` (a path, relative to the file), ``adapter``, ``calibrated``, ``rerank``
and ``sources`` (of candidates). An experiment of ``/v1/experiments`` is written in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrec.config import build, check_range, check_ranges, load_yaml
from llmrec.errors import ConfigError
from llmrec.experiments.assignment import check_shares
from llmrec.experiments.sequential import TUNED_FOR
from llmrec.ranking.rerank.settings import RerankConfig

METRICS = ("click", "purchase", "revenue")
REQUEST_FIELDS = ("adapter", "calibrated", "rerank", "sources")  # that a variant may set
NEED_CLICK_MODEL = {"rerank", "sources"}
_MAX_NAME = 64


@dataclass(frozen=True)
class Variant:
    """One way to answer.

    Attributes:
        share: of the people who are answered so; 0 for one that is never shown.
        bundle: another folder of llmrec bundle, of the same catalogue.
        adapter: of the language model.
        calibrated: False lets the language model rank alone.
        rerank: settings of re-ranking that differ from the bundle's.
        sources: of candidates that a click model ranks; the others propose nothing.
    """

    share: float
    bundle: str | None = None
    adapter: str | None = None
    calibrated: bool | None = None
    rerank: dict[str, Any] | None = None
    sources: list[str] | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "[0, 1]", "share")
        if self.rerank is not None:
            RerankConfig().overridden(self.rerank)
        if self.sources is not None and not self.sources:
            raise ConfigError("sources: is empty, so that there would be no candidates")

    @property
    def request_fields(self) -> dict[str, Any]:
        """Fields of a request that it sets."""
        given = {name: getattr(self, name) for name in REQUEST_FIELDS}
        return {name: value for name, value in given.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """As it is written."""
        bundle = {} if self.bundle is None else {"bundle": self.bundle}
        return {"share": self.share} | bundle | self.request_fields


@dataclass(frozen=True)
class Experiment:
    """People are split over variants.

    Attributes:
        name: and salt of the assignment.
        variants: by name.
        control: name of the one that others are compared with.
        metric: that decides.
        tuned_for: lists at which its intervals are tightest; they hold at any number.
    """

    name: str
    variants: dict[str, Variant]
    control: str
    metric: str = METRICS[0]
    tuned_for: int = TUNED_FOR

    @property
    def shares(self) -> list[float]:
        """Of the variants, in their order."""
        return [variant.share for variant in self.variants.values()]

    @property
    def fields(self) -> set[str]:
        """What its variants set."""
        found = {name for one in self.variants.values() for name in one.request_fields}
        return found | {"bundle" for one in self.variants.values() if one.bundle is not None}

    def as_dict(self) -> dict[str, Any]:
        """As it is written, with what it does not say; the order of variants decides who gets
        which."""
        return {
            "metric": self.metric,
            "control": self.control,
            "tuned_for": self.tuned_for,
            "variants": {name: one.as_dict() for name, one in self.variants.items()},
        }


@dataclass(frozen=True)
class ExplorationConfig:
    """How often another item comes first than the one that ranks first.

    Attributes:
        share: of the lists in which the first place is drawn.
        places: from which it is drawn.
    """

    share: float = 0.0
    places: int = 5

    def __post_init__(self) -> None:
        check_ranges(self, "[0, 1]", "share")
        check_ranges(self, "[2, 100]", "places")


@dataclass(frozen=True)
class ExperimentsConfig:
    """What the file says.

    Attributes:
        experiments: by name.
        folder: of the file.
    """

    experiments: dict[str, Experiment]
    exploration: ExplorationConfig
    folder: Path


@dataclass(frozen=True)
class _ExperimentFile:
    """An experiment as it is written."""

    variants: dict[str, Any]
    control: str | None = None
    metric: Literal["click", "purchase", "revenue"] = "click"
    tuned_for: int = TUNED_FOR


@dataclass(frozen=True)
class _File:
    """The file as it is written."""

    experiments: dict[str, Any] = field(default_factory=dict)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)


def read_experiments(path: Path) -> ExperimentsConfig:
    """Read the file.

    Raises:
        ConfigError: naming the file, the experiment and the field that is wrong.
    """
    raw = build(_File, load_yaml(path), str(path))
    found = {
        name: read_experiment(name, values, f"{path}: experiments.{name}.")
        for name, values in _named(raw.experiments, f"{path}: experiments").items()
    }
    experiments = list(found.values())
    for number, one in enumerate(experiments):
        problem = conflict(one, experiments[:number])
        if problem:
            raise ConfigError(f"{path}: experiments: {problem}")
    return ExperimentsConfig(found, raw.exploration, path.parent)


def read_experiment(name: str, values: Any, where: str = "") -> Experiment:
    """An experiment as it is written.

    Args:
        where: put before the fields in messages.

    Raises:
        ConfigError: naming the field that is wrong.
    """
    check_name(name, "name")
    raw = build(_ExperimentFile, values, where.removesuffix("."))
    check_range(raw.tuned_for, "[1, inf)", f"{where}tuned_for")
    written = _named(raw.variants, f"{where}variants")
    if len(written) < 2:
        raise ConfigError(f"{where}variants: an experiment has two variants at least")
    variants = {
        one: build(Variant, fields, f"{where}variants.{one}") for one, fields in written.items()
    }
    control = next(iter(variants)) if raw.control is None else raw.control
    if control not in variants:
        raise ConfigError(f"{where}control: {control!r} is not one of {', '.join(variants)}")
    check_shares([variant.share for variant in variants.values()], f"{where}variants")
    return Experiment(name, variants, control, raw.metric, raw.tuned_for)


def check_name(name: Any, where: str) -> None:
    """Check that a name can stand in answers and logs.

    Raises:
        ConfigError: beginning with ``where``.
    """
    wrong = not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME
    if wrong or not name.isprintable() or set(name) & set("/,"):
        raise ConfigError(
            f"{where}: {name!r} is no name; write 1 to {_MAX_NAME} characters without / and ,"
        )


def conflict(one: Experiment, others: Iterable[Experiment]) -> str:
    """Why an experiment cannot run beside others, since a person is in all of them at once, and
    no two may set the same; nothing if it can."""
    for other in others:
        problem = _conflict(one.fields, other.fields)
        if problem:
            return f"{other.name} and {one.name} cannot run together: {problem}"
    return ""


def find_experiment(config: ExperimentsConfig, name: str | None) -> Experiment:
    """The experiment of a name, or the only one.

    Raises:
        ConfigError: if there is none, or several.
    """
    known = ", ".join(config.experiments) or "none"
    if name is None and len(config.experiments) == 1:
        return next(iter(config.experiments.values()))
    if name not in config.experiments:
        said = "name one" if name is None else f"{name!r} is not among them"
        raise ConfigError(f"--experiment: {said}; there is {known}")
    return config.experiments[name]


def _named(values: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """A mapping whose names can stand in answers and logs."""
    for name in values:
        check_name(name, where)
    return {str(name): value for name, value in values.items()}


def _conflict(one: set[str], other: set[str]) -> str:
    """Why two experiments cannot run together, from what they set; nothing if they can."""
    both, every = sorted(one & other), one | other
    if both:
        return f"both set {both[0]}"
    if "bundle" in every:
        return "one of them sets bundle"
    if "calibrated" in every and every & NEED_CLICK_MODEL:
        return "one sets calibrated, the other what a click model does"
    return ""
