"""The methods: logits and labels -> parameters, parameters and logits -> probabilities.

Pure functions. Logits are float64 ``[n]`` and finite, labels 0 or 1; parameters are plain JSON
values. Every method keeps the order of two rows (``per-field``: of the same value), so calibrating
changes no ranking within it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import expit, logit

Parameters = dict[str, Any]
Fields = Mapping[str, np.ndarray]

# Simplest first: of methods that are equally good, the first is taken.
METHODS = ("none", "temperature", "platt", "per-field", "isotonic")
PRIOR_ROWS = 1000  # per-field: a value with so many rows is half itself, half all rows
LEAST_P = 1e-12  # apply() stays within [LEAST_P, 1 - LEAST_P]
_LEAST_SLOPE = 1e-3  # of Platt, per standard deviation of the logits: the order is kept
_TEMPERATURES = (1e-3, 1e3)
_TILT = 1e-3  # of isotonic, in log odds over the whole line
_STEPS = 200


def shrunk_rate(labels: np.ndarray) -> float:
    """``(k + 1) / (n + 2)`` of k clicks in n rows: never 0 or 1 (Laplace)."""
    return float((labels.sum() + 1) / (len(labels) + 2))


def fit_platt(logits: np.ndarray, labels: np.ndarray) -> Parameters:
    """``sigmoid(slope * x + offset)`` of least log loss (Platt 1999).

    His targets, ``(k + 1) / (k + 2)`` for the k clicked and ``1 / (n - k + 2)`` for the others,
    keep the parameters finite where a threshold parts the labels. Scores that rank backwards would
    want a negative slope; it is held at a small positive one, which leaves the mean right.
    """
    centre, spread = float(logits.mean()), float(logits.std()) or 1.0
    x = (logits - centre) / spread
    targets = platt_targets(labels)
    slope, offset = fit_line(x, targets)
    if slope < _LEAST_SLOPE:
        slope, offset = _LEAST_SLOPE, _fit_offset(_LEAST_SLOPE * x, targets)
    return {"slope": slope / spread, "offset": offset - slope * centre / spread}


def constant(logits: np.ndarray, labels: np.ndarray) -> Parameters:
    """Platt's parameters where every label is the same: almost flat at :func:`shrunk_rate`."""
    spread = float(logits.std()) or 1.0
    slope = _LEAST_SLOPE / spread
    level = float(logit(shrunk_rate(labels)))
    return {"slope": slope, "offset": level - slope * float(logits.mean())}


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Parameters:
    """``sigmoid(x / temperature)`` of least log loss (Guo et al. 2017), within [0.001, 1000].

    The loss is convex in ``1 / temperature``, so its slope rises with the logarithm of that.
    """
    from scipy.optimize import brentq

    targets = platt_targets(labels)

    def slope(log_scale: float) -> float:
        return float(logits @ (expit(np.exp(log_scale) * logits) - targets))

    low, high = (float(np.log(1 / limit)) for limit in _TEMPERATURES[::-1])
    if slope(low) >= 0:
        log_scale = low
    elif slope(high) <= 0:
        log_scale = high
    else:
        log_scale = brentq(slope, low, high, xtol=1e-12)
    return {"temperature": float(np.exp(-log_scale))}


def fit_isotonic(logits: np.ndarray, labels: np.ndarray) -> Parameters:
    """A rising step function of least squares (Zadrozny and Elkan 2002), made strictly rising.

    Rates are kept within ``[1 / (n + 2), (n + 1) / (n + 2)]``: n rows cannot show a rarer click.
    See :func:`apply_isotonic` for what is between and outside the steps.
    """
    from sklearn.isotonic import IsotonicRegression

    n = len(labels)
    model = IsotonicRegression(y_min=1 / (n + 2), y_max=(n + 1) / (n + 2)).fit(logits, labels)
    return {
        "logits": [float(x) for x in model.X_thresholds_],
        "rates": [float(y) for y in model.y_thresholds_],
        "centre": float(logits.mean()),
        "spread": float(logits.std()) or 1.0,
    }


def fit_per_field(
    logits: np.ndarray, labels: np.ndarray, field: str, values: np.ndarray
) -> Parameters:
    """Platt for each value of a field, shrunk to that of all rows.

    ``w = n / (n + 1000)`` for a value with n rows; its slope and offset, at the mean logit of all
    rows, are ``w * own + (1 - w) * of all rows``. A value whose labels are all the same has
    :func:`constant` for its own.

    Args:
        values: int ``[n]``; -1, unknown, has no parameters of its own.
    """
    centre = float(logits.mean())
    shared = fit_platt(logits, labels)
    fitted = {}
    for value in np.unique(values[values >= 0]):
        rows = values == value
        same = labels[rows].min() == labels[rows].max()
        own = (constant if same else fit_platt)(logits[rows], labels[rows])
        weight = float(rows.sum() / (rows.sum() + PRIOR_ROWS))
        slope = weight * own["slope"] + (1 - weight) * shared["slope"]
        level = weight * _line(own, centre) + (1 - weight) * _line(shared, centre)
        fitted[str(int(value))] = {"slope": slope, "offset": level - slope * centre}
    return {"field": field, "shared": shared, "values": fitted}


def apply_isotonic(parameters: Parameters, logits: np.ndarray, fields: Fields) -> np.ndarray:
    """Straight lines between the steps, level outside, everything tilted a little.

    A plateau would make a tie of what the model ranks. The tilt adds ``0.001 * z / (1 + |z|)`` to
    the log odds, z the standardised logit: it rises on the whole line and changes no
    odds by more than 0.1%.
    """
    rates = np.interp(logits, parameters["logits"], parameters["rates"])
    z = (logits - parameters["centre"]) / parameters["spread"]
    return expit(logit(rates) + _TILT * z / (1 + np.abs(z)))


class PerField:
    """Platt with the parameters of each row's value; those of all rows for any other value.

    Args:
        parameters: of :func:`fit_per_field`.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._field, self._shared = parameters["field"], parameters["shared"]
        fitted = {int(value): line for value, line in parameters["values"].items()}
        self._known = np.array(sorted(fitted), dtype=np.int64)
        own = [*(fitted[value] for value in sorted(fitted)), self._shared]
        self._slopes = np.array([each["slope"] for each in own])
        self._offsets = np.array([each["offset"] for each in own])

    def __call__(self, logits: np.ndarray, fields: Fields) -> np.ndarray:
        """Probabilities of logits ``[n]``."""
        values = fields.get(self._field)
        if values is None or not len(self._known):
            return expit(_line(self._shared, logits))
        place = np.minimum(np.searchsorted(self._known, values), len(self._known) - 1)
        place = np.where(self._known[place] == values, place, len(self._known))
        return expit(self._slopes[place] * logits + self._offsets[place])


FIT: dict[str, Callable[[np.ndarray, np.ndarray], Parameters]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}
APPLY: dict[str, Callable[[Parameters, np.ndarray, Fields], np.ndarray]] = {
    "none": lambda parameters, logits, fields: expit(logits),
    "temperature": lambda parameters, logits, fields: expit(logits / parameters["temperature"]),
    "platt": lambda parameters, logits, fields: expit(_line(parameters, logits)),
    "isotonic": apply_isotonic,
}


def check_parameters(method: str, parameters: Parameters) -> None:
    """Whether :data:`APPLY` can use these.

    Raises:
        ValueError, KeyError, TypeError: if not.
    """
    if method == "temperature":
        _finite(parameters["temperature"], positive=True)
    elif method == "platt":
        _check_line(parameters)
    elif method == "per-field":
        for line in (parameters["shared"], *parameters["values"].values()):
            _check_line(line)
        if not isinstance(parameters["field"], str) or not all(
            value.isdecimal() for value in parameters["values"]
        ):
            raise ValueError("a field's name or value is damaged")
    elif method == "isotonic":
        logits, rates = (np.asarray(parameters[k], dtype=float) for k in ("logits", "rates"))
        rising = (np.diff(logits) > 0).all() and (np.diff(rates) >= 0).all()
        inside = np.isfinite(logits).all() and ((rates > 0) & (rates < 1)).all()
        if logits.shape != rates.shape or logits.ndim != 1 or not len(logits):
            raise ValueError("logits and rates do not fit")
        if not (rising and inside):
            raise ValueError("the steps do not rise")
        _finite(parameters["centre"])
        _finite(parameters["spread"], positive=True)
    elif method != "none":
        raise ValueError(f"no method {method!r}")


def _check_line(parameters: Parameters) -> None:
    _finite(parameters["slope"], positive=True)
    _finite(parameters["offset"])


def _finite(value: Any, positive: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    if positive and value <= 0:
        raise ValueError(f"{value!r} is not positive")


def _line(parameters: Parameters, x: Any) -> Any:
    return parameters["slope"] * x + parameters["offset"]


def platt_targets(labels: np.ndarray) -> np.ndarray:
    """Platt's own targets, float64 ``[n]``: see :func:`fit_platt`."""
    clicks, rows = labels.sum(), len(labels)
    return np.where(labels == 1, (clicks + 1) / (clicks + 2), 1 / (rows - clicks + 2))


def fit_line(x: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Slope and offset of least log loss, of standardised ``x``."""
    from scipy.optimize import minimize

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line[0] * x + line[1]
        error = expit(z) - targets
        gradient = np.array([error @ x, error.sum()]) / len(x)
        return float(np.mean(np.logaddexp(0, z) - targets * z)), gradient

    def hessian(line: np.ndarray) -> np.ndarray:
        p = expit(line[0] * x + line[1])
        curve = p * (1 - p)
        cross = curve @ x
        return np.array([[curve @ (x * x), cross], [cross, curve.sum()]]) / len(x)

    start = np.array([1.0, logit(targets.mean())])
    options = {"gtol": 1e-12, "maxiter": _STEPS}
    found = minimize(loss, start, jac=True, hess=hessian, method="trust-exact", options=options)
    return float(found.x[0]), float(found.x[1])


def _fit_offset(x: np.ndarray, targets: np.ndarray) -> float:
    """The offset at which the mean prediction is the mean target."""
    from scipy.optimize import brentq

    middle, reach = float(logit(targets.mean())), float(np.abs(x).max()) + 1.0
    found: float = brentq(
        lambda offset: float((expit(x + offset) - targets).sum()), middle - reach, middle + reach
    )
    return found
