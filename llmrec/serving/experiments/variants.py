"""The variants of a service's experiments, opened: for each request how it is to be answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random, SystemRandom

from llmrec.errors import ConfigError, LlmrecError
from llmrec.experiments.assignment import assign
from llmrec.serving.bundle import Bundle
from llmrec.serving.experiments.exploration import explore
from llmrec.serving.experiments.settings import (
    NEED_CLICK_MODEL,
    Experiment,
    ExperimentsConfig,
    Variant,
)
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.scenarios import HOME, resolved
from llmrec.serving.store.exposures import Explored, Exposure
from llmrec.types import Recommendation

OpenBundle = Callable[[Path], Bundle]


@dataclass(frozen=True)
class Treatment:
    """How a request is answered.

    Attributes:
        recommender: answers it.
        request: with what the variants set.
        exposures: one for each experiment that the request takes part in.
    """

    recommender: Recommender
    request: RecommendRequest
    exposures: tuple[Exposure, ...] = ()

    @property
    def name(self) -> str:
        """As answers have it: ``summer/diverse``, with commas between several."""
        return ",".join(f"{one.experiment}/{one.variant}" for one in self.exposures)


@dataclass
class Variants:
    """All experiments of a service.

    A request takes part where it names a person and does not itself set what the experiment varies.

    Args:
        config: the file, or what runs now; another one may take its place at any time.
        recommender: of the service; answers what no variant's own bundle does.
        others: recommenders of variants' bundles, by the path that the file has.
        random: draws the explored places.
    """

    config: ExperimentsConfig
    recommender: Recommender
    others: dict[str, Recommender] = field(default_factory=dict)
    random: Random = field(default_factory=SystemRandom)

    def __post_init__(self) -> None:
        for experiment in self.config.experiments.values():
            self.check(experiment, f"experiments.{experiment.name}.")

    def check(self, experiment: Experiment, where: str = "") -> None:
        """Check that an experiment can be answered here.

        Raises:
            ConfigError: naming the field after ``where``.
        """
        for name, variant in experiment.variants.items():
            _check(self.recommender_of(variant), variant, f"{where}variants.{name}")

    def recommender_of(self, variant: Variant) -> Recommender:
        """What answers for a variant."""
        return self.recommender if variant.bundle is None else self.others[variant.bundle]

    def treat(self, request: RecommendRequest) -> Treatment:
        """How a request is answered."""
        treatment, experiments = Treatment(self.recommender, request), self.config.experiments
        if not experiments or request.user is None or not self._is_home(request):
            return treatment
        for experiment in experiments.values():
            if _decides_itself(request, experiment.fields):
                continue
            number = assign(experiment.name, request.user, experiment.shares)
            name, variant = list(experiment.variants.items())[number]
            exposure = Exposure(experiment.name, name, variant.share)
            if variant.bundle is not None:
                treatment = replace(treatment, recommender=self.others[variant.bundle])
            treatment = replace(
                treatment,
                request=with_variant(treatment.request, variant),
                exposures=(*treatment.exposures, exposure),
            )
        return treatment

    def show(
        self, request: RecommendRequest, items: list[Recommendation]
    ) -> tuple[list[Recommendation], Explored | None]:
        """A list as it is shown; the first place may be explored, but not in answer to words or a
        picture, of given candidates, on further pages and in lists with an order of their own."""
        exploration = self.config.exploration
        chosen = request.is_search or request.candidates is not None or request.cursor is not None
        if not exploration.share or chosen or not self._is_home(request):
            return items, None
        return explore(exploration, items, self.random)

    def _is_home(self, request: RecommendRequest) -> bool:
        """Whether a model orders the list."""
        try:
            return resolved(request, self.recommender.bundle.scenarios).scenario == HOME
        except LlmrecError:  # whoever answers it says so
            return False


def with_variant(request: RecommendRequest, variant: Variant) -> RecommendRequest:
    """A request with what a variant sets."""
    return replace(request, **variant.request_fields)


def open_others(
    config: ExperimentsConfig, bundle: Bundle, open_bundle: OpenBundle
) -> dict[str, Bundle]:
    """The bundles of variants, by the path that the file has.

    Args:
        bundle: of the service.

    Raises:
        ConfigError: if one cannot be opened, or is of another catalogue.
    """
    found: dict[str, Bundle] = {}
    for experiment in config.experiments.values():
        for name, variant in experiment.variants.items():
            if variant.bundle is None or variant.bundle in found:
                continue
            where = f"experiments.{experiment.name}.variants.{name}.bundle"
            try:
                opened = open_bundle(config.folder / variant.bundle)
            except LlmrecError as error:
                raise ConfigError(f"{where}: {error}") from None
            if opened.item_ids != bundle.item_ids:
                raise ConfigError(
                    f"{where}: {variant.bundle} has other items than the service's bundle; make "
                    "both from one dataset"
                )
            found[variant.bundle] = opened
    return found


def _decides_itself(request: RecommendRequest, fields: set[str]) -> bool:
    """Whether a request sets something that an experiment sets."""
    of_click_model = bool(fields & NEED_CLICK_MODEL)
    return any(
        (
            bool(request.rerank) and "rerank" in fields,
            request.sources is not None and "sources" in fields,
            not request.calibrated and ("calibrated" in fields or of_click_model),
            # an adapter is that of one bundle
            request.adapter is not None and bool(fields & {"adapter", "bundle"}),
        )
    )


def _check(recommender: Recommender, variant: Variant, where: str) -> None:
    """Check that a recommender can answer as a variant says.

    Raises:
        ConfigError: naming the field.
    """
    if variant.adapter is not None and variant.adapter not in recommender.bundle.adapters:
        known = ", ".join(recommender.bundle.adapters) or "none"
        raise ConfigError(
            f"{where}.adapter: {variant.adapter!r} is not in the bundle; it has {known}"
        )
    ranks = recommender.click_model is not None and variant.calibrated is not False
    for name in sorted(NEED_CLICK_MODEL):
        if getattr(variant, name) is not None and not ranks:
            raise ConfigError(f"{where}.{name}: needs a click model, and none ranks there")
    known_sources = recommender.sources
    for source in variant.sources or ():
        if source not in known_sources:
            raise ConfigError(
                f"{where}.sources: {source!r} is not one of {', '.join(known_sources)}"
            )
