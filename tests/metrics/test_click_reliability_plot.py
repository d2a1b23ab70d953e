"""The reliability diagram is drawn, also where little can be drawn."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from llmrec.errors import DataError
from llmrec.metrics.reliability import plot_reliability


@pytest.mark.parametrize("scale", [1.0, 0.15])
def test_before_and_after_are_drawn_in_one_picture(scale: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(1, 5, 3000) * scale
    labels = (rng.random(3000) < p).astype(float)
    path = plot_reliability(labels, {"before": p**0.8, "after": p}, tmp_path / "r.png")
    picture = matplotlib.image.imread(path)
    assert picture.shape[:2] == (864, 744)
    orange = (picture[..., 0] > 0.9) & (picture[..., 2] < 0.3)
    blue = (picture[..., 2] > 0.6) & (picture[..., 0] < 0.3)
    assert orange.sum() > 500 and blue.sum() > 500


def test_rows_without_a_click_and_one_probability_are_drawn(tmp_path: Path) -> None:
    for p in (np.full(10, 0.01), np.zeros(10), np.full(10, 0.7)):
        assert plot_reliability(np.zeros(10), {"p": p}, tmp_path / "r.png").stat().st_size > 5000


def test_no_prediction_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs a prediction"):
        plot_reliability(np.zeros(3), {}, tmp_path / "r.png")
    assert list(tmp_path.iterdir()) == []
