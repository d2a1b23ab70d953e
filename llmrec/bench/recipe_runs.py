"""What the benchmarks of fine-tuning share: the data and the base of a recipe, and runs apart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from llmrec.bench.checks import result_file
from llmrec.config import build, load_recipe, load_yaml
from llmrec.errors import ConfigError, LlmrecError
from llmrec.stage import Manifest


@dataclass(frozen=True, kw_only=True)
class TuningBenchConfig:
    """What the recipes of both benchmarks hold.

    Attributes:
        name: of the result and of the run's folder.
        source: recipe that the data and the base come from.
        model: which of its models is the base.
        seed: of everything.
        resamples: bootstrap resamples behind the 95% intervals.
    """

    name: str
    source: Path
    model: str
    seed: int = 0
    resamples: int = 2000


AnyConfig = TypeVar("AnyConfig", bound=TuningBenchConfig)


def open_recipe(
    cls: type[AnyConfig], recipe: Path, out: Path | None, results: Path | None
) -> tuple[AnyConfig, Path, Path]:
    """A benchmark's recipe, the run's folder and the result file, by default named by the recipe.

    Raises:
        ConfigError: if the recipe is wrong, or the result is to be no ``.json``.
    """
    config = build(cls, load_yaml(recipe), str(recipe))
    out = out or Path("runs") / config.name
    return config, out, result_file(results or out / f"{config.name}.json", "--results")


def run_stages(
    config: TuningBenchConfig, stages: Sequence[str], where: str, out: Path
) -> dict[str, Any]:
    """Make the data of the source recipe, and some stages of its model.

    Args:
        stages: of the model, such as ``index`` and ``train``.
        where: the benchmark's recipe, for messages.
        out: the run's folder.

    Returns:
        the source recipe as it stands in the file, variables replaced.

    Raises:
        ConfigError: if the recipe has no such model.
        LlmrecError: if a stage fails; its own message is above.
    """
    source, model = config.source, config.model
    recipe, _ = load_recipe(source, out)
    models = recipe.get("models") or {}
    if model not in models:
        raise ConfigError(
            f"{where}: model: {source} has no model {model!r}; it has {', '.join(models)}"
        )
    data = [name for name in ("demo_shop", "ingest", "embed") if recipe.get(name) is not None]
    only = ",".join([*data, *(f"{model}/{stage}" for stage in stages)])
    _run(["run", str(source), f"--out={out}", f"--only={only}"], f"{where}: source")
    return recipe


def run_apart(command: str, recipe: Path, out: Path, seed: int, **folders: Path) -> None:
    """Run a command of llmrec in a process of its own, so that its peak of memory is its own.

    Args:
        command: ``tune`` or ``prefer``.
        folders: its further flags, by name.

    Raises:
        LlmrecError: if it fails; its own message is above.
    """
    flags = [f"--{name}={folder}" for name, folder in folders.items()]
    arguments = [command, str(recipe), *flags, f"--out={out}", f"--seed={seed}"]
    print(f"\n== {out.name}", flush=True)
    _run(arguments, out.name)


def tune_apart(settings: dict[str, Any], out: Path, seed: int, base: Path, dataset: Path) -> None:
    """:func:`run_apart` of ``llmrec tune``, its recipe written beside ``out``."""
    recipe = out.with_name(f"{out.name}.yaml")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(yaml.safe_dump({"tune": settings}, sort_keys=False), encoding="utf-8")
    run_apart("tune", recipe, out, seed, base=base, dataset=dataset)


def training_counts(manifest: Manifest) -> dict[str, Any]:
    """What a result's row says of a run's training."""
    kept = ("trained_parameters", "aligned_parameters", "adapter_bytes", "train_seconds",
            "peak_mib", "steps")  # fmt: skip
    return {key: manifest.counts[key] for key in kept if key in manifest.counts}


def _run(arguments: list[str], what: str) -> None:
    """A command of llmrec in a process of its own."""
    if subprocess.run([sys.executable, "-m", "llmrec", *arguments], check=False).returncode:
        raise LlmrecError(f"{what}: llmrec {arguments[0]} failed; see above")
