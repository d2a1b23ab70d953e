"""``llmrec bench ctr-latency`` and ``bench cascade-latency`` on small random shops."""

from pathlib import Path

import pytest

from llmrec.bench import latency
from llmrec.bench.random_shop import RandomShop
from llmrec.cli import main, run_command
from llmrec.metrics.results import read_result


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> RandomShop:
    """Made once for both commands."""
    config = latency.CascadeLatencyConfig(items=100)
    return latency._make_shop(config, tmp_path_factory.mktemp("shop"), "nano", users=40)


def test_the_answer_of_a_click_model_is_timed(shop: RandomShop, tmp_path: Path) -> None:
    out = tmp_path / "ctr-latency.json"
    flags = ["--ctr", str(shop.ctr), "--runs", "3", "--warmup", "1", "--out", str(out)]
    run_command(["bench", "ctr-latency", *flags])
    metrics = read_result(out)["metrics"]
    assert metrics["candidates"] == 100
    parts = ("features", "head", "calibration")
    assert 0 < metrics["p50_ms"] <= metrics["p99_ms"]
    assert all(0 < metrics[f"{part}_p50_ms"] <= metrics["p99_ms"] for part in parts)


def test_the_whole_cascade_is_timed(
    shop: RandomShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(latency, "_make_shop", lambda *given: asked.append(given) or shop)
    out = tmp_path / "cascade-latency.json"
    flags = ["--items", "100", "--users", "40", "--size", "nano", "--runs", "3", "--warmup", "1"]
    run_command(["bench", "cascade-latency", *flags, "--out", str(out)])
    ((config, _, size, users, seed),) = asked
    assert (config.items, size, users, seed) == (100, "nano", 40, 0)
    metrics = read_result(out)["metrics"]
    assert metrics["items"] == 100 and 0 < metrics["p50_ms"] <= metrics["p99_ms"]
    steps = ("retrieve", "llm", "features", "head", "rerank")
    assert sum(metrics[f"{step}_p50_ms"] for step in steps) <= metrics["p99_ms"] * 1.5


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("ctr-latency", "--runs 0", "runs: must be 1 or more, got 0"),
        ("ctr-latency", "--out x.csv", "--out x.csv: give the name of a .json file"),
        ("cascade-latency", "--items 10", "items: must be 100 or more, got 10"),
        ("cascade-latency", "--size huge", "--size: 'huge' is not one of nano, "),
    ],
)
def test_a_wrong_flag_is_one_line(
    command: str, flags: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", command, "--out", "x.json", *flags.split()]) == 2
    assert capsys.readouterr().err.startswith(f"llmrec: error: {message}")


def test_an_unknown_engine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "ctr-latency", "--out", "x.json", "--engine", "jax"])
    assert caught.value.code == 2
    assert "jax" in capsys.readouterr().err
