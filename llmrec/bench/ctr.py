"""``llmrec bench ctr``: what a click model and each of its parts are worth on the test part.

    llmrec bench ctr RECIPE.yaml --dataset DIR ... --features DIR --media DIR --out NAME.json

Trains the click model as ``llmrec ctr`` does, and again without captions, without time, without
what a table says of users, with vectors fused from text alone, and with text vectors as they are;
beside it logistic regression and boosted trees on the same features, popularity and the language
model's score alone. Whatever
depends on a seed is trained with ``--seeds`` of them. All are calibrated on the validation part in
the same way and measured once on the test part; 95% intervals are over whole users and over
trainings. Then the whole cascade ranks what users chose next, against the language model alone (and
one that has learned until the test part begins, ``--refreshed``), and each way of re-ranking is
measured.

Every training is kept in ``--work``: a command that was killed goes on with the next one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.bench.checks import result_file
from llmrec.config import as_dict
from llmrec.errors import ConfigError
from llmrec.jsonl import read_json
from llmrec.metrics.results import read_result, write_result
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, run_stage

if TYPE_CHECKING:
    from llmrec.bench.ctr_variants import Trained, Variant
    from llmrec.ranking.ctr.dataset import ClickDataset

TRAINING = "bench-ctr-training"
_LOGITS, _ABOUT = "logits.npz", "about.json"


def run(
    config: CtrConfig,
    dataset: Path,
    out: Path,
    *,
    fusion: Path | None = None,
    captions: Path | None = None,
    engagement: Path | None = None,
    models: Sequence[Path] = (),
    features: Path | None = None,
    media: Path | None = None,
    refreshed: Path | None = None,
    sources: Path | None = None,
    work: Path | None = None,
    variants: Sequence[str] = (),
    seed: int = 0,
    seeds: int = 5,
    resamples: int = 1000,
) -> Path:
    """Measure a click model, its parts and the whole cascade; a killed run goes on.

    Args:
        config: settings of ``llmrec ctr``.
        dataset: folder of ``llmrec ingest``, split by time.
        out: the result file, NAME.json; a page and plots are written beside it.
        fusion: folder of ``llmrec train fusion``.
        captions: folder of ``llmrec embed captions``.
        engagement: folder of ``llmrec train engagement``.
        models: folders of ``llmrec train``, the one that serves last.
        features: folder of ``llmrec embed``; without it or ``media``, what pictures and videos are
            worth is not measured.
        media: folder of ``llmrec embed media``.
        refreshed: folder of ``llmrec train`` with ``learn_validation``, to rank alone beside the
            cascade, whose statistics are as new.
        sources: folder of every source's features of all impressions; by default in ``work``.
        work: folder of the trainings; by default runs/NAME_bench.
        variants: what to train beside the full model, such as ``no_time``; by default all there is.
        seed: of everything; of the first training.
        seeds: trainings of each model that depends on a seed.
        resamples: behind the 95% intervals.

    Raises:
        ConfigError, DataError, ArtifactError: where folders and settings do not fit together.
    """
    from llmrec.bench.ctr_metrics import click_figures
    from llmrec.bench.ctr_ranking import measure_ranking, open_refreshed
    from llmrec.bench.ctr_report import write_ctr_report
    from llmrec.bench.ctr_variants import FULL, Bench, chosen
    from llmrec.ranking.ctr.dataset import build_dataset, run_source_features
    from llmrec.ranking.ctr.impression_log import Folders, ImpressionRows

    result_file(out)
    if seeds < 1:
        raise ConfigError(f"--seeds: {seeds} is too small; give at least 1")
    work = work or Path("runs") / f"{out.stem}_bench"
    started = time.monotonic()
    folders = Folders(dataset, fusion, captions, engagement, tuple(models))
    scored = run_source_features(config, folders, sources or work / "sources", seed)
    data = build_dataset(config, folders, scored, seed)
    rows = {
        part: ImpressionRows.of(data.log.impressions, data.parts[part], data.item_features)
        for part in ("validation", "test")
    }
    renewed = None if refreshed is None else open_refreshed(refreshed, data)
    more = {"features": features, "media": media}
    inputs = folders.inputs(config) | {k: folder_hash(f) for k, f in more.items() if f is not None}
    settings = as_dict(config) | {"data_seed": seed}
    models_of = chosen(Bench(config, folders, data, rows, features, media).variants(), variants)
    # trainings of several networks each must not share one
    trainings = [seed + number * config.network.copies for number in range(seeds)]
    trained = {
        name: [
            _train(
                variant,
                work / f"{name}-{number}",
                Manifest(
                    TRAINING,
                    settings | {"variant": name},
                    inputs,
                    seed=number,
                    command="bench ctr",
                ),
            )
            for number in (trainings if variant.random else trainings[:1])
        ]
        for name, variant in models_of.items()
    }
    metrics, spans, table = click_figures(
        config.calibration,
        trained,
        rows,
        seed,
        resamples,
        out.with_name(f"{out.stem}-reliability.png"),
    )
    ranking = measure_ranking(
        config, folders, data, list(trained[FULL][0].networks), seed, resamples, out, renewed
    )
    write_result(
        out,
        dataset=out.stem.removeprefix("ctr-"),
        split="test, by time",
        model=f"DCN-v2 and MLP over {len(data.inputs.names.candidate)} features of an item",
        metrics=metrics | ranking[0],
        intervals=spans | ranking[1],
        seed=seed,
        seconds=time.monotonic() - started,
        seeds=seeds,
        rows=table,
        reranking=ranking[2],
        counts=_counts(data),
        settings=json.loads(json.dumps(as_dict(config), default=str)),
        trainings={name: [one.about for one in found] for name, found in trained.items()},
    )
    write_ctr_report(read_result(out), out.parent)
    return out


def _train(variant: Variant, folder: Path, manifest: Manifest) -> Trained:
    """One training, or the one that is there already."""
    from llmrec.bench.ctr_variants import Trained
    from llmrec.ranking.ctr.model import network_file
    from llmrec.ranking.ctr.network import ClickNetwork

    seed = manifest.seed or 0

    def train(stage: StageRun) -> None:
        print(f"bench ctr: training {manifest.config['variant']}, seed {seed}", flush=True)
        trained = variant.train(seed)
        np.savez(stage.folder / _LOGITS, validation=trained.validation, test=trained.test)
        (stage.folder / _ABOUT).write_text(json.dumps(trained.about), encoding="utf-8")
        for number, network in enumerate(trained.networks):
            network.save(stage.folder / network_file(number))
        stage.counts["networks"] = len(trained.networks)

    run_stage(folder, manifest, train)
    with np.load(folder / _LOGITS) as logits:
        found = {part: logits[part] for part in ("validation", "test")}
    about: dict[str, Any] = read_json(folder / _ABOUT)
    count = read_manifest(folder, TRAINING).counts["networks"]
    networks = tuple(ClickNetwork.load(folder / network_file(number)) for number in range(count))
    return Trained(**found, about=about, networks=networks)


def _counts(data: ClickDataset) -> dict[str, Any]:
    found: dict[str, Any] = {"items": data.item_features.n_items}
    described = np.array([bool(known) for known in [*data.log.dataset.user_attributes, {}]])
    for name, rows in data.parts.items():
        impressions = data.log.impressions.select(rows)
        found[f"{name}_rows"] = int(impressions.mask.sum())
        found[f"{name}_clicks"] = int(np.nansum(impressions.click))
        users = np.unique(impressions.user)
        found[f"{name}_users"] = len(users)
        if described.any():  # the last is of unknown users, whose index is -1
            found[f"{name}_users_described"] = int(described[users].sum())
    return found
