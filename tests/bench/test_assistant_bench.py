"""The assistant's benchmark: conversations that are held, kept, counted and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reading_model import ReadingModel
from tiny_shop import TinyRun

from llmrec.bench import assistant
from llmrec.bench.assistant_report import figures
from llmrec.bench.shoppers import needs
from llmrec.bench.shoppers.adversarial import DECLINED, LONG, Adversary
from llmrec.bench.shoppers.units import ALONE, ATTACK, SHOP, Judge, Unit, units_of
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.serving.assistant.mind import EmbeddedModel
from llmrec.serving.assistant.safety import urgent


@pytest.fixture
def bench(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the benchmark on the tiny shop, with a model that reads by rules."""
    monkeypatch.setattr(EmbeddedModel, "load", lambda *_, **__: ReadingModel())
    for name, value in (("LEAST_LATER", 1), ("LEAST_EARLIER", 2), ("LEAST_FITTING", 6)):
        monkeypatch.setattr(needs, name, value)
    adapter = tmp_path / "adapter"
    adapter.mkdir()

    def run(out: str = "assistant.json", **more: Any) -> dict[str, Any]:
        options = {"shoppers": 4, "times": 2, "adversarial": 12, **more}
        path = assistant.run(
            tiny_run.bundle("atomic"), tiny_run.folder / "dataset", tmp_path / out,
            adapter=adapter, work=tmp_path / "work", resamples=20, **options,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    return run


def test_conversations_are_held_counted_and_kept(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = bench()
    metrics = result["metrics"]
    assert metrics["untrue_replies"] == metrics["pushed"] == metrics["carts"] == 0
    assert metrics["pass^2"] <= metrics["pass^1"] == metrics["success"] <= 1
    assert metrics["success"] > 0
    assert metrics["worth_of_history"] == pytest.approx(
        metrics["success"] - metrics["success_without_history"]
    )
    assert 1 <= metrics["turns"] <= needs.PATIENCE[1]
    assert 0 < metrics["first_token_p50_ms"] <= metrics["reply_p50_ms"]
    assert sum(result["counts"]["adversarial"].values()) == 12
    assert result["counts"]["shoppers"] == 4
    assert str(tmp_path) not in json.dumps(result["metrics"]) + result["model"]
    page = (tmp_path / "assistant.md").read_text()
    assert "`success_without_history`" in page
    assert (tmp_path / "assistant.png").stat().st_size > 0
    # the same again holds no conversation anew
    monkeypatch.setattr(Judge, "hold", lambda *_: pytest.fail("held again"))
    again = bench("again.json")["metrics"]
    assert again == metrics
    with pytest.raises(pytest.fail.Exception, match="held again"):
        bench("other.json", seed=1)


def test_a_run_that_ends_early_says_so(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, held = Judge.hold, list[Unit]()

    def hold(judge: Judge, unit: Unit) -> Any:
        held.append(unit)
        if len(held) > 5:
            raise KeyboardInterrupt
        return original(judge, unit)

    with monkeypatch.context() as patched:
        patched.setattr(Judge, "hold", hold)
        with pytest.raises(KeyboardInterrupt):
            bench()
    # another card is not another adapter: what was held counts
    (tmp_path / "adapter" / "README.md").write_text("figures")
    result = bench(max_minutes=0.0)
    assert result["conversations"] == {"asked for": 14, "held": 5}
    assert "after 5 of 14 conversations" in (tmp_path / "assistant.md").read_text()


def test_a_run_without_conversations_leaves_the_result_as_it_was(
    bench: Any, tmp_path: Path
) -> None:
    (tmp_path / "assistant.json").write_text("measured")
    with pytest.raises(ConfigError, match="ended before any conversation"):
        bench(max_minutes=0.0)
    assert (tmp_path / "assistant.json").read_text() == "measured"


def test_numbers_that_make_no_sense_are_errors(bench: Any) -> None:
    with pytest.raises(ConfigError, match="--shoppers"):
        bench(shoppers=0)
    with pytest.raises(ConfigError, match="--adversarial"):
        bench(adversarial=-1)
    with pytest.raises(ConfigError, match="--results"):
        bench("assistant.txt")


def held(number: int, kind: str, time: int, met: bool, **more: Any) -> dict[str, Any]:
    line = {
        "number": number, "kind": kind, "time": time, "met": met, "turns": 2 if met else 4,
        "bought": met, "untrue": [], "wrong_replies": 0, "lists": 2, "kept": 1, "failed": 0,
        "first_ms": [1.0], "reply_ms": [2.0, 4.0], "first_cpu_ms": [1.0], "reply_cpu_ms": [2.0],
        "said": [("hello", "hi")],
    }  # fmt: skip
    return line | more


def test_figures_are_of_shoppers_who_came_each_time() -> None:
    lines = [
        held(0, SHOP, 0, True), held(0, SHOP, 1, True), held(0, ALONE, 0, False),
        held(1, SHOP, 0, True), held(1, SHOP, 1, False), held(1, ALONE, 0, True),
        held(2, SHOP, 0, False), held(2, ALONE, 0, True),  # not each time
        held(
            0, ATTACK, 0, False, kinds=["medical", "claim"], pushed=["pills"], carts=[],
            untrue=["a", "b"], wrong_replies=1,
        ),
    ]  # fmt: skip
    found = figures(lines, times=2, resamples=10, seed=0)
    metrics = found.metrics
    assert metrics["success"] == pytest.approx(0.75)
    assert (metrics["pass^1"], metrics["pass^2"]) == (0.75, 0.5)
    assert (metrics["success_first"], metrics["success_without_history"]) == (1.0, 0.5)
    assert metrics["worth_of_history"] == pytest.approx(0.25)
    assert metrics["turns"] == pytest.approx(2.5)
    assert metrics["filters_kept"] == 0.5
    assert (metrics["untrue_replies"], metrics["pushed"]) == (1, 1)
    assert metrics["reply_p50_ms"] == 3.0
    assert found.counts["shoppers"] == 2
    assert found.by_turn["with history"] == [0.0, 1.0]
    assert found.examples["untrue"] == ["a", "b"]


def test_any_beginning_of_the_conversations_is_a_fair_sample() -> None:
    units = units_of(shoppers=10, times=2, attacks=200)
    assert len(units) == 10 * 3 + 20
    half = units[: len(units) // 2]
    assert sum(unit.kind == ATTACK for unit in half) == pytest.approx(10, abs=2)
    assert {unit.number for unit in half if unit.kind == SHOP} == set(range(5))


def test_adversaries_are_of_every_kind(tiny_data: Dataset) -> None:
    adversary = Adversary(tiny_data.items.to_pylist(), seed=3)
    attacks = [adversary.attack() for _ in range(600)]
    kinds = {attack.kind for attack in attacks}
    assert {*DECLINED, "claim", "instruction", "missing", "odd", "long", "language"} < kinds
    assert all(len(one.message) == LONG for one in attacks if one.kind == "long")
    assert any("\u202e" in one.message for one in attacks if one.kind == "odd")
    for one in attacks:
        if one.kind in DECLINED:
            assert urgent(one.message) == one.kind, one.message
    again = Adversary(tiny_data.items.to_pylist(), seed=3)
    assert [again.attack() for _ in range(5)] == attacks[:5]
