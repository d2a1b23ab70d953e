"""``llmrec train fusion``: one vector an item from its text, picture, video and speech.

    llmrec train fusion --dataset runs/shop/dataset --features runs/shop/features \\
        --media runs/shop/media_features --out runs/shop/fusion

A cross-attention encoder (:mod:`llmrec.content.fusion.encoder`) reads the vectors that ``llmrec
embed`` and ``llmrec embed media`` wrote; one of the two is enough. It learns that things liked one
after the other lie close (events of the training split), and that an item lies close to a part of
itself. The folder holds

* ``features.safetensors``: ``fused`` float32 ``[n_items, dim]``, unit rows, row i of item i;
* ``encoder.safetensors``: the encoder, with its shape;
* ``metrics.jsonl``: losses and the validation of each epoch; ``loss.png``: the same, drawn.

The epoch that is kept is the one that is best on people who were held back. A killed run goes on
after its last epoch.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from llmrec.config import as_dict, build, load_yaml
from llmrec.content.features.fused import ENCODER, FEATURES, FUSED, STAGE
from llmrec.content.fusion.behaviour import Pairs, liked_histories, split_users, windowed_pairs
from llmrec.content.fusion.modalities import Modalities, read_modalities
from llmrec.content.fusion.retrieval import Cases, retrieval_cases
from llmrec.content.fusion.settings import FusionConfig, FusionShape, TrainSettings
from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError, ConfigError
from llmrec.metrics.plots import open_pyplot, save_figure
from llmrec.stage import Manifest, StageRun, folder_hash, read_manifest, run_stage

if TYPE_CHECKING:
    from llmrec.content.fusion.train import Progress

METRICS, PLOT = "metrics.jsonl", "loss.png"
_HELD_BACK_ITEMS = 0.1  # where there are no people to hold back


def run(
    config: FusionConfig,
    dataset: Path,
    out: Path,
    *,
    features: Path | None = None,
    media: Path | None = None,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> Path:
    """Train an encoder and write it and the fused vectors to the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        features: folder of ``llmrec embed``.
        media: folder of ``llmrec embed media``.
        seed: of all that is drawn.
        log: takes the lines that tell how it went.

    Raises:
        ConfigError: if there are no features, or nothing to learn from.
        DataError: if the features are of another catalogue.
        CatalogError: if the dataset has no items.
    """
    read_manifest(dataset, "ingest")
    inputs = {"dataset": folder_hash(dataset)}
    for name, folder in (("features", features), ("media", media)):
        if folder is not None:
            inputs[name] = folder_hash(folder)
    if len(inputs) == 1:
        raise ConfigError("give --features (llmrec embed), --media (llmrec embed media) or both")
    settings = as_dict(config)
    del settings["train"]["device"]  # where it runs is no part of what it is
    manifest = Manifest(STAGE, settings, inputs, seed=seed)

    def work(stage: StageRun) -> None:
        opened = Dataset(dataset)
        if opened.n_items == 0:
            raise CatalogError(f"{dataset}: the catalogue has no items; ingest some first")
        modalities = read_modalities(features, media, opened.n_items)
        _train(stage, config, opened, modalities, seed, log)

    return run_stage(out, manifest, work, resume=True, log=log)


def _train(
    stage: StageRun,
    config: FusionConfig,
    dataset: Dataset,
    modalities: Modalities,
    seed: int,
    log: Callable[[str], None],
) -> None:
    import torch

    from llmrec.content.fusion.embedding import embed
    from llmrec.content.fusion.encoder import FusionEncoder
    from llmrec.content.fusion.train import FusionTrainer, several_modalities
    from llmrec.content.fusion.validation import contrast_score, retrieval_score

    pairs, cases = _behaviour(dataset, config.train, seed)
    several = several_modalities(modalities)
    log(_told(modalities, pairs, len(several)))
    learns: np.ndarray | None = None
    if len(cases):
        score = retrieval_score(modalities, cases)
    else:
        learns, judged = _held_back(several, seed)
        score = contrast_score(modalities, judged, seed)
    torch.manual_seed(seed)
    encoder = FusionEncoder(FusionShape(modalities.dims, **vars(config.encoder)))
    trainer = FusionTrainer(
        encoder,
        modalities,
        pairs,
        score,
        config.train,
        seed=seed,
        contrast_items=learns,
        folder=stage.folder / "work",
    )
    progress = trainer.run()
    encoder.save(stage.folder / ENCODER)
    fused = embed(encoder, modalities)
    save_file({FUSED: fused}, stage.folder / FEATURES)
    _write_log(progress, stage.folder)
    stage.counts.update(
        items=len(fused),
        dim=fused.shape[1],
        pairs=len(pairs),
        parameters=sum(p.numel() for p in encoder.parameters()),
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        best_validation=progress.best_score,
        **{f"with_{n}": int(c.sum()) for n, c in _columns(modalities)},
    )
    shutil.rmtree(stage.folder / "work")
    log(
        f"{STAGE}: best of {progress.epoch} epochs is {progress.best_epoch}, "
        f"validation {progress.best_score:.4f}"
    )


def _behaviour(dataset: Dataset, settings: TrainSettings, seed: int) -> tuple[Pairs, Cases]:
    """Pairs to learn from, and cases of the people held back."""
    liked = liked_histories(dataset, settings.min_rating, train_only=True)
    rng = np.random.default_rng(seed)
    learning, held_back = split_users(len(liked), (settings.validation_users,), rng)
    pairs = windowed_pairs(liked.select(learning), settings.window, dataset.n_items)
    cases = retrieval_cases(liked.select(held_back), dataset.n_items)
    if len(pairs) and len(cases):
        return pairs, cases
    # of very few people nobody can be held back
    return windowed_pairs(liked, settings.window, dataset.n_items), retrieval_cases(
        liked, dataset.n_items
    )


def _held_back(several: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items that contrast learns from and items that judge it; all do both where there are few."""
    if len(several) < 20:
        return several, several
    order = np.random.default_rng(seed).permutation(several)
    cut = max(2, round(_HELD_BACK_ITEMS * len(several)))
    return np.sort(order[cut:]), np.sort(order[:cut])


def _columns(modalities: Modalities) -> list[tuple[str, np.ndarray]]:
    return list(zip(modalities.names, modalities.present.T, strict=True))


def _told(modalities: Modalities, pairs: Pairs, n_several: int) -> str:
    """What there is to learn from, in one line."""
    parts = [f"{name} {int(column.sum())}" for name, column in _columns(modalities)]
    said = f"{STAGE}: {len(modalities)} items: {', '.join(parts)}; "
    if not len(pairs):
        return said + "no two items were liked together: contrast between modalities alone"
    if n_several < 2:
        return said + f"{len(pairs)} pairs liked together; no item has two modalities: no contrast"
    return said + f"{len(pairs)} pairs liked together"


def _write_log(progress: Progress, folder: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in progress.log)
    (folder / METRICS).write_text(lines, encoding="utf-8")
    plot_log(progress.log, progress.best_epoch, folder / PLOT)


def plot_log(log: list[dict[str, Any]], best_epoch: int, path: Path) -> Path:
    """Losses and validation by epoch, as a PNG."""
    pyplot = open_pyplot()
    losses = [name for name in ("behaviour", "contrast") if name in log[0]]
    figure, panels = pyplot.subplots(1, len(losses) + 1, figsize=(3.6 * (len(losses) + 1), 3.2))
    for panel, name in zip(panels, [*losses, "validation"], strict=True):
        points = [(row["epoch"], row[name]) for row in log if name in row]
        panel.plot(*zip(*points, strict=True), marker="o", markersize=3)
        panel.set_title(name if name == "validation" else f"loss: {name}")
        panel.set_xlabel("epoch")
    panels[-1].axvline(best_epoch, color="tab:gray", linestyle=":")
    return save_figure(pyplot, figure, path)


def main(argv: list[str]) -> None:
    """The command line of ``llmrec train fusion``."""
    parser = argparse.ArgumentParser(
        prog="llmrec train fusion",
        description="One vector an item from its text, picture, video and speech.",
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder of llmrec ingest")
    parser.add_argument("--features", type=Path, help="folder of llmrec embed")
    parser.add_argument("--media", type=Path, help="folder of llmrec embed media")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--config", type=Path, help="YAML file: encoder: {...}, train: {...}")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--min-rating", type=float, help="a lower rating is not a liking")
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    config = read_config(args.config, "llmrec train fusion", args)
    run(config, args.dataset, args.out, features=args.features, media=args.media, seed=args.seed)


def read_config(path: Path | None, command: str, args: argparse.Namespace) -> FusionConfig:
    """Settings of a file, with those of the flags ``epochs``, ``min_rating`` and ``device``.

    Raises:
        ConfigError: if the file or a setting is wrong.
    """
    settings = load_yaml(path) if path else {}
    given = {name: getattr(args, name) for name in ("epochs", "min_rating", "device")}
    train = settings.get("train") or {}
    if isinstance(train, dict):
        settings["train"] = train | {k: v for k, v in given.items() if v is not None}
    return build(FusionConfig, settings, str(path or command))
