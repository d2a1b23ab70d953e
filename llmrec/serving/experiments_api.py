"""``/v1/experiments``: experiments that begin and end while the service runs, and their reports.

What :mod:`llmrec.serving.experiments.settings` says of the file holds of a body, too; only another
bundle is for the file, since it is opened when the service starts. All of it is for admins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from llmrec.errors import DataError
from llmrec.experiments.sequential import TUNED_FOR
from llmrec.serving.experiments.live import (
    CREATED,
    ExperimentConflictError,
    KnownExperiment,
    LiveExperiments,
)
from llmrec.serving.experiments.outcomes import read_lists
from llmrec.serving.experiments.report import as_json, make_report
from llmrec.serving.limits import MAX_FIELDS, MAX_NAME
from llmrec.serving.store import exposures
from llmrec.serving.store.database import Store

Json = dict[str, Any]
Metric = Literal["click", "purchase", "revenue"]
EXAMPLE: Json = {
    "metric": "click",
    "control": "today",
    "variants": {
        "today": {"share": 0.5},
        "diverse": {"share": 0.5, "rerank": {"diversity": "mmr"}},
    },
}
STANDING: Json = EXAMPLE | {
    "name": "summer",
    "source": "store",
    "status": "running",
    "problem": None,
    "tuned_for": TUNED_FOR,
    "exposures": {"today": 1204, "diverse": 1187},
    "created": 1.79e9,
    "ended": None,
}
Name = Annotated[str, Field(max_length=MAX_NAME)]


class VariantBody(BaseModel):
    """One way to answer; what it does not set is as without the experiment."""

    model_config = ConfigDict(extra="forbid")

    share: float = Field(ge=0, le=1, strict=True, description="of the people; 0: never shown")
    adapter: Name | None = Field(None, description="of the language model")
    calibrated: bool | None = Field(None, description="false: the language model ranks alone")
    rerank: dict[str, Any] | None = Field(None, max_length=MAX_FIELDS)
    sources: list[Name] | None = Field(
        None, max_length=MAX_FIELDS, description="of candidates; the others propose nothing"
    )
    bundle: Name | None = Field(None, description="is for the file of --experiments alone")


class ExperimentBody(BaseModel):
    """People are split over variants. The order of these decides who gets which."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    variants: dict[str, VariantBody] = Field(
        min_length=2, max_length=MAX_FIELDS, description="by name; the shares make 1"
    )
    control: str | None = Field(
        None, description="the variant that others are compared with; null: the first"
    )
    metric: Metric = Field("click", description="that decides")
    tuned_for: int = Field(
        TUNED_FOR, ge=1, le=10**12, description="lists at which intervals are tightest"
    )

    def definition(self) -> Json:
        """As it is written in the file."""
        return self.model_dump(exclude_none=True)


class ExperimentAnswer(BaseModel):
    """An experiment as it stands."""

    model_config = ConfigDict(json_schema_extra={"examples": [STANDING]})

    name: str
    source: Literal["file", "store"] = Field(description="where it is written")
    status: Literal["running", "ended", "refused"]
    problem: str | None = Field(description="why a refused one does not run in this service")
    metric: Metric
    control: str
    tuned_for: int
    variants: dict[str, Json]
    exposures: dict[str, int] = Field(description="lists that were shown, by variant")
    created: float | None = Field(description="seconds since 1970 UTC; null for one of the file")
    ended: float | None


class OneExperiment(ExperimentAnswer):
    """The same with what answers begin with."""

    model: str
    catalog_version: str
    outcome: Literal["created", "changed", "unchanged", "resumed", "ended"] | None = Field(
        None, description="of a change"
    )


class ExperimentsAnswer(BaseModel):
    """All experiments, those of the file first."""

    model: str
    catalog_version: str
    experiments: list[ExperimentAnswer]


class MeanAnswer(BaseModel):
    """A mean over lists."""

    mean: float
    interval: tuple[float, float] | None = Field(description="null: too few people yet")


class DifferenceAnswer(BaseModel):
    """Of a variant from the control."""

    difference: float
    interval: tuple[float, float]
    p_value: float


class VariantReport(BaseModel):
    """What a variant has earned so far."""

    name: str
    share: float
    people: int
    lists: int
    click: MeanAnswer = Field(description="lists with a click")
    purchase: MeanAnswer = Field(description="lists with a purchase")
    revenue: MeanAnswer = Field(description="what was paid, a list")
    against_control: dict[Metric, DifferenceAnswer | None] | None = Field(
        description="by metric, null while there are too few people; null of the control"
    )


class ReportAnswer(BaseModel):
    """What an experiment says so far; its 5% are for all looks together."""

    model: str
    catalog_version: str
    experiment: str
    metric: Metric
    control: str
    method: str
    alpha: float
    sample_ratio: dict[str, float | bool] = Field(
        description="whether each variant got its share of the people: p_value, mismatch"
    )
    variants: list[VariantReport]
    notes: list[str]


Responses = dict[int | str, Json]
_NONE: Responses = {404: {"description": "There is no such experiment."}}
_CONFLICT: Responses = {
    409: {"description": "It cannot be so beside what runs, or what was shown of its name."}
}
_ALL: Responses = {200: {"model": ExperimentsAnswer}}
_ONE: Responses = {200: {"model": OneExperiment}}
_PUT: Responses = _ONE | _CONFLICT | {201: {"model": OneExperiment, "description": "It is new."}}
_REPORT: Responses = {
    200: {"model": ReportAnswer},
    409: {"description": "Nothing was shown yet, or with other shares."},
}


def experiments_router(
    experiments: LiveExperiments, store: Store, head: Callable[[], Json]
) -> APIRouter:
    """The routes.

    Args:
        store: has what was shown.
        head: model and version of the catalogue, of every answer.
    """
    router = APIRouter(prefix="/v1/experiments")

    @router.get("", responses=_ALL)
    def every() -> JSONResponse:
        shown = _exposures(store)
        found = [_as_json(one, shown) for one in experiments.known.values()]
        return JSONResponse(head() | {"experiments": found})

    @router.get("/{name}", responses=_ONE | _NONE)
    def one(name: str) -> JSONResponse:
        return answer(name)

    @router.put("/{name}", responses=_PUT)
    def put(name: str, body: ExperimentBody) -> JSONResponse:
        outcome = experiments.put(name, body.definition())
        return answer(name, outcome, 201 if outcome == CREATED else 200)

    @router.delete("/{name}", responses=_ONE | _NONE | _CONFLICT)
    def end(name: str) -> JSONResponse:
        experiments.end(name)
        return answer(name, "ended")

    @router.get("/{name}/report", responses=_REPORT | _NONE)
    def report(
        name: str,
        alpha: Annotated[
            float, Query(gt=0, lt=1, description="how often a difference may be seen wrongly")
        ] = 0.05,
    ) -> JSONResponse:
        found = experiments.find(name).experiment
        try:
            made = make_report(found, read_lists(store, found), alpha)
        except DataError as error:
            raise ExperimentConflictError(str(error)) from None
        return JSONResponse(head() | as_json(made, alpha))

    def answer(name: str, outcome: str | None = None, status: int = 200) -> JSONResponse:
        found = _as_json(experiments.find(name), _exposures(store))
        said = {} if outcome is None else {"outcome": outcome}
        return JSONResponse(head() | found | said, status)

    return router


def _exposures(store: Store) -> dict[tuple[str, str], int]:
    with store.read() as connection:
        return exposures.counts(connection)


def _as_json(known: KnownExperiment, shown: dict[tuple[str, str], int]) -> Json:
    one, stored = known.experiment, known.stored
    ended = None if stored is None else stored.ended
    status = "refused" if known.problem else "running" if ended is None else "ended"
    return one.as_dict() | {
        "name": one.name,
        "source": "file" if stored is None else "store",
        "status": status,
        "problem": known.problem or None,
        "exposures": {name: shown.get((one.name, name), 0) for name in one.variants},
        "created": None if stored is None else stored.created,
        "ended": ended,
    }
