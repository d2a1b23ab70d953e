"""``import llmrec`` and ``llmrec --help`` load nothing heavy and are quick."""

import logging
import resource
import subprocess
import sys

import pytest

HEAVY = [
    "accelerate",
    "bitsandbytes",
    "datasets",
    "faiss",
    "fastapi",
    "holidays",
    "lightgbm",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "open_clip",
    "peft",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "sqlalchemy",
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "vllm",
    "whisper",
]

LIGHT_MODULES = ["cli", "config", "data.dataset", "environment", "errors", "pipeline"]
LIGHT_MODULES += ["recommender", "stage", "types"]


def heavy_after(code: str) -> list[str]:
    """The heavy packages that a fresh interpreter has loaded after ``code``."""
    report = f"\nimport sys; print('loaded', *(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_probe_sees_a_heavy_import() -> None:
    assert "sqlalchemy" in heavy_after("import sqlalchemy")


def test_an_interpreter_of_this_environment_starts_without_torch() -> None:
    assert heavy_after("pass") == []  # the torchvision hook runs in every interpreter


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_the_core_imports_nothing_heavy(module: str) -> None:
    assert heavy_after(f"import llmrec.{module}") == []


@pytest.mark.parametrize("name", ["bitsandbytes.backends.cpu.ops", "vllm.triton_utils.importing"])
def test_a_library_that_is_not_in_use_reports_errors_only(name: str) -> None:
    code = f"import llmrec, logging; print(logging.getLogger({name!r}).getEffectiveLevel())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == logging.ERROR


def test_help_loads_nothing_heavy() -> None:
    assert heavy_after("from llmrec.cli import main; assert main(['--help']) == 0") == []


def test_help_is_there_in_a_third_of_a_second() -> None:
    """Of a core: other work on the machine is not llmrec's."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "llmrec", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3, seconds
