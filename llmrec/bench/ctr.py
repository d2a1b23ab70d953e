"""``llmrec bench ctr``: what a click model and each of its parts are worth on the test part.

    llmrec bench ctr RECIPE.yaml --dataset DIR ... --features DIR --media DIR --out NAME.json

Trains the head as ``llmrec ctr`` does, and again without captions, without time, and with vectors
from text alone; beside it logistic regression and boosted trees on the same features, popularity
and the language model's score alone. All are calibrated on the validation part in the same way and
measured once on the test part, 95% intervals over whole people. Then the whole cascade ranks what
people chose next, against the language model alone, and each way of re-ranking is measured.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.bench.ctr_ranking import measure_ranking
from llmrec.config import as_dict
from llmrec.errors import ConfigError
from llmrec.metrics.results import write_result
from llmrec.ranking.ctr.features import Assembler
from llmrec.ranking.ctr.material import Folders, Material, Rows, gather, make_sources, run_signals
from llmrec.ranking.ctr.prepare import assemble
from llmrec.ranking.ctr.run import parser, read_arguments
from llmrec.ranking.ctr.settings import CtrConfig

HEADS = ("full", "no_captions", "no_time", "no_media")
GAINS = {"no_captions": "caption", "no_time": "time", "no_media": "media"}


@dataclass(frozen=True)
class Measured:
    """What one model says of the rows of a part.

    Attributes:
        validation, test: logits, float64 ``[rows]``.
        told: what is worth knowing of its training.
    """

    validation: np.ndarray
    test: np.ndarray
    told: dict[str, Any]


def run(
    config: CtrConfig,
    folders: Folders,
    out: Path,
    signals: Path,
    *,
    features: Path | None = None,
    media: Path | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Path:
    """Train, measure and write the result file ``out``.

    Args:
        signals: folder of what the sources say of everything shown; made if it is not there.
        features, media: folders of the items' text and media vectors; without one of them the
            worth of pictures and videos is not measured.

    Raises:
        ConfigError, DataError, ArtifactError: where folders and settings do not fit together.
    """
    started = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    run_signals(config, folders, signals, seed)
    material = gather(config, folders, signals, seed)
    rows = {
        name: Rows.of(material.shop.lists, material.parts[name], material.shelf)
        for name in ("validation", "test")
    }
    models, heads = _heads(config, folders, material, rows, features, media, seed)
    models |= _baselines(material, rows, seed)
    metrics, spans, shown = _figures(config, models, rows, seed, resamples, out)
    ranking = measure_ranking(config, folders, material, heads, seed, resamples, out)
    metrics |= ranking[0]
    spans |= ranking[1]
    return write_result(
        out,
        name=out.stem,
        dataset=out.stem.removeprefix("ctr-"),
        split="test, by time",
        model=f"DCN-v2 and MLP over {len(material.inputs.names.pair)} numbers of an item",
        metrics=metrics,
        intervals=spans,
        seed=seed,
        seconds=time.monotonic() - started,
        rows=shown,
        reranking=ranking[2],
        counts=_counts(material),
        settings=json.loads(json.dumps(as_dict(config), default=str)),
        trainings={name: model.told for name, model in models.items()},
    )


def _counts(material: Material) -> dict[str, Any]:
    found: dict[str, Any] = {"items": material.shelf.n_items}
    for name, rows in material.parts.items():
        lists = material.shop.lists.select(rows)
        found[f"{name}_rows"] = int(lists.mask.sum())
        found[f"{name}_clicks"] = int(np.nansum(lists.click))
        found[f"{name}_people"] = len(np.unique(lists.user))
    return found


def _heads(
    config: CtrConfig,
    folders: Folders,
    material: Material,
    rows: dict[str, Rows],
    features: Path | None,
    media: Path | None,
    seed: int,
) -> tuple[dict[str, Measured], list[Any]]:
    """The head and what is left of it without some of what it reads; its networks."""
    from llmrec.ranking.ctr.fit import predict, train_heads

    found: dict[str, Measured] = {}
    heads: list[Any] = []
    for name in HEADS:
        varied, captions = material, name != "no_captions"
        inputs = material.inputs
        if not (captions or material.shelf.token_size):
            continue
        if name in ("no_captions", "no_time"):
            inputs = inputs.without(["captions" if name == "no_captions" else "time"])
        if name == "no_media":
            if features is None or media is None:
                continue
            varied = _text_alone(config, folders, material, features, media)
            inputs = varied.inputs
        print(f"bench ctr: {name}", flush=True)
        started = time.monotonic()
        trained, logs = train_heads(
            *varied.part("train", inputs),
            varied.part("validation", inputs),
            varied.shelf,
            config.network,
            config.fit,
            seed,
            captions=captions,
        )
        said = {}
        for part, of_part in rows.items():
            logits = predict(trained, varied.shelf, varied.part(part, inputs)[0])[..., 0]
            said[part] = of_part.take(logits, material.parts[part])
        told = {
            "parameters": sum(p.numel() for p in trained[0].parameters()),
            "validation_log_loss": [one.best for one in logs],
            "seconds": round(time.monotonic() - started, 1),
        }
        found[name] = Measured(said["validation"], said["test"], told)
        heads = heads or trained
    return found, heads


def _text_alone(
    config: CtrConfig, folders: Folders, material: Material, features: Path, media: Path
) -> Material:
    """The same with every item's vector fused from its text alone, wherever vectors are read."""
    from llmrec.content.features.fused import ENCODER
    from llmrec.content.fusion.embedding import embed
    from llmrec.content.fusion.encoder import FusionEncoder
    from llmrec.content.fusion.modalities import read_modalities
    from llmrec.ranking.ctr.signals import describe_lists
    from llmrec.ranking.retrieval.standard import StandardSources

    if folders.fusion is None:
        raise ConfigError("--features and --media: need --fusion, whose encoder reads them")
    modalities = read_modalities(features, media, material.shelf.n_items)
    present = modalities.present.copy()
    present[:, [name != "text" for name in modalities.names]] = False
    fused = embed(FusionEncoder.load(folders.fusion / ENCODER), modalities, present)
    shelf = replace(material.shelf, fused=fused)
    made = make_sources(config, folders, material.shop)
    sources = StandardSources(fused, config.retrieval, first_seen=made.nearest.first_seen)
    shop = material.shop
    said = describe_lists(shop.lists, shop.log, sources, material.snapshots, [], config)
    by = material.signals
    rank, score = by.rank.copy(), by.score.copy()
    for name in ("nearest", "cold"):
        to, of = by.names.index(name), said.names.index(name)
        rank[..., to], score[..., to] = said.rank[..., of], said.score[..., of]
    signals = replace(by, rank=rank, score=score)
    assembler = Assembler(shelf, config.past, material.context, material.rates, config.holidays)
    inputs = assemble(assembler, shop.lists, shop.log, material.happened, signals, config.past)
    return replace(material, shelf=shelf, signals=signals, assembler=assembler, inputs=inputs)


def _baselines(material: Material, rows: dict[str, Rows], seed: int) -> dict[str, Measured]:
    """Others in the same harness, on the same features."""
    from llmrec.bench.ctr_baselines.baselines import (
        LogisticRegression,
        Popularity,
        ScoreAlone,
        Trees,
    )
    from llmrec.bench.ctr_baselines.flat import flatten

    tables, labels = {}, {}
    for part in material.parts:
        inputs, targets = material.part(part)
        tables[part] = flatten(inputs, material.shelf)
        labels[part] = targets.click[inputs.items >= 0].astype(np.float64)
    models: dict[str, Any] = {
        "logistic_regression": LogisticRegression(),
        "trees": Trees(threads=1),
        "popularity": Popularity("popular_score"),
    }
    if "generated_score" in tables["train"].dense_names:
        models["llm_alone"] = ScoreAlone("generated_score")
    found = {}
    for name, model in models.items():
        print(f"bench ctr: {name}", flush=True)
        started = time.monotonic()
        model.fit(
            tables["train"], labels["train"], tables["validation"], labels["validation"], seed
        )
        chosen = getattr(model, "chosen", None)
        told = {"seconds": round(time.monotonic() - started, 1), "chosen": str(chosen)}
        found[name] = Measured(
            model.logits(tables["validation"]), model.logits(tables["test"]), told
        )
    return found


def _figures(
    config: CtrConfig,
    models: dict[str, Measured],
    rows: dict[str, Rows],
    seed: int,
    resamples: int,
    out: Path,
) -> tuple[dict[str, float], dict[str, list[float]], list[dict[str, Any]]]:
    """Calibrate all models, measure them on the test part, and draw the reliability of the head."""
    from llmrec.metrics.click_intervals import differences, intervals
    from llmrec.metrics.click_metrics import field_calibration_error
    from llmrec.metrics.reliability import plot_reliability
    from llmrec.ranking.calibration.choosing import choose
    from llmrec.ranking.calibration.methods import sigmoid

    validation, test = rows["validation"], rows["test"]
    predictions, names = {}, {}
    for name, model in models.items():
        chosen = choose(
            model.validation, validation.click, validation.people, validation.fields,
            config.calibration, seed=seed,
        )  # fmt: skip
        predictions[name] = chosen.calibrator.apply(model.test, test.fields)
        names[name] = chosen.calibrator.name
    raw = sigmoid(models["full"].test)
    people = test.people
    found = intervals(test.click, predictions | {"before": raw}, people, people, resamples, seed)
    apart = differences(test.click, predictions, "full", people, people, resamples, seed)
    metrics, spans = {}, {}

    def note(name: str, interval: Any) -> None:
        metrics[name] = float(interval[0])
        spans[name] = [float(interval[1]), float(interval[2])]

    for metric, interval in found["full"].items():
        note(metric, interval)
    for metric in ("ece", "ne", "log_loss"):
        note(f"{metric}_before", found["before"][metric])
    for field, values in test.fields.items():
        for suffix, p in (("", predictions["full"]), ("_before", raw)):
            metrics[f"{field}_calibration_error{suffix}"] = float(
                field_calibration_error(test.click, p, values)
            )
    for name, said in GAINS.items():
        if name in models:
            only = {"full": predictions["full"], name: predictions[name]}
            gain = differences(test.click, only, name, people, people, resamples, seed)["full"]
            note(f"{said}_auc_gain_percent", gain["auc_gain_percent"])
            note(f"{said}_log_loss_gain", gain["log_loss"])
    for name in models:
        if name != "full":
            for metric in ("auc", "log_loss", "gauc"):
                value, low, high = apart[name][metric]  # the other less the head
                note(f"{metric}_over_{name}", (-value, -high, -low))
    best = min(
        (name for name in ("logistic_regression", "trees") if name in models),
        key=lambda name: found[name]["log_loss"][0],
    )
    for metric in ("auc", "log_loss"):
        key = f"{metric}_over_{best}"
        note(f"{metric}_over_best_baseline", (metrics[key], *spans[key]))
    plot_reliability(
        test.click, {"before": raw, "after": predictions["full"]},
        out.with_name(f"{out.stem}-reliability.png"),
    )  # fmt: skip
    shown = [
        {
            "model": name,
            "calibrator": names[name],
            **{metric: list(map(float, values)) for metric, values in found[name].items()},
        }
        for name in models
    ]
    return metrics, spans, shown


def main(argv: list[str]) -> None:
    """The command line of ``llmrec bench ctr``."""
    from llmrec.bench.ctr_report import write_ctr_report
    from llmrec.metrics.results import read_result

    flags = parser("llmrec bench ctr", "What a click model, its parts and the cascade are worth.")
    flags.add_argument("--features", type=Path, help="folder of llmrec embed")
    flags.add_argument("--media", type=Path, help="folder of llmrec embed media")
    flags.add_argument("--out", type=Path, required=True, help="result file, NAME.json")
    flags.add_argument("--signals", type=Path, help="default: runs/NAME_signals")
    flags.add_argument("--resamples", type=int, default=1000)
    args = flags.parse_args(argv)
    if args.out.suffix != ".json":
        raise ConfigError(f"--out: {args.out} must end in .json")
    config, folders = read_arguments(args)
    signals = args.signals or Path("runs") / f"{args.out.stem}_signals"
    run(
        config, folders, args.out, signals, features=args.features, media=args.media,
        seed=args.seed, resamples=args.resamples,
    )  # fmt: skip
    page = write_ctr_report(read_result(args.out), args.out.parent)
    print(page.read_text(encoding="utf-8"))
