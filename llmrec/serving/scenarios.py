"""What a list is for: the scenarios that a request may name, and those that a bundle adds.

A shop gives its places names of its own, with the fields that each asks for::

    scenarios:                       # of a recipe's models, or a file of llmrec bundle --scenarios
      start_page: {scenario: home, n: 12, rerank: {per_category: 2}}
      shoe_trends: {scenario: trending, where: {categories: [Shoes], in_stock: true}}

A request's own fields count where it gives any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmrec.errors import ConfigError
from llmrec.serving.request import RecommendRequest

HOME, SIMILAR, TOGETHER = "home", "similar_items", "bought_together"
AGAIN, VIEWED, TRENDING, NEW = "buy_again", "recently_viewed", "trending", "new"
SCENARIOS = {
    HOME: "what fits a person",
    SIMILAR: "the items most like similar_to",
    TOGETHER: "what people buy beside similar_to, or beside the newest items of the history",
    AGAIN: "what a person bought before and may need again",
    VIEWED: "what a person looked at last",
    TRENDING: "what people choose now, overall or of a category (where)",
    NEW: "what came last",
}
_ONE_ITEM = (SIMILAR, TOGETHER)  # may go by similar_to
_OWN_HISTORY = (AGAIN, VIEWED)
_PRESET = ("scenario", "n", "where", "rerank", "context", "exclude_history", "exclude")
_USUAL = {name: getattr(RecommendRequest(), name) for name in _PRESET}

Presets = Mapping[str, Mapping[str, Any]]


def check_presets(presets: Presets, where: str = "scenarios") -> dict[str, dict[str, Any]]:
    """A bundle's own scenarios, checked.

    Raises:
        ConfigError: naming the scenario and field that is wrong.
    """
    if not isinstance(presets, Mapping):
        raise ConfigError(f"{where}: expected names and fields, got {presets!r}")
    for name, given in presets.items():
        place = f"{where}.{name}"
        if name in SCENARIOS:
            raise ConfigError(f"{place}: is a scenario already; give it another name")
        if not isinstance(given, Mapping):
            raise ConfigError(f"{place}: expected fields of a request, got {given!r}")
        unknown = [field for field in given if field not in _PRESET]
        if unknown:
            known = ", ".join(_PRESET)
            raise ConfigError(f"{place}: has no field {unknown[0]!r}; there is {known}")
        if given.get("scenario") not in SCENARIOS:
            raise ConfigError(f"{place}.scenario: give one of {', '.join(SCENARIOS)}")
        try:
            _ = RecommendRequest(
                **{k: v for k, v in given.items() if k != "scenario"}
            ).catalog_filter
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{place}.{error}") from None
    return {name: dict(given) for name, given in presets.items()}


def resolved(request: RecommendRequest, presets: Presets) -> RecommendRequest:
    """A request with a scenario of :data:`SCENARIOS`, and all fields that it asks for.

    Raises:
        ConfigError: for an unknown scenario, or fields that do not go with it.
    """
    name = request.scenario
    if name is None:
        return request.resolved_to(HOME if request.similar_to is None else SIMILAR)
    if name not in SCENARIOS:
        if name not in presets:
            known = ", ".join([*SCENARIOS, *presets])
            raise ConfigError(f"scenario: there is none of that name; there is {known}")
        preset = presets[name]
        own = {k: v for k, v in preset.items() if getattr(request, k) == _USUAL[k]}
        request = replace(request, **own | {"scenario": preset["scenario"]})
    _check(request)
    if request.scenario in _OWN_HISTORY:
        return replace(request, exclude_history=False)
    return request


def _check(request: RecommendRequest) -> None:
    name = request.scenario
    if name == SIMILAR and request.similar_to is None:
        raise ConfigError("similar_to: names the item that the list is to be like; give it")
    if request.similar_to is not None and name not in _ONE_ITEM:
        raise ConfigError(f"similar_to: does not go with scenario {name}; leave it out")
    if name != HOME and (request.is_search or request.candidates is not None):
        field = "query" if request.is_search else "candidates"
        raise ConfigError(f"{field}: does not go with scenario {name}; leave it out")
