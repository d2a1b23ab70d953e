"""``llmrec ctr``: impressions and clicks -> calibrated click probabilities.

    llmrec ctr RECIPE.yaml --dataset DIR --fusion DIR --captions DIR --models EARLY LATE --out DIR

The recipe's ``ctr:`` section holds the settings (:class:`~llmrec.ranking.ctr.settings.CtrConfig`).
The folder holds

* ``network-0.safetensors`` ...: the networks, with their shape; ``request.onnx`` and
  ``items.onnx``: the same for ONNX Runtime, checked against them;
* ``item_features.safetensors``, ``item_features.json``: the items; ``snapshot/``: the statistics of
  candidate sources; ``model.json``: settings, contexts, rates, names;
* ``calibrator.json``: from logits to probabilities, chosen on the validation part;
* ``reference.json``: the features of the validation part, for ``llmrec monitor``;
* ``figures.json``: metrics on the validation part, the choice of a calibrator beside them.

Beside it stands ``NAME_sources/``: rank and score of every impressed item by each source. Nothing
of the test part is read here; ``llmrec bench ctr`` measures on it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.config import as_dict
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.stage import Manifest, StageRun, run_stage

if TYPE_CHECKING:
    from llmrec.ranking.ctr.dataset import ClickDataset
    from llmrec.ranking.ctr.features import ClickFeatures
    from llmrec.ranking.ctr.impression_log import Folders, ImpressionRows
    from llmrec.ranking.monitor.reference import Reference

STAGE = "ctr"
FIGURES = "figures.json"
_REFERENCE_ROWS = 50_000


def run(
    config: CtrConfig,
    dataset: Path,
    out: Path,
    fusion: Path | None = None,
    captions: Path | None = None,
    engagement: Path | None = None,
    models: Sequence[Path] = (),
    seed: int = 0,
) -> Path:
    """Train and calibrate a click model, or find it done.

    Args:
        config: settings.
        dataset: folder of llmrec ingest, split by time.
        out: folder to write; beside it, NAME_sources.
        fusion: folder of llmrec train fusion.
        captions: folder of llmrec embed captions.
        engagement: folder of llmrec train engagement.
        models: folders of llmrec train: the one that serves, and ones of earlier times.
        seed: of everything that is drawn.

    Raises:
        ConfigError, DataError, ArtifactError: where folders and settings do not fit together.
        MissingExtraError: if a package of the extra ``ctr`` is not installed.
    """
    from llmrec.ranking.ctr.dataset import build_dataset, run_source_features
    from llmrec.ranking.ctr.impression_log import Folders

    folders = Folders(dataset, fusion, captions, engagement, tuple(models))
    sources = run_source_features(config, folders, out.with_name(f"{out.name}_sources"), seed)

    def work(stage: StageRun) -> None:
        data = build_dataset(config, folders, sources, seed)
        print(_summary(data))
        for note in data.log.impressions.notes:
            print(f"ctr: warning: {note}", file=sys.stderr)
        _write(stage, config, folders, data, seed)

    manifest = Manifest(STAGE, as_dict(config), folders.inputs(config), seed=seed)
    return run_stage(out, manifest, work)


def _summary(data: ClickDataset) -> str:
    counts = {name: int(data.log.impressions.mask[rows].sum()) for name, rows in data.parts.items()}
    rate = float(np.nanmean(data.targets.click[data.parts["train"]]))
    parts = ", ".join(f"{n:,} in {name}" for name, n in counts.items())
    names = data.inputs.names
    return (
        f"ctr: impressed items: {parts}; {rate:.1%} clicked; "
        f"{len(names.candidate) + len(names.request)} numeric and {len(names.categories)} "
        f"categorical features, {len(data.item_features.field_names)} caption fields"
    )


def _write(
    stage: StageRun, config: CtrConfig, folders: Folders, data: ClickDataset, seed: int
) -> None:
    from llmrec.ranking.ctr.cascade import choose_llm_weight
    from llmrec.ranking.ctr.export import export
    from llmrec.ranking.ctr.fit import predict, train_networks
    from llmrec.ranking.ctr.impression_log import ImpressionRows
    from llmrec.ranking.ctr.model import CALIBRATOR, REFERENCE, SNAPSHOT, ModelCard, network_file
    from llmrec.ranking.ctr.point_in_time import positive_interactions
    from llmrec.ranking.retrieval.snapshot import fit_snapshot

    validation, items = data.part("validation"), data.item_features
    networks, states = train_networks(
        *data.part("train"), validation, items, config.network, config.fit, seed
    )
    part = data.parts["validation"]
    rows = ImpressionRows.of(data.log.impressions, part, items)
    logits = rows.take(predict(networks, items, validation[0])[..., 0], part)
    figures = _calibrate(stage.folder / CALIBRATOR, config, rows, logits, seed)
    weight, tried = choose_llm_weight(config, folders, data, networks, seed)
    print(f"ctr: weight of the language model in the ranking: {weight:g}")

    for number, network in enumerate(networks):
        network.save(stage.folder / network_file(number))
    items.save(stage.folder)
    positives = positive_interactions(data.log.events, config.history)
    snapshot = fit_snapshot(positives, np.inf, items.n_items, config.retrieval)
    snapshot.save(stage.folder / SNAPSHOT)
    chosen = replace(config, combine=replace(config.combine, llm=weight))
    tasks = networks[0].config.tasks
    ModelCard(
        config=as_dict(chosen),
        context=data.context.as_dict(),
        rates=data.rates,
        sources=data.source_features.names,
        tasks=tasks,
        copies=len(networks),
    ).write(stage.folder)
    _reference(validation[0], seed).save(stage.folder / REFERENCE)
    export(networks, items, stage.folder)
    figures |= {"ndcg@10_by_llm_weight": tried, "trainings": [state.log for state in states]}
    (stage.folder / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    stage.counts.update(
        items=items.n_items,
        parameters=sum(p.numel() for p in networks[0].parameters()),
        tasks=list(tasks),
        log=data.log.impressions.counts,
        validation={name: figures[name] for name in ("auc", "log_loss", "ece", "ece_before")},
        llm_weight=weight,
    )


def _calibrate(
    path: Path, config: CtrConfig, rows: ImpressionRows, logits: np.ndarray, seed: int
) -> dict[str, Any]:
    """Choose a calibrator on the validation part and write it; its metrics there."""
    from scipy.special import expit

    from llmrec.metrics.click_metrics import auc, ece, log_loss
    from llmrec.ranking.calibration.choosing import choose

    known = ~np.isnan(rows.click)
    click, logits = rows.click[known], logits[known]
    fields = {name: values[known] for name, values in rows.fields.items()}
    users = rows.people[known]
    choice = choose(logits, click, users, fields, config.calibration, seed=seed)
    choice.calibrator.save(path)
    p, before = choice.calibrator.apply(logits, fields), expit(logits)
    figures = {
        "auc": auc(click, p),
        "log_loss": log_loss(click, p),
        "ece": ece(click, p),
        "ece_before": ece(click, before),
        "calibrator": choice.calibrator.name,
        "calibrators": [vars(score) for score in choice.scores],
    }
    print(
        f"ctr: validation AUC {figures['auc']:.4f}, log loss {figures['log_loss']:.5f}, ECE "
        f"{figures['ece_before']:.4f} -> {figures['ece']:.4f} ({choice.calibrator.name})"
    )
    return figures


def _reference(inputs: ClickFeatures, seed: int) -> Reference:
    """The distribution of the features of the validation part."""
    from llmrec.ranking.monitor.reference import Reference

    where, column = np.nonzero(inputs.items >= 0)
    some = np.random.default_rng(seed).permutation(len(where))[:_REFERENCE_ROWS]
    where, column = where[some], column[some]
    names = inputs.names
    columns = {
        name: inputs.candidate[where, column, at] for at, (name, _) in enumerate(names.candidate)
    }
    columns |= {name: inputs.request[where, at] for at, (name, _) in enumerate(names.request)}
    columns |= {
        name: inputs.categories[where, at].astype(np.float64)
        for at, (name, _, _) in enumerate(names.categories)
    }
    return Reference.fit(columns)
