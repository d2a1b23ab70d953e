"""Windows keep few numbers and still give the figures of their rows."""

import numpy as np
import pytest

from llmrec.metrics import click_metrics as metrics
from llmrec.ranking.monitor.served import ServedBatch
from llmrec.ranking.monitor.windows import DAY, Window, Windows

MONDAY = 1_714_953_600.0  # 2024-05-06


def batch_of(
    p: np.ndarray, clicked: np.ndarray, seconds: np.ndarray | float = MONDAY
) -> ServedBatch:
    return ServedBatch(p, clicked, np.broadcast_to(seconds, p.shape).astype(float), {})


def a_log(rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    p = rng.beta(1, 9, rows)
    return p, (rng.random(rows) < p * 0.8).astype(float)


def test_figures_are_those_of_the_rows() -> None:
    p, clicked = a_log()
    window = Window()
    for part in np.array_split(np.arange(20_000), 7):
        window.add(batch_of(p, clicked), part, {})
    figures = window.figures()
    assert figures["rows"] == figures["labelled"] == 20_000
    assert figures["predicted"] == pytest.approx(p.mean())
    assert figures["observed"] == clicked.mean()
    assert figures["ne"] == pytest.approx(
        metrics.log_loss(clicked, p) / metrics.entropy(clicked.mean())
    )
    assert figures["predicted_over_observed"] == pytest.approx(p.sum() / clicked.sum())
    assert figures["auc"] == pytest.approx(metrics.auc(clicked, p), abs=1e-4)
    assert figures["ece"] == pytest.approx(metrics.ece(clicked, p), rel=0.02)
    low, high = figures["predicted_over_observed_interval"]
    assert 1 < low < figures["predicted_over_observed"] < high < 1.5


def test_rows_of_which_clicks_are_not_known_count_for_the_mean_alone() -> None:
    p, clicked = a_log(1000)
    clicked[500:] = np.nan
    window = Window()
    window.add(batch_of(p, clicked), np.arange(1000), {})
    half = Window()
    half.add(batch_of(p, clicked), np.arange(500), {})
    assert window.figures() | {"rows": 500, "mean_p": 0} == half.figures() | {"mean_p": 0}
    assert window.figures()["mean_p"] == pytest.approx(p.mean())


def test_what_a_window_lacks_is_none() -> None:
    p = np.full(10, 0.2)
    unknown, nothing, everything = Window(), Window(), Window()
    unknown.add(batch_of(p, np.full(10, np.nan)), np.arange(10), {})
    assert {unknown.figures()[name] for name in ("ece", "ne", "auc", "observed")} == {None}
    nothing.add(batch_of(p, np.zeros(10)), np.arange(10), {})
    figures = nothing.figures()
    assert (figures["auc"], figures["ne"], figures["predicted_over_observed"]) == (None,) * 3
    assert figures["ece"] == pytest.approx(0.2)
    low, high = figures["predicted_over_observed_interval"]
    assert low > 0 and high is None
    everything.add(batch_of(p, np.ones(10)), np.arange(10), {})
    assert everything.figures()["auc"] is None
    assert everything.figures()["predicted_over_observed"] == pytest.approx(0.2)


def test_certain_probabilities_are_measured() -> None:
    p, clicked = np.array([0.0, 1.0] * 50), np.array([0.0, 1.0] * 50)
    window = Window()
    window.add(batch_of(p, clicked), np.arange(100), {})
    assert window.figures()["auc"] == 1
    assert window.figures()["ece"] == 0


def test_days_and_weeks_begin_in_utc_and_weeks_on_monday() -> None:
    p = np.full(4, 0.5)
    seconds = MONDAY + np.array([-1.0, 0, DAY - 1, 6.5 * DAY])
    for length, expected in (
        ("day", [("2024-05-05", 1), ("2024-05-06", 2), ("2024-05-12", 1)]),
        ("week", [("2024-04-29", 1), ("2024-05-06", 3)]),
    ):
        windows = Windows(length, {})
        windows.add(batch_of(p, np.zeros(4), seconds[::-1]))
        assert [(start, one.rows) for start, one in windows.in_order()] == expected
        assert windows.overall().rows == 4


def test_bins_of_inputs_are_counted_by_window() -> None:
    p = np.full(4, 0.5)
    windows = Windows("day", {"x": 3})
    batch = batch_of(p, np.zeros(4), MONDAY + DAY * np.array([0, 0, 1, 1]))
    for _ in range(2):
        windows.add(ServedBatch(p, batch.clicked, batch.seconds, {"x": np.array([0, 1, 1, 1])}))
    assert [one.counts["x"].tolist() for _, one in windows.in_order()] == [[2, 2, 0], [0, 4, 0]]
    assert windows.overall().counts["x"].tolist() == [2, 6, 0]
    assert [one.counts["x"].tolist() for _, one in windows.in_order()] == [[2, 2, 0], [0, 4, 0]]
