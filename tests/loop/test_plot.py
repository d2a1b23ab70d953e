"""Which curves of a log are drawn, and where."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from llmrec.loop.plot import plot_log

LOG = [
    {"stage": "align", "step": 0, "score": 0.1},
    {"stage": "align", "step": 5, "loss": 3.0},
    {"stage": "align", "step": 10, "loss": 2.0},
    {"stage": "tune", "step": 0, "score": 0.2},
    {"stage": "tune", "step": 4, "loss": 1.0},
    {"stage": "tune", "step": 8, "score": 0.3},
]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    saved: list[Figure] = []
    real = Figure.savefig

    def savefig(figure: Figure, *arguments: Any, **more: Any) -> None:
        saved.append(figure)
        real(figure, *arguments, **more)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def test_steps_of_a_later_stage_are_counted_on(tmp_path: Path, figures: list[Figure]) -> None:
    panels = {"loss": ["loss"], "score": ["score"], "none": ["x"]}
    path = plot_log(LOG, tmp_path / "log.png", panels)
    assert path.read_bytes()[:4] == b"\x89PNG"
    loss, score = figures[0].axes
    assert [axes.get_title() for axes in (loss, score)] == ["loss", "score"]
    curve, start = loss.lines
    assert curve.get_xydata().tolist() == [[5, 3], [10, 2], [14, 1]]
    assert set(start.get_xdata()) == {10}
    assert score.lines[0].get_xydata().tolist() == [[0, 0.1], [10, 0.2], [18, 0.3]]


def test_epochs_and_a_mark(tmp_path: Path, figures: list[Figure]) -> None:
    log = [{"epoch": n, "loss": 1 / n, "other": n} for n in (1, 2, 3)]
    plot_log(log, tmp_path / "log.png", {"both": ["loss", "other"]}, x="epoch", mark=2)
    (axes,) = figures[0].axes
    first, second, mark = axes.lines
    assert (first.get_label(), second.get_label()) == ("loss", "other")
    assert set(mark.get_xdata()) == {2} and axes.get_xlabel() == "epoch"
