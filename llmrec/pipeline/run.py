"""``llmrec run RECIPE.yaml``: every stage in order, from raw files to shown recommendations.

The whole recipe (:mod:`llmrec.pipeline.recipe`) is checked before the first stage starts. Each
stage skips itself when its folder is up to date, so running a recipe again continues it.

The run's folder: ``raw/  dataset/  features/  models/NAME/{item_ids,model,bundle}/
evaluation/RECIPE-NAME/  report/``, and with media ``clip/  temporal/  media_features/  multimodal/
captions/  categorical_features/  fusion/  search_index/``, with a click model ``ctr/``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from llmrec.errors import ConfigError
from llmrec.files import locked
from llmrec.pipeline.plan import Step, plan
from llmrec.pipeline.recipe import read_recipe


def run(
    recipe: Path, /, *, out: Path | None = None, only: str | None = None, start: str | None = None
) -> None:
    """Run a recipe's stages in order; finished ones are skipped.

    Args:
        recipe: YAML file, such as training/demo.yaml.
        out: the run's folder (default: runs/NAME).
        only: run these steps alone, with commas between: ``atomic/train``, or ``train`` for every
            model's.
        start: start at this step.

    Raises:
        ConfigError: before any work, naming the section and the key.
        ArtifactError: if another run writes to its folder.
    """
    if only is not None and start is not None:
        raise ConfigError("--only and --start: give one of the two")
    checked, folder = read_recipe(recipe, out)
    steps = select(plan(checked, folder, str(recipe)), only, start)
    started = time.monotonic()
    # between two stages as well: what one wrote is still to be read by the next
    with locked(folder):
        execute(steps)
    print(f"\n{checked.name}: done in {time.monotonic() - started:.1f} s; see {folder}")


def select(steps: Sequence[Step], only: str | None, start: str | None) -> list[Step]:
    """The steps asked for, by full name (``atomic/train``) or stage (``train``: of every model).

    Args:
        only: names of the steps to run, with commas between; None for all.
        start: name of the first step to run; None for the first of all.

    Raises:
        ConfigError: if a name matches no step.
    """
    chosen = [] if only is None else only.split(",")
    for flag, name in [*(("--only", name) for name in chosen), ("--start", start)]:
        if name is not None and not any(name in (s.name, s.stage) for s in steps):
            known = ", ".join(s.name for s in steps)
            raise ConfigError(f"{flag} {name}: no such stage in this recipe; it has {known}")
    if only is not None:
        return [s for s in steps if s.name in chosen or s.stage in chosen]
    first = next((i for i, s in enumerate(steps) if start in (s.name, s.stage)), 0)
    return list(steps[first:])


def execute(steps: Sequence[Step]) -> None:
    """Run the steps, each under a heading and with its time."""
    for number, step in enumerate(steps, 1):
        print(f"\n== {number}/{len(steps)} {step.name}", flush=True)
        started = time.monotonic()
        step.run()
        print(f"   {time.monotonic() - started:.1f} s", flush=True)
