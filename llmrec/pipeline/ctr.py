"""The section ``ctr:`` of a recipe: from lists that were shown to probabilities of a click.

::

    ctr:
      log: {event_types: []}      # what ingest does differently for the whole log: keep all
      models: [early, final]      # whose scores the head reads; the last one serves
      bench: true                 # also measure it and the whole cascade on the test part
      labels: {kind: impressions, file: "${out}/raw/impressions.jsonl"}
      ...                         # settings of llmrec ctr

Adds ``log/  ctr_signals/  ctr/`` to the run's folder, the click model to the bundle of the model
that serves, and with ``bench`` a result file and a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llmrec.config import build
from llmrec.errors import ConfigError
from llmrec.flags import config_class
from llmrec.ranking.ctr.settings import Settings, split_section

MODULES = {
    "ingest": "llmrec.data.ingest",
    "ctr": "llmrec.ranking.ctr.run",
    "material": "llmrec.ranking.ctr.material",
    "bench": "llmrec.bench.ctr",
    "bench_report": "llmrec.bench.ctr_report",
    "results": "llmrec.metrics.results",
}


@dataclass(frozen=True)
class CtrPlan:
    """A checked section.

    Attributes:
        steps: by name, to be run after the models are trained and before they are bundled.
        after: steps that measure.
        folder: of the click model.
        serves: name of the model whose bundle gets it.
    """

    steps: dict[str, Callable[[], object]]
    after: dict[str, Callable[[], object]] = field(default_factory=dict)
    folder: Path = Path()
    serves: str = ""


def ctr_plan(
    section: Settings,
    *,
    name: str,
    out: Path,
    seed: int,
    ingest: Settings,
    models: Mapping[str, Any],
    media: Any,
    has_text: bool,
    where: str,
    load: Callable[[str], Any],
) -> CtrPlan:
    """The steps of the section, every setting checked, nothing done yet.

    Args:
        section: the recipe's ``ctr:``.
        name: of the run.
        out: the run's folder.
        ingest: settings of the recipe's own ingest.
        models: the recipe's models by name.
        media: its media section, or None.
        has_text: whether items have text vectors.
        where: the recipe's file, put in front of every message.
        load: imports a module.

    Raises:
        ConfigError: naming the section and the key.
    """
    recipe, settings = split_section(section, f"{where}: ctr")
    module = load(MODULES["ctr"])
    config = build(config_class(module.run), settings, f"{where}: ctr")
    scored = [key for key, model in models.items() if model.index is not None]
    chosen = scored if recipe.models is None else recipe.models
    for model in chosen:
        if model not in scored:
            raise ConfigError(
                f"{where}: ctr.models: {model!r} is no model with item IDs of this recipe; it has "
                f"{', '.join(scored) or 'none'}"
            )
    steps: dict[str, Callable[[], object]] = {}
    dataset, log = out / "dataset", None
    if recipe.log is not None:
        log = out / "log"
        reader = load(MODULES["ingest"])
        read = build(config_class(reader.run), ingest | recipe.log, f"{where}: ctr.log")
        steps["log"] = partial(reader.run, read, seed=seed, out=log)
    has = {part: media is not None and getattr(media, part) is not None
           for part in ("fusion", "categories", "embed")}  # fmt: skip
    folders = load(MODULES["material"]).Folders(
        dataset=dataset,
        log=log,
        fusion=out / "fusion" if has["fusion"] else None,
        captions=out / "categorical_features" if has["categories"] else None,
        models=tuple(out / "models" / model / "model" for model in chosen),
    )
    steps["ctr"] = partial(module.run, config, folders, out / "ctr", seed)
    after: dict[str, Callable[[], object]] = {}
    if recipe.bench:
        known = {"features": out / "features" if has_text else None,
                 "media": out / "media_features" if has["embed"] else None}  # fmt: skip
        after["ctr-bench"] = partial(_bench, load, config, folders, out, name, seed, known)
    return CtrPlan(steps, after, out / "ctr", chosen[-1] if chosen else "")


def _bench(
    load: Callable[[str], Any],
    config: Any,
    folders: Any,
    out: Path,
    name: str,
    seed: int,
    known: dict[str, Path | None],
) -> None:
    """Measure, and write the page beside the result."""
    target = out / "report" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    signals = out / "ctr_signals"
    load(MODULES["bench"]).run(config, folders, target, signals, seed=seed, **known)
    result = load(MODULES["results"]).read_result(target)
    page = load(MODULES["bench_report"]).write_ctr_report(result, target.parent)
    print(page.read_text(encoding="utf-8"), flush=True)
