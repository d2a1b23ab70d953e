"""Calibrators: what is fitted, what it makes of logits, and how it is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import minimize
from scipy.special import expit

from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.metrics.click_metrics import auc, ece, log_loss
from llmrec.ranking.calibration import Calibrator, fit, load_calibrator, methods

NAMES = ("none", "temperature", "platt", "per-field:kind", "isotonic")


def a_log(rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Logits of a model that is too sure and too hopeful: truth = 0.5 x - 1, and -1.8 in kind 1."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=rows)
    kind = rng.integers(0, 2, rows)
    truth = expit(0.5 * logits - 1 - 0.8 * kind)
    return logits, (rng.random(rows) < truth).astype(float), {"kind": kind}


def fitted(name: str) -> tuple[Calibrator, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    logits, labels, fields = a_log()
    return fit(name, logits, labels, fields), logits, labels, fields


@pytest.mark.parametrize("name", NAMES[1:])
def test_calibrating_lowers_ece_and_log_loss_of_rows_that_were_not_seen(name: str) -> None:
    calibrator = fitted(name)[0]
    logits, labels, fields = a_log(seed=1)
    raw, p = Calibrator.identity().apply(logits), calibrator.apply(logits, fields)
    assert log_loss(labels, p) < log_loss(labels, raw) - 0.05
    if name != "temperature":  # which cannot move a mean
        assert ece(labels, p) < 0.03 < 0.2 < ece(labels, raw)


def test_platt_finds_the_parameters_that_a_general_optimiser_finds() -> None:
    calibrator, logits, labels, _ = fitted("platt")
    clicks, rows = labels.sum(), len(labels)
    targets = np.where(labels == 1, (clicks + 1) / (clicks + 2), 1 / (rows - clicks + 2))

    def loss(line: np.ndarray) -> float:
        x = line[0] * logits + line[1]
        return float(np.mean(np.logaddexp(0, x) - targets * x))

    best = minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    assert calibrator.parameters["slope"] == pytest.approx(best[0], abs=1e-4)
    assert calibrator.parameters["offset"] == pytest.approx(best[1], abs=1e-4)
    assert calibrator.apply(logits).mean() == pytest.approx(targets.mean(), abs=1e-9)


def test_temperature_undoes_a_known_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=100_000)
    labels = (rng.random(100_000) < expit(truth)).astype(float)
    assert fit("temperature", 3 * truth, labels).parameters["temperature"] == pytest.approx(
        3, rel=0.03
    )


def test_a_value_with_as_many_rows_as_the_prior_is_half_itself() -> None:
    logits, labels, _ = a_log(3000)
    values = np.repeat([4, -1], [methods.PRIOR_ROWS, 3000 - methods.PRIOR_ROWS])
    logits -= logits.mean()  # so that the level at the mean logit is the offset
    parameters = methods.fit_per_field(logits, labels, "kind", values)
    own = methods.fit_platt(logits[: methods.PRIOR_ROWS], labels[: methods.PRIOR_ROWS])
    everyone = methods.fit_platt(logits, labels)
    assert list(parameters["values"]) == ["4"]
    for key in ("slope", "offset"):
        expected = (own[key] + everyone[key]) / 2
        assert parameters["values"]["4"][key] == pytest.approx(expected)


def test_per_field_corrects_each_value_and_falls_back_to_all_rows() -> None:
    calibrator, logits, labels, fields = fitted("per-field:kind")
    p = calibrator.apply(logits, fields)
    for kind in (0, 1):
        rows = fields["kind"] == kind
        assert p[rows].mean() == pytest.approx(labels[rows].mean(), abs=0.03)
    shared = methods.APPLY["platt"](methods.fit_platt(logits, labels), logits, {})
    unknown = {"kind": np.full(len(logits), -1)}
    unseen = {"kind": np.full(len(logits), 77)}
    for given_fields in (None, {}, {"colour": fields["kind"]}, unknown, unseen):
        np.testing.assert_array_equal(calibrator.apply(logits, given_fields), shared)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=25)
@given(
    logits=arrays.arrays(
        np.float32, 60, elements=st.floats(-30, 30, width=32), unique=True, fill=st.nothing()
    ),
    seed=st.integers(0, 1000),
)
def test_no_method_reorders_or_ties_what_a_model_ranks(
    name: str, logits: np.ndarray, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(60) < rng.random()).astype(float)
    one = {"kind": np.zeros(60, dtype=int)}
    p = fit(name, logits, labels, one).apply(np.sort(logits), one)
    assert ((p > 0) & (p < 1)).all()
    gaps = np.diff(np.sort(logits).astype(np.float64))
    assert (np.diff(p) >= 0).all()
    assert (np.diff(p)[(gaps > 1e-3) & (np.abs(np.sort(logits)[1:]) < 20)] > 0).all()


def test_an_isotonic_plateau_keeps_the_order_and_its_rate() -> None:
    logits = np.arange(200.0)
    labels = np.tile([1.0, 0.0], 100)  # one plateau at a half, between two steps
    calibrator = fit("isotonic", logits, labels)
    p = calibrator.apply(logits)
    assert (np.diff(p) > 0).all()
    assert auc(labels, p) == auc(labels, logits)
    np.testing.assert_allclose(p[10:-10], 0.5, atol=3e-4)


def test_isotonic_is_usable_outside_the_range_it_saw_and_never_certain() -> None:
    logits = np.linspace(-3, 3, 100)
    calibrator = fit("isotonic", logits, (logits > 0).astype(float))
    low, high = calibrator.apply(np.array([-1e6, 1e6]))
    assert low == pytest.approx(1 / 102, rel=2e-3)
    assert high == pytest.approx(101 / 102, rel=2e-3)
    outside = calibrator.apply(np.array([-50.0, -20, -3, 3, 20, 50]))
    assert (np.diff(outside) > 0).all()


def test_labels_that_a_threshold_parts_have_finite_parameters() -> None:
    logits = np.linspace(-1, 1, 100)
    for name in NAMES:
        calibrator = fit(name, logits, (logits > 0).astype(float), {"kind": np.zeros(100, int)})
        p = calibrator.apply(logits, {"kind": np.zeros(100, int)})
        assert ((p > 0) & (p < 1)).all()
        json.dumps(calibrator.parameters, allow_nan=False)


def test_scores_that_rank_backwards_keep_their_order_and_get_the_right_mean() -> None:
    logits, labels, _ = a_log()
    p = fit("platt", -logits, labels).apply(-logits)
    assert (np.diff(p[np.argsort(-logits)]) > 0).all()
    assert p.mean() == pytest.approx(labels.mean(), abs=1e-3)
    assert p.std() < 1e-3


def test_logits_that_are_all_the_same_become_the_click_rate() -> None:
    labels = np.repeat([1.0, 0.0], [30, 70])
    for name in ("platt", "isotonic"):
        assert fit(name, np.full(100, 2.5), labels).apply(np.full(3, 2.5)) == pytest.approx(
            0.3, abs=0.01
        )


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_kind_of_label_gives_the_shrunk_rate_and_says_so(name: str, only: float) -> None:
    logits = np.random.default_rng(0).normal(size=98)
    calibrator = fit(name, logits, np.full(98, only), {"kind": np.zeros(98, int)})
    p = calibrator.apply(logits)
    np.testing.assert_allclose(p, (98 * only + 1) / 100, rtol=5e-3)
    assert (np.diff(p[np.argsort(logits)]) > 0).all()
    assert f"all 98 labels are {only:g}" in calibrator.note
    assert calibrator.fitted_on is not None and np.isfinite(calibrator.fitted_on.ece_after)


def test_too_few_rows_give_the_identity_and_a_note() -> None:
    logits, labels, _ = a_log(49)
    calibrator = fit("platt", logits, labels)
    assert calibrator.method == "none"
    assert calibrator.note == "49 rows are too few to calibrate with; 50 are needed"
    np.testing.assert_array_equal(calibrator.apply(logits), Calibrator.identity().apply(logits))


def test_the_identity_is_the_models_own_probability_and_never_certain() -> None:
    p = Calibrator.identity().apply(np.array([-800.0, 0.0, np.log(3), 800.0]))
    assert p.dtype == np.float64
    assert p[1:3].tolist() == pytest.approx([0.5, 0.75])
    assert p[0] > 0 and p[3] < 1


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_calibrator_answers_alike(name: str, tmp_path: Path) -> None:
    calibrator, logits, _, fields = fitted(name)
    again = load_calibrator(calibrator.save(tmp_path / "new" / "calibrator.json"))
    assert again == calibrator
    np.testing.assert_array_equal(again.apply(logits, fields), calibrator.apply(logits, fields))
    about = json.loads((tmp_path / "new" / "calibrator.json").read_text())["fitted_on"]
    assert about["rows"] == 4000 and about["date"].endswith("+00:00")
    assert about["ece_before"] > 0.2
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["calibrator.json"]


def damaged(**changes: object) -> str:
    kept = {
        "method": "platt",
        "parameters": {"slope": 1.0, "offset": 0.0},
        "fitted_on": None,
        "note": "",
        "schema_version": 1,
    }
    return json.dumps({k: v for k, v in (kept | changes).items() if v != "gone"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable calibrator"),
        ("[1]", "has no schema_version; it is not a calibrator"),
        (damaged(schema_version=2), "schema version 2, this llmrec reads up to 1; upgrade"),
        (damaged(method="guess"), "damaged calibrator.*no method 'guess'"),
        (damaged(parameters={"slope": 1.0}), "damaged calibrator.*offset.*calibrate again"),
        (damaged(parameters={"slope": -1.0, "offset": 0}), "damaged.*-1.0 is not positive"),
        (damaged(parameters={"slope": "1", "offset": 0}), "damaged.*'1' is not a number"),
        (damaged(parameters=[]), "damaged calibrator"),
        (damaged(note="gone"), "damaged calibrator.*note"),
        (damaged(fitted_on={"rows": 3}), "damaged calibrator"),
        (damaged(method="temperature", parameters={"temperature": 0}), "0 is not positive"),
        (
            damaged(
                method="isotonic",
                parameters={"logits": [1, 0], "rates": [0.1, 0.2], "centre": 0, "spread": 1},
            ),
            "the steps do not rise",
        ),
        (
            damaged(
                method="per-field",
                parameters={
                    "field": "kind",
                    "shared": {"slope": 1, "offset": 0},
                    "values": {"x": {"slope": 1, "offset": 0}},
                },
            ),
            "a field's name or value is damaged",
        ),
    ],
)
def test_a_damaged_file_is_told_so(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "calibrator.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_calibrator(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not found; fit one on validation rows"):
        load_calibrator(tmp_path / "calibrator.json")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_is_named(wrong: float) -> None:
    logits = np.zeros(60)
    logits[7] = wrong
    for call in (
        lambda: Calibrator.identity().apply(logits),
        lambda: fit("platt", logits, np.zeros(60)),
    ):
        with pytest.raises(DataError, match=f"row 7: logit {wrong} is not a finite number"):
            call()


@pytest.mark.parametrize(
    ("name", "labels", "fields", "error", "message"),
    [
        ("guess", np.zeros(60), {}, ConfigError, "no calibration method 'guess'; there is none, "),
        ("per-field", np.zeros(60), {}, ConfigError, r"none was given.*write per-field:FIELD"),
        ("per-field:x", np.zeros(60), {"y": np.zeros(60, int)}, ConfigError, r"no such field \(y"),
        ("platt", np.full(60, 0.5), {}, DataError, "row 0: label 0.5 is neither 0 nor 1"),
        ("platt", np.zeros(59), {}, DataError, r"labels have shape \(59,\), logits \(60,\)"),
        ("platt", np.zeros(60), {"y": np.zeros(60)}, DataError, "field 'y' is float64"),
        ("platt", np.zeros(60), {"y": np.zeros(3, int)}, DataError, "give integers"),
    ],
)
def test_what_cannot_be_fitted_is_told(
    name: str, labels: np.ndarray, fields: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(name, np.zeros(60), labels, fields)
