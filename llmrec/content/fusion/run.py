"""``llmrec train fusion``: one vector an item from its text, picture, video and speech.

    llmrec train fusion --dataset runs/shop/dataset --features runs/shop/features \\
        --media runs/shop/media_features --out runs/shop/fusion

A cross-attention encoder (:mod:`llmrec.content.fusion.encoder`) reads the vectors that ``llmrec
embed`` and ``llmrec embed media`` wrote; one of the two is enough. It learns that items liked one
after the other lie close (events of the training split), and that an item lies close to a part of
itself. The folder holds

* ``features.safetensors``: ``fused`` float32 ``[n_items, dim]``, unit rows, row i of item i;
* ``encoder.safetensors``: the encoder, with its shape;
* ``metrics.jsonl``: losses and the validation of each epoch; ``loss.png``: the same, drawn.

The epoch that is kept is the one that is best on users who were held out. A killed run goes on
after its last epoch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from llmrec.config import as_dict
from llmrec.content.features.blocks import FUSED, FUSED_FEATURES, FUSION_ENCODER, FUSION_STAGE
from llmrec.content.fusion.behaviour import ItemPairs, liked_histories, split_users, windowed_pairs
from llmrec.content.fusion.modalities import Modalities, read_modalities
from llmrec.content.fusion.retrieval import RetrievalCases, retrieval_cases
from llmrec.content.fusion.settings import FusionConfig, FusionShape, FusionTrainConfig
from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError, ConfigError
from llmrec.jsonl import write_jsonl
from llmrec.loop.plot import plot_log
from llmrec.stage import Manifest, StageRun, input_hashes, read_manifest, run_stage

METRICS, PLOT = "metrics.jsonl", "loss.png"
_HELD_OUT_ITEMS = 0.1  # where there are no users to hold out


def run(
    config: FusionConfig,
    dataset: Path,
    out: Path,
    *,
    features: Path | None = None,
    media: Path | None = None,
    seed: int = 0,
) -> Path:
    """Train an encoder and write it and the fused vectors to the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write.
        features: folder of ``llmrec embed``.
        media: folder of ``llmrec embed media``.
        seed: of all that is drawn.

    Raises:
        ConfigError: if there are no features, or nothing to learn from.
        DataError: if the features are of another catalogue.
        CatalogError: if the dataset has no items.
    """
    read_manifest(dataset, "ingest")
    inputs = input_hashes(dataset=dataset, features=features, media=media)
    if len(inputs) == 1:
        raise ConfigError("give --features (llmrec embed), --media (llmrec embed media) or both")
    settings = as_dict(config)
    del settings["train"]["device"]  # where it runs is no part of what it is
    manifest = Manifest(FUSION_STAGE, settings, inputs, seed=seed, command="train fusion")

    def work(stage: StageRun) -> None:
        opened = Dataset(dataset)
        if opened.n_items == 0:
            raise CatalogError(f"{dataset}: the catalogue has no items; ingest some first")
        modalities = read_modalities(features, media, opened.n_items)
        _train(stage, config, opened, modalities, seed)

    return run_stage(out, manifest, work, resume=True)


def _train(
    stage: StageRun, config: FusionConfig, dataset: Dataset, modalities: Modalities, seed: int
) -> None:
    import torch

    from llmrec.content.fusion.embedding import embed
    from llmrec.content.fusion.encoder import FusionEncoder
    from llmrec.content.fusion.train import FusionTrainer, several_modalities
    from llmrec.content.fusion.validation import contrast_score, retrieval_score

    pairs, cases = training_pairs(dataset, config.train, seed)
    several = several_modalities(modalities)
    print(_summary(modalities, pairs, len(several)))
    learned: np.ndarray | None = None
    if len(cases):
        score = retrieval_score(modalities, cases)
    else:
        learned, held_out = _hold_out(several, seed)
        score = contrast_score(modalities, held_out, seed)
    torch.manual_seed(seed)
    shape = FusionShape(modalities=modalities.dims, **vars(config.encoder))
    encoder = FusionEncoder(shape)
    trainer = FusionTrainer(
        encoder,
        modalities,
        pairs,
        score,
        config.train,
        seed=seed,
        contrast_items=learned,
        folder=stage.folder / "work",
    )
    state = trainer.run()
    encoder.save(stage.folder / FUSION_ENCODER)
    fused = embed(encoder, modalities)
    save_file({FUSED: fused}, stage.folder / FUSED_FEATURES)
    write_jsonl(stage.folder / METRICS, state.log)
    panels = {f"loss: {name}": [name] for name in ("behaviour", "contrast")}
    panels["validation"] = ["validation"]
    plot_log(state.log, stage.folder / PLOT, panels, x="epoch", mark=state.best_epoch)
    times = dataset.train_histories(config.train.share).timestamps
    stage.counts.update(
        items=len(fused),
        dim=fused.shape[1],
        pairs=len(pairs),
        parameters=sum(p.numel() for p in encoder.parameters()),
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        best_validation=state.best_score,
        learned_until=None if times is None or not len(times) else float(times.max()),
        **{f"with_{name}": n for name, n in modalities.counts.items()},
    )
    shutil.rmtree(stage.folder / "work")
    print(
        f"{FUSION_STAGE}: best of {state.epoch} epochs is {state.best_epoch}, "
        f"validation {state.best_score:.4f}"
    )


def training_pairs(
    dataset: Dataset, config: FusionTrainConfig, seed: int
) -> tuple[ItemPairs, RetrievalCases]:
    """Pairs to learn from and cases of the users held out, of the training split's events alone."""
    liked = liked_histories(dataset, config.min_rating, train_only=True, share=config.share)
    rng = np.random.default_rng(seed)
    learning, held_out = split_users(len(liked), (config.validation_users,), rng)
    # of very few users nobody can be held out: then all are learned from and validated on
    for one, other in ((liked.select(learning), liked.select(held_out)), (liked, liked)):
        pairs = windowed_pairs(one, config.window, dataset.n_items)
        cases = retrieval_cases(other, dataset.n_items)
        if len(pairs) and len(cases):
            break
    return pairs, cases


def _hold_out(several: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items that contrast learns from and items it is judged on; the same where there are few."""
    if len(several) < 20:
        return several, several
    order = np.random.default_rng(seed).permutation(several)
    cut = max(2, round(_HELD_OUT_ITEMS * len(several)))
    return np.sort(order[cut:]), np.sort(order[:cut])


def _summary(modalities: Modalities, pairs: ItemPairs, n_several: int) -> str:
    """What there is to learn from, in one line."""
    parts = [f"{name} {n}" for name, n in modalities.counts.items()]
    line = f"{FUSION_STAGE}: {len(modalities)} items: {', '.join(parts)}; "
    if not len(pairs):
        return line + "no two items were liked together: contrast between modalities alone"
    if n_several < 2:
        return line + f"{len(pairs)} pairs liked together; no item has two modalities: no contrast"
    return line + f"{len(pairs)} pairs liked together"
