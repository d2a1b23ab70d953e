"""``llmrec train``: teach a causal LM to say the next item of a history.

    llmrec train RECIPE.yaml --dataset DIR --item-ids DIR [--features DIR] --out DIR

The base is a size name (fresh weights), a folder or a hub id. The result is an ordinary
Hugging Face folder whose vocabulary holds the item tokens, plus ``llmrec.json`` (the layout of
the vocabulary and the prompt), ``item_ids/`` and ``item_rows/`` (the projection that
gives a new item its row at once).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from llmrec.config import as_dict, build, load_yaml
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.stage import Manifest, StageRun, file_hash, folder_hash, run_stage
from llmrec.training.next_item.settings import TrainConfig
from llmrec.types import Histories

__all__ = ["TrainConfig", "main", "run"]


def run(
    config: TrainConfig,
    dataset: Path,
    item_ids: Path | None,
    features: Path | None,
    out: Path,
    seed: int = 0,
) -> Path:
    """Train, or find it done.

    Args:
        dataset: folder of the ingest stage.
        item_ids: folder of the index stage; not needed for ``sasrec``.
        features: folder of the embed stage, needed when ``config.content`` is not empty.
        out: the model's folder.

    Raises:
        ConfigError, DataError: before any training, where a setting does not fit the data.
    """
    inputs = {"dataset": folder_hash(dataset)}
    if item_ids is not None and config.kind == "llm":
        inputs["item_ids"] = folder_hash(item_ids)
    if features is not None and config.content:
        inputs["features"] = folder_hash(features)
    base = Path(config.base)
    for path in sorted([*base.glob("*.json"), *base.glob("*.safetensors"), *base.glob("*.bin")]):
        inputs[f"base/{path.name}"] = file_hash(path)
    manifest = Manifest("train", as_dict(config), inputs, seed=seed)

    def work(stage: StageRun) -> None:
        _train(config, Dataset(dataset), item_ids, features, stage, seed)

    return run_stage(out, manifest, work, resume=True)


def _train(
    config: TrainConfig,
    dataset: Dataset,
    item_ids: Path | None,
    features: Path | None,
    stage: StageRun,
    seed: int,
) -> None:
    import torch

    from llmrec.training.next_item.loop import Trainer
    from llmrec.training.next_item.validation import validation_cases

    torch.manual_seed(seed)
    if config.kind == "sasrec":
        from llmrec.training.next_item.sasrec import prepare
    else:
        from llmrec.training.next_item.llm_run import prepare
    cases = validation_cases(dataset, config.validation_users, seed)
    prepared = prepare(config, dataset, item_ids, features, cases, seed)
    trainer = Trainer(
        prepared.model,
        prepared.batches,
        prepared.validate,
        config.loop,
        stage.folder / "work",
        prepared.further_loss,
    )
    trained = sum(p.numel() for p in prepared.model.parameters() if p.requires_grad)
    print(
        f"train: {config.kind} {config.base}, {trained:,} trained parameters, "
        f"{len(prepared.batches.sequences):,} histories, on {trainer.accelerator.device}",
        flush=True,
    )
    progress = trainer.run()
    prepared.save(stage.folder)
    stage.counts.update(
        trained_parameters=trained,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        best_validation_ndcg=progress.best_ndcg,
        train_seconds=round(progress.train_seconds, 1),
        learned_until=_newest(dataset.train_histories(config.share)),
    )
    (stage.folder / "log.json").write_text(json.dumps(progress.log, indent=1))
    plot_log(progress.log, stage.folder / "training.png")
    shutil.rmtree(stage.folder / "work")


def _newest(histories: Histories) -> float | None:
    """When the newest event happened, seconds since 1970 UTC; None without times."""
    times = histories.timestamps
    return None if times is None or not len(times) else float(times.max())


def plot_log(log: list[dict[str, Any]], path: Path) -> None:
    """Loss and validation NDCG@10 over epochs, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, left = pyplot.subplots(figsize=(7, 4))
    left.plot([e["epoch"] for e in log], [e["loss"] for e in log], color="tab:gray")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="tab:gray")
    right = left.twinx()
    valid = [e for e in log if "validation_ndcg@10" in e]
    right.plot([e["epoch"] for e in valid], [e["validation_ndcg@10"] for e in valid], "o-")
    right.set_ylabel("validation NDCG@10 (history removed)", color="tab:blue")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: list[str]) -> None:
    """``llmrec train``."""
    parser = argparse.ArgumentParser(prog="llmrec train", description=__doc__)
    parser.add_argument("recipe", nargs="?", type=Path, help="YAML with a `train:` section")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--item-ids", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", help="a size name, a folder or a hub id")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    section = {}
    if arguments.recipe is not None:
        recipe = load_yaml(arguments.recipe)
        if not isinstance(recipe.get("train"), dict):
            raise ConfigError(f"{arguments.recipe}: has no `train:` section of settings")
        section = recipe["train"]
    if arguments.base is not None:
        section["base"] = arguments.base
    config = build(TrainConfig, section, f"{arguments.recipe or 'command line'}: train")
    if config.kind == "llm" and arguments.item_ids is None:
        raise ConfigError("--item-ids: needed to train an llm; run llmrec index first")
    run(
        config,
        arguments.dataset,
        arguments.item_ids,
        arguments.features,
        arguments.out,
        arguments.seed,
    )
