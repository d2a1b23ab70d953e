"""Two adapters that ``llmrec tune`` trained on one base of the tiny shop, and their bundle.

A few steps at a large rate: enough for nearly everybody to be recommended something else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_shop import TinyRun

import llmrec.bundle
from llmrec.bundle import Bundle
from llmrec.tune.settings import Config, LoopConfig

NAMES = ("recommend", "gifts")
TASKS = {"recommend": {"next_item": 1.0}, "gifts": {"rank": 1.0}}


@dataclass(frozen=True)
class Tuned:
    """What fine-tuning left.

    Attributes:
        base: the base of both adapters.
        adapters: their folders, by name.
        trained: the models as their trainer had them in memory when it saved them.
        bundle: base and adapters, ready to serve.
    """

    base: Path
    adapters: dict[str, Path]
    trained: dict[str, Any]
    bundle: Path


def make_tuned(run: TinyRun, kind: str, home: Path) -> Tuned:
    """Fine-tune twice and make a bundle of it, with the real commands."""
    from llmrec.tune.run import run as tune

    dataset, base = run.folder / "dataset", run.model(kind)
    adapters, trained = {}, {}
    for seed, name in enumerate(NAMES):
        with pytest.MonkeyPatch.context() as patch:
            kept = _keep_saved(patch)
            tune(tiny_tuning(name), base, dataset, home / name, seed)
        adapters[name], (trained[name],) = home / name / "adapter", kept
    flags = [f"--adapter={folder}" for folder in adapters.values()]
    parts = [f"--dataset={dataset}", f"--features={run.folder / 'features'}", f"--model={base}"]
    llmrec.bundle.main([*parts, *flags, f"--out={home / 'bundle'}"])
    return Tuned(base, adapters, trained, home / "bundle")


def tiny_tuning(name: str) -> Config:
    loop = LoopConfig(max_steps=12, batch_size=8, learning_rate=1e-2, logging_steps=6)
    return Config(name=name, rank=4, validation_users=10, beams=10, tasks=TASKS[name], loop=loop)


def _keep_saved(patch: pytest.MonkeyPatch) -> list[Any]:
    """The models that will be saved as adapters, as they are then."""
    from llmrec.tune import work

    kept: list[Any] = []
    real = work.save_adapter

    def save(model: Any, *arguments: Any, **more: Any) -> Path:
        kept.append(model)
        return real(model, *arguments, **more)

    patch.setattr(work, "save_adapter", save)
    return kept


@pytest.fixture(scope="session")
def tuned_atomic(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return make_tuned(tiny_run, "atomic", tmp_path_factory.mktemp("tuned_atomic"))


@pytest.fixture(scope="session")
def tuned_semantic(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return make_tuned(tiny_run, "semantic", tmp_path_factory.mktemp("tuned_semantic"))


@pytest.fixture(scope="session")
def adapted(tuned_atomic: Tuned) -> Bundle:
    """The atomic bundle with its adapters, opened."""
    return Bundle(tuned_atomic.bundle)


def open_vllm(folder: Path, **more: Any) -> Iterator[Any]:
    """The body of a fixture: a folder on a real vLLM, quiet and small.

    One takes ten seconds and more to start, so a session has three: these two, and the merged model
    of tests/bench/test_agree.py.
    """
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    from llmrec.generation.vllm_llm import VllmLlm

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        with VllmLlm(folder, **more) as llm:
            yield llm


@pytest.fixture(scope="session")
def vllm_atomic(tuned_atomic: Tuned) -> Iterator[Any]:
    """vLLM on the atomic bundle; tests that use it ignore vLLM's warnings."""
    yield from open_vllm(tuned_atomic.bundle, beams=20)


@pytest.fixture(scope="session")
def vllm_semantic(tuned_semantic: Tuned) -> Iterator[Any]:
    """The same on the semantic bundle."""
    yield from open_vllm(tuned_semantic.bundle, beams=20)
