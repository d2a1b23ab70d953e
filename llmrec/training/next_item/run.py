"""``llmrec train``: train a causal LM to predict the next item of a history.

    llmrec train RECIPE.yaml --dataset DIR --item-ids DIR [--features DIR] --out DIR

The base is a size (fresh weights), a folder, hub id or short name; or the folder of an earlier
result, from which training goes on: it may know other items than the dataset has. The result is an
ordinary Hugging Face folder whose vocabulary holds the item tokens, plus ``llmrec.json`` (layout
of the vocabulary and the prompt) and ``item_ids/``.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from llmrec.config import as_dict
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.loop.plot import plot_log
from llmrec.loop.tracking import describe_run
from llmrec.stage import Manifest, StageRun, input_hashes, run_stage
from llmrec.training.model_inputs import is_earlier_model, model_hashes
from llmrec.training.next_item.domain_data import cases_of, training_histories
from llmrec.training.next_item.settings import TrainConfig


def run(
    config: TrainConfig,
    dataset: Path,
    out: Path,
    item_ids: Path | None = None,
    features: Path | None = None,
    seed: int = 0,
    *,
    media: Path | None = None,
) -> Path:
    """Train a next-item model; a finished run is found, a killed one resumed.

    Args:
        config: settings.
        dataset: folder of llmrec ingest.
        out: the model's folder.
        item_ids: folder of llmrec index; needed for ``llm`` alone, and not to go on from an earlier
            model, whose IDs new items then get in the same way.
        features: folder of llmrec embed, needed when ``content`` is not empty; new items of an
            earlier model start from it.
        seed: of weights, order and validation users.
        media: folder of llmrec embed media, whose blocks may be branches of ``emf`` too.

    Raises:
        ConfigError, DataError: before any training, where a setting does not fit the data.
    """
    goes_on = config.kind == "llm" and is_earlier_model(config.base)
    if config.kind == "llm" and item_ids is None and not goes_on:
        raise ConfigError("--item-ids: needed to train an llm; run llmrec index first")
    reads = {
        "dataset": dataset,
        "item_ids": item_ids if config.kind == "llm" else None,
        "features": features if config.content or goes_on else None,
        "media": media if config.content and config.kind == "emf" else None,
    }
    inputs = input_hashes(**reads)
    inputs |= model_hashes(Path(config.base))
    if config.start_from is not None:
        inputs |= model_hashes(config.start_from, "start_from")
    manifest = Manifest("train", as_dict(config), inputs, seed=seed)

    def work(stage: StageRun) -> None:
        import torch

        from llmrec.training.next_item.loop import NextItemTrainer
        from llmrec.training.next_item.validation import validation_cases

        data = Dataset(dataset)
        torch.manual_seed(seed)
        if config.kind == "sasrec":
            from llmrec.training.next_item.sasrec import prepare
        elif config.kind == "emf":
            from llmrec.training.next_item.emf_run import prepare as prepare_emf

            prepare = partial(prepare_emf, media=media)
        else:
            from llmrec.training.next_item.llm_run import prepare
        cases = validation_cases(data, config.validation_users, seed)
        cases = cases_of(config, data, cases)
        setup = prepare(config, data, item_ids, features, cases, seed)
        trainer = NextItemTrainer(
            setup.model,
            setup.batches,
            setup.validate,
            config.loop,
            stage.folder / "work",
            setup.auxiliary_loss,
            setup.predicted,
            setup.later_levels,
            describe_run(manifest.config, manifest.inputs, seed),
        )
        trained = sum(p.numel() for p in setup.model.parameters() if p.requires_grad)
        print(
            f"train: {config.kind} {config.base}, {trained:,} trained parameters, "
            f"{len(setup.batches.sequences):,} histories, on {trainer.accelerator.device}",
            flush=True,
        )
        state = trainer.run()
        setup.save(stage.folder)
        times = training_histories(config, data).timestamps
        stage.counts.update(
            trained_parameters=trained,
            epochs=state.epoch,
            best_epoch=state.best_epoch,
            best_validation_ndcg=state.best_score,
            train_seconds=round(state.train_seconds, 1),
            learned_until=None if times is None or not len(times) else float(times.max()),
            **setup.counts,
        )
        (stage.folder / "log.json").write_text(json.dumps(state.log, indent=1))
        panels = {
            "training loss": ["loss"],
            "validation NDCG@10 (history removed)": ["validation_ndcg@10"],
        }
        plot_log(state.log, stage.folder / "training.png", panels, x="epoch")
        shutil.rmtree(stage.folder / "work")

    return run_stage(out, manifest, work, reads=reads.values(), resume=True)
