"""``llmrec recommend --all --out FILE``: what each user would get alone, whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_models import write_dataset
from tiny_shop import TinyRun

from llmrec.bench.random_shop import NOW, RandomShop
from llmrec.cli import main, run_command
from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError
from llmrec.files import locked
from llmrec.serving import everyone
from llmrec.serving.bundle import Bundle
from llmrec.serving.history import dataset_histories
from llmrec.serving.recommender import Recommender


def written(path: Path) -> list[dict[str, Any]]:
    """Rows of a file, without what is not known."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = pq.read_table(path).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def test_everybody_gets_what_they_would_get_alone(
    tiny_run: TinyRun,
    bundle: Bundle,
    tiny_data: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(everyone, "USERS_AT_ONCE", 32)  # several batches, the last one smaller
    folder, dataset = str(bundle.folder), str(tiny_run.folder / "dataset")
    flags = ["--dataset", dataset, "--all", "-n", "5", "--in-stock", "--beams", "30"]
    for name in ("all.jsonl", "all.parquet"):
        run_command(["recommend", folder, *flags, "--out", str(tmp_path / name)])
    rows = written(tmp_path / "all.jsonl")
    said = capsys.readouterr().out
    assert f"recommend: wrote {tmp_path / 'all.jsonl'}: 750 items for 150 users" in said
    assert [row["user_id"] for row in rows] == [u for u in tiny_data.user_ids for _ in range(5)]
    histories = dataset_histories(tiny_data)
    alone = Recommender.load(folder, histories=histories, beams=30)
    for number in (0, 31, 32, 149):
        user = tiny_data.user_ids[number]
        expected = alone.recommend(user=user, n=5, where={"in_stock": True}).recommendations
        for row, one in zip(rows[5 * number : 5 * number + 5], expected, strict=True):
            score = row["score"]
            plain = one.as_dict() | {"sources": list(one.sources)}
            assert row | {"score": None} == {"user_id": user} | plain | {"score": None}
            assert score == pytest.approx(one.score, abs=1e-4)
    assert written(tmp_path / "all.parquet") == rows


def test_the_click_model_ranks_for_everybody(
    shop: RandomShop, recommender: Recommender, tmp_path: Path
) -> None:
    names = {"item_id": recommender.bundle.item_ids}
    histories = [[3, 9, 31], [1, 2, 5, 8], [7, 7, 40]]
    times = [[NOW - 900.0 + 60 * n for n in range(len(row))] for row in histories]
    folder = write_dataset(tmp_path / "people", histories, 60, times, items=names)
    dataset = Dataset(folder)
    out = tmp_path / "all.parquet"
    flags = ["--dataset", str(folder), "--all", "--out", str(out), "--now", str(NOW)]
    run_command(["recommend", str(shop.bundle), *flags, "-n", "3"])
    rows = written(out)
    assert len(rows) == 3 * len(dataset.user_ids)
    history = dataset_histories(dataset)("u1")
    expected = recommender.recommend(history, 3, now=NOW).recommendations
    found = [row for row in rows if row["user_id"] == "u1"]
    assert [row["item_id"] for row in found] == [one.item_id for one in expected]
    assert [row["p_click"] for row in found] == pytest.approx([one.p_click for one in expected])
    assert [row["sources"] for row in found] == [list(one.sources) for one in expected]


def test_after_an_error_there_is_no_file(
    tiny_run: TinyRun, atomic: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "all.jsonl"
    out.write_text("yesterday's\n")
    monkeypatch.setattr(everyone, "USERS_AT_ONCE", 100)
    real, calls = Recommender.answer_all, []

    def cut_off(self: Recommender, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(Recommender, "answer_all", cut_off)
    flags = ["--dataset", str(tiny_run.folder / "dataset"), "--all", "--out", str(out)]
    assert main(["recommend", str(atomic.folder), *flags]) == 130
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["all.jsonl"]
    assert out.read_text() == "yesterday's\n"


def test_two_runs_do_not_write_one_file(tiny_run: TinyRun, atomic: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    flags = ["--dataset", str(tiny_run.folder / "dataset"), "--all", "--out", str(out)]
    with locked(out), pytest.raises(ArtifactError, match="another run writes here"):
        run_command(["recommend", str(atomic.folder), *flags])


def test_items_that_the_bundle_does_not_know(
    atomic: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [*atomic.item_ids[:3], "new-1"]
    dataset = write_dataset(tmp_path / "newer", [[0, 1, 3], [3, 2, 1]], 4, items={"item_id": names})
    out = tmp_path / "all.jsonl"
    flags = ["--dataset", str(dataset), "--all", "--out", str(out), "-n", "200"]
    run_command(["recommend", str(atomic.folder), *flags])
    said = capsys.readouterr().out
    assert f"1 of 4 items of {dataset} are not in the bundle and left out of histories" in said
    assert "recommend: 2 users have fewer than 200: no more are left for them" in said
    rows = written(out)
    assert [row["user_id"] for row in rows] == ["u0"] * 118 + ["u1"] * 118
    other = write_dataset(tmp_path / "other", [[0, 1, 1]], 2)
    flags[1] = str(other)
    with pytest.raises(ConfigError, match=r"none of the items of .*other is in the bundle \('i0' "):
        run_command(["recommend", str(atomic.folder), *flags])
