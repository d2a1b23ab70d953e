"""``llmrec ctr``: what was shown and clicked -> calibrated probabilities of a click.

    llmrec ctr RECIPE.yaml --dataset DIR --log DIR --fusion DIR --captions DIR \\
        --model EARLY --model LATE --out DIR

The recipe's ``ctr:`` section holds the settings (:class:`~llmrec.ranking.ctr.settings.CtrConfig`).
The folder holds

* ``head-0.safetensors`` ...: the networks, with their shape; ``head.onnx`` and ``items.onnx``: the
  same for ONNX Runtime, checked against them;
* ``shelf.safetensors``, ``shelf.json``: the items as the head sees them; ``snapshot/``: what the
  sources of candidates know; ``model.json``: settings, contexts, rates, names;
* ``calibrator.json``: from logits to probabilities, chosen on the validation part;
* ``reference.json``: the inputs of the validation part, for ``llmrec monitor``;
* ``figures.json``: how well it does on the validation part, the choice of a calibrator beside it.

Nothing of the test part is read here; ``llmrec bench ctr`` measures on it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.config import as_dict, build, load_yaml
from llmrec.errors import ConfigError
from llmrec.ranking.ctr.settings import CtrConfig, split_section
from llmrec.stage import Manifest, StageRun, file_hash, run_stage

if TYPE_CHECKING:
    from llmrec.ranking.ctr.features import Inputs
    from llmrec.ranking.ctr.material import Folders, Material
    from llmrec.ranking.ctr.network import Head
    from llmrec.ranking.ctr.signals import Ranked

__all__ = ["CtrConfig", "main", "run"]

STAGE = "ctr"
FIGURES = "figures.json"
LLM_WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
CANDIDATES = 400  # of a person, where the weight of the language model is chosen
_REFERENCE_ROWS = 50_000


def run(
    config: CtrConfig,
    folders: Folders,
    out: Path,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> Path:
    """Train and calibrate a click model, or find it done.

    Args:
        folders: where everything comes from.

    Raises:
        ConfigError, DataError, ArtifactError: where folders and settings do not fit together.
        MissingExtraError: if a package of the extra ``ctr`` is not installed.
    """
    from llmrec.ranking.ctr.material import gather, run_signals

    signals = run_signals(config, folders, out.with_name(f"{out.name}_signals"), seed, log)
    inputs = folders.hashes()
    if config.labels.file is not None:
        inputs["labels"] = file_hash(config.labels.file)

    def work(stage: StageRun) -> None:
        material = gather(config, folders, signals, seed)
        log(_told_of(material))
        _write(stage, config, folders, material, seed, log)

    return run_stage(out, Manifest(STAGE, as_dict(config), inputs, seed=seed), work, log=log)


def _told_of(material: Material) -> str:
    shown = {
        name: int(material.shop.lists.mask[rows].sum()) for name, rows in material.parts.items()
    }
    rate = float(np.nanmean(material.targets.click[material.parts["train"]]))
    parts = ", ".join(f"{n:,} in {name}" for name, n in shown.items())
    names = material.inputs.names
    return (
        f"ctr: items shown: {parts}; {rate:.1%} clicked; {len(names.pair) + len(names.whole)} "
        f"numbers, {len(names.categories)} categories, {len(material.shelf.field_names)} fields"
    )


def _write(
    stage: StageRun,
    config: CtrConfig,
    folders: Folders,
    material: Material,
    seed: int,
    log: Callable[[str], None],
) -> None:
    from llmrec.ranking.ctr.export import export
    from llmrec.ranking.ctr.fit import predict, train_heads
    from llmrec.ranking.ctr.material import Rows
    from llmrec.ranking.ctr.model import CALIBRATOR, REFERENCE, SNAPSHOT, Card, head_file
    from llmrec.ranking.ctr.signals import choices_of
    from llmrec.ranking.retrieval.snapshot import fit_snapshot

    validation = material.part("validation")
    heads, logs = train_heads(
        *material.part("train"), validation, material.shelf, config.network, config.fit, seed
    )
    of_part = material.parts["validation"]
    rows = Rows.of(material.shop.lists, of_part, material.shelf)
    logits = rows.take(predict(heads, material.shelf, validation[0])[..., 0], of_part)
    figures = _calibrate(stage.folder / CALIBRATOR, config, rows, logits, seed, log)
    weight, tried = choose_llm_weight(config, folders, material, heads, seed)
    log(f"ctr: weight of the language model in the ranking: {weight:g}")

    for number, head in enumerate(heads):
        head.save(stage.folder / head_file(number))
    material.shelf.save(stage.folder)
    shop = material.shop
    choices = choices_of(shop.log, config.past)
    fit_snapshot(choices, np.inf, shop.dataset.n_items, config.retrieval).save(
        stage.folder / SNAPSHOT
    )
    chosen = replace(config, combine=replace(config.combine, llm=weight))
    Card(
        config=as_dict(chosen),
        context=material.context.as_dict(),
        rates=material.rates,
        sources=material.signals.names,
        tasks=heads[0].config.tasks,
        copies=len(heads),
    ).write(stage.folder)
    _reference(validation[0], seed).save(stage.folder / REFERENCE)
    export(heads, material.shelf, stage.folder)
    figures |= {"ndcg@10_by_llm_weight": tried, "trainings": [one.log for one in logs]}
    (stage.folder / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    stage.counts.update(
        items=shop.dataset.n_items,
        parameters=sum(p.numel() for p in heads[0].parameters()),
        tasks=list(heads[0].config.tasks),
        validation={name: figures[name] for name in ("auc", "log_loss", "ece", "ece_before")},
        llm_weight=weight,
    )


def _calibrate(
    path: Path,
    config: CtrConfig,
    rows: Any,
    logits: np.ndarray,
    seed: int,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Choose a calibrator on the validation part and write it; its figures there."""
    from llmrec.metrics.click_metrics import auc, ece, log_loss
    from llmrec.ranking.calibration.choosing import choose
    from llmrec.ranking.calibration.methods import sigmoid

    known = ~np.isnan(rows.click)
    click, logits = rows.click[known], logits[known]
    fields = {name: values[known] for name, values in rows.fields.items()}
    people = rows.people[known]
    chosen = choose(logits, click, people, fields, config.calibration, seed=seed)
    chosen.calibrator.save(path)
    p, before = chosen.calibrator.apply(logits, fields), sigmoid(logits)
    one_sided = click.min() == click.max()
    figures = {
        "auc": 0.5 if one_sided else auc(click, p),
        "log_loss": log_loss(click, p),
        "ece": ece(click, p),
        "ece_before": ece(click, before),
        "calibrator": chosen.calibrator.name,
        "calibrators": [vars(score) for score in chosen.scores],
    }
    log(
        f"ctr: validation AUC {figures['auc']:.4f}, log loss {figures['log_loss']:.5f}, ECE "
        f"{figures['ece_before']:.4f} -> {figures['ece']:.4f} ({chosen.calibrator.name})"
    )
    return figures


def choose_llm_weight(
    config: CtrConfig, folders: Folders, material: Material, heads: list[Head], seed: int
) -> tuple[float, dict[str, float]]:
    """The weight of the language model in what items are ranked by, and what was tried."""
    from llmrec.metrics.metrics import ndcg
    from llmrec.ranking.ctr.signals import open_models

    models = open_models(folders.models, material.shop.dataset.n_items)
    if config.combine.llm is not None or not models:
        return config.combine.llm or 0.0, {}
    bounds = material.shop.bounds
    ranked, targets, _ = ranked_choices(
        config, folders, material, heads, models[-1], (bounds.validation, bounds.test),
        config.ranked, CANDIDATES, seed,
    )  # fmt: skip
    tried = {
        f"{weight:g}": float(ndcg(ranked.ranks(ranked.scores(weight), targets), 10).mean())
        for weight in LLM_WEIGHTS
    }
    best = max(LLM_WEIGHTS, key=lambda weight: tried[f"{weight:g}"])
    return best, tried


def ranked_choices(
    config: CtrConfig,
    folders: Folders,
    material: Material,
    heads: list[Head],
    model: Ranked | None,
    span: tuple[float, float],
    most: int,
    limit: int,
    seed: int,
) -> tuple[Any, np.ndarray, Any]:
    """What the cascade's parts say of candidates for people's choices in a span of time.

    Args:
        model: the language model that serves, or None.
        span: from and until, seconds since 1970 UTC.
        most: choices, drawn at random; limit: candidates of each.

    Returns:
        :class:`~llmrec.ranking.ctr.ranking.RankedLists`, the targets int32 ``[cases]``, and the
        :class:`~llmrec.ranking.ctr.ranking.Choices`.
    """
    from llmrec.ranking.ctr.material import make_sources
    from llmrec.ranking.ctr.ranking import choices, rank_choices

    shop = material.shop
    asked = choices(shop.lists, shop.log, config, *span, most, seed)
    sources = make_sources(config, folders, shop, model)
    contexts = material.context.encode(shop.lists.contexts)[asked.context_of]
    ranked = rank_choices(
        asked, shop.log, sources, material.snapshots, material.assembler, material.shelf,
        material.happened, heads, config, contexts, min(limit, shop.dataset.n_items),
    )  # fmt: skip
    return ranked, asked.cases.targets, asked


def _reference(inputs: Inputs, seed: int) -> Any:
    """The distribution of what the head read in the validation part."""
    from llmrec.ranking.monitor.reference import Reference

    where, place = np.nonzero(inputs.items >= 0)
    some = np.random.default_rng(seed).permutation(len(where))[:_REFERENCE_ROWS]
    where, place = where[some], place[some]
    names = inputs.names
    columns = {name: inputs.pair[where, place, at] for at, (name, _) in enumerate(names.pair)}
    columns |= {name: inputs.whole[where, at] for at, (name, _) in enumerate(names.whole)}
    columns |= {
        name: inputs.categories[where, at].astype(np.float64)
        for at, (name, _, _) in enumerate(names.categories)
    }
    return Reference.fit(columns)


def parser(prog: str, about: str) -> argparse.ArgumentParser:
    """Flags of everything that a click model comes from."""
    made = argparse.ArgumentParser(prog=prog, description=about)
    made.add_argument("recipe", type=Path, help="YAML with a `ctr:` section")
    made.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    made.add_argument("--log", type=Path, help="the same items with every type of event")
    made.add_argument("--fusion", type=Path, help="folder of llmrec train fusion")
    made.add_argument("--captions", type=Path, help="folder of llmrec embed captions")
    made.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        help="folder of llmrec train; repeat it for models of earlier times",
    )
    made.add_argument("--seed", type=int, default=0)
    return made


def read_arguments(args: argparse.Namespace) -> tuple[CtrConfig, Folders]:
    """Settings and folders that flags name.

    Raises:
        ConfigError: if the recipe has no `ctr:` section, or a wrong one.
    """
    from llmrec.ranking.ctr.material import Folders

    section = load_yaml(args.recipe).get("ctr")
    if not isinstance(section, dict):
        raise ConfigError(f"{args.recipe}: has no `ctr:` section of settings")
    _, settings = split_section(section, f"{args.recipe}: ctr")
    config = build(CtrConfig, settings, f"{args.recipe}: ctr")
    folders = Folders(args.dataset, args.log, args.fusion, args.captions, tuple(args.model))
    return config, folders


def main(argv: list[str]) -> None:
    """``llmrec ctr``."""
    flags = parser("llmrec ctr", "From what was shown and clicked to probabilities of a click.")
    flags.add_argument("--out", type=Path, required=True)
    args = flags.parse_args(argv)
    config, folders = read_arguments(args)
    run(config, folders, args.out, args.seed)
