"""A fitted calibrator: what turns a click model's logits into probabilities, as one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.files import read_versioned, write_whole
from llmrec.metrics.click_metrics import ece
from llmrec.ranking.calibration import methods
from llmrec.ranking.calibration.methods import Parameters

SCHEMA_VERSION = 1
LEAST_ROWS = 50  # with fewer nothing is fitted


@dataclass(frozen=True)
class FittedOn:
    """The rows behind a calibrator.

    Attributes:
        rows: how many there were.
        mean_label: their click rate.
        ece_before: ECE (20 bins of equal mass) of the model's own probabilities on them.
        ece_after: the same after calibration.
        out_of_fold: whether ``ece_after`` is of rows that each fit was not made on.
        date: when, ISO 8601 in UTC.
    """

    rows: int
    mean_label: float
    ece_before: float
    ece_after: float
    out_of_fold: bool
    date: str


@dataclass(frozen=True)
class Calibrator:
    """A method with its parameters.

    Attributes:
        method: one of :data:`llmrec.ranking.calibration.methods.METHODS`.
        parameters: plain JSON values, see the method's ``fit_...``.
        fitted_on: None where nothing was fitted.
        note: what a reader should know, such as that there were too few rows.
    """

    method: str
    parameters: Parameters = field(default_factory=dict)
    fitted_on: FittedOn | None = None
    note: str = ""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def identity(cls, note: str = "") -> Calibrator:
        """No calibrator: the model's own probability, ``sigmoid(logit)``."""
        return cls("none", note=note)

    @classmethod
    def of_too_few(cls, rows: int) -> Calibrator:
        """No calibrator, because of too few rows to fit one."""
        return cls.identity(f"{rows} rows are too few to calibrate with; {LEAST_ROWS} are needed")

    @property
    def name(self) -> str:
        """The method as :func:`~llmrec.ranking.calibration.choosing.choose` names it."""
        of_field = self.parameters.get("field")
        return f"{self.method}:{of_field}" if of_field else self.method

    def apply(
        self, logits: np.ndarray, fields: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Click probabilities.

        Args:
            logits: float ``[n]``.
            fields: name to int ``[n]``, -1 unknown; only ``per-field`` looks at its own, and
                falls back to the parameters of all rows where the field or a value is unknown.

        Returns:
            float64 ``[n]``, strictly between 0 and 1.

        Raises:
            DataError: for a NaN or infinite logit, naming its row, or a field of another length.
        """
        logits = check_logits(logits)
        fields = check_fields(fields, len(logits))
        p = self._apply(logits, fields)
        return np.clip(p, methods.LEAST_P, 1 - methods.LEAST_P)

    @cached_property
    def _apply(self) -> Callable[[np.ndarray, methods.Fields], np.ndarray]:
        if self.method == "per-field":
            return methods.PerField(self.parameters)
        return partial(methods.APPLY[self.method], self.parameters)

    def save(self, path: str | Path) -> Path:
        """Write the JSON file; it appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")
        return path


def load_calibrator(path: str | Path) -> Calibrator:
    """Read what :meth:`Calibrator.save` wrote.

    Raises:
        ArtifactError: if it is missing, damaged or from a newer llmrec.
    """
    path = Path(path)
    raw = read_versioned(path, "calibrator", SCHEMA_VERSION, "fit one on validation rows")
    try:
        method, parameters, note = raw["method"], raw["parameters"], raw["note"]
        if not isinstance(parameters, dict) or not isinstance(note, str):
            raise ValueError("parameters are no object, or the note is no text")
        methods.check_parameters(method, parameters)
        fitted_on = None if raw["fitted_on"] is None else FittedOn(**raw["fitted_on"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: damaged calibrator ({error}); calibrate again") from None
    return Calibrator(method, parameters, fitted_on, note, raw["schema_version"])


def fit(
    name: str,
    logits: np.ndarray,
    labels: np.ndarray,
    fields: Mapping[str, np.ndarray] | None = None,
) -> Calibrator:
    """Fit one method on all rows, its ``ece_after`` being of these same rows.

    Args:
        name: a method, for ``per-field`` with its field: ``per-field:category``.
        logits: float ``[n]``.
        labels: float ``[n]`` of 0 and 1.

    Raises:
        DataError: for a NaN or infinite logit, a label that is neither 0 nor 1, or arrays that do
            not fit.
        ConfigError: for an unknown method or a field that is not there.
    """
    logits, labels = check_rows(logits, labels)
    checked = check_fields(fields, len(logits))
    if len(logits) < LEAST_ROWS:
        return Calibrator.of_too_few(len(logits))
    calibrator = fit_method(name, logits, labels, checked)
    return with_figures(calibrator, logits, labels, calibrator.apply(logits, checked), False)


def fit_method(
    name: str, logits: np.ndarray, labels: np.ndarray, fields: Mapping[str, np.ndarray]
) -> Calibrator:
    """:func:`fit` of arrays that were checked, without figures, however few the rows."""
    method, _, of_field = name.partition(":")
    if method not in methods.METHODS:
        raise ConfigError(f"no calibration method {name!r}; there is {', '.join(methods.METHODS)}")
    if method == "per-field" and of_field not in fields:
        known = ", ".join(fields) or "none was given"
        raise ConfigError(f"{name}: no such field ({known}); write per-field:FIELD")
    if method == "none":
        return Calibrator("none")
    if labels.min() == labels.max():
        note = (
            f"all {len(labels)} labels are {int(labels[0])}, so {name} has nothing to fit: "
            f"p is held at (k + 1) / (n + 2) = {methods.shrunk_rate(labels):.3g}"
        )
        return Calibrator("platt", methods.constant(logits, labels), note=note)
    if method == "per-field":
        values = fields[of_field]
        return Calibrator(method, methods.fit_per_field(logits, labels, of_field, values))
    return Calibrator(method, methods.FIT[method](logits, labels))


def with_figures(
    calibrator: Calibrator,
    logits: np.ndarray,
    labels: np.ndarray,
    after: np.ndarray,
    out_of_fold: bool,
) -> Calibrator:
    """The calibrator, with what it was fitted on; ``after`` are its probabilities ``[n]``."""
    fitted_on = FittedOn(
        rows=len(labels),
        mean_label=float(labels.mean()),
        ece_before=ece(labels, Calibrator.identity().apply(logits)),
        ece_after=ece(labels, after),
        out_of_fold=out_of_fold,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Calibrator(calibrator.method, calibrator.parameters, fitted_on, calibrator.note)


def check_rows(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels as float64 ``[n]``.

    Raises:
        DataError: naming the first row that is wrong.
    """
    logits, labels = check_logits(logits), np.asarray(labels, dtype=np.float64)
    if labels.shape != logits.shape:
        raise DataError(f"labels have shape {labels.shape}, logits {logits.shape}")
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if len(wrong):
        raise DataError(f"row {wrong[0]}: label {labels[wrong[0]]:g} is neither 0 nor 1")
    return logits, labels


def check_logits(logits: np.ndarray) -> np.ndarray:
    """Finite float64 ``[n]``."""
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 1:
        raise DataError(f"logits have shape {logits.shape}; give one number a row")
    wrong = np.flatnonzero(~np.isfinite(logits))
    if len(wrong):
        raise DataError(
            f"row {wrong[0]}: logit {logits[wrong[0]]:g} is not a finite number; "
            "look at the model that made it"
        )
    return logits


def check_fields(fields: Mapping[str, np.ndarray] | None, rows: int) -> dict[str, np.ndarray]:
    """Fields as int arrays ``[rows]``."""
    checked = {}
    for name, values in (fields or {}).items():
        values = np.asarray(values)
        if values.shape != (rows,) or values.dtype.kind not in "iu":
            raise DataError(
                f"field {name!r} is {values.dtype} {values.shape}; give integers ({rows},)"
            )
        checked[name] = values
    return checked
