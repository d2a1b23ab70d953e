"""Short preference tuning runs, what they begin with and what they leave."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.data.dataset import Dataset
from llmrec.generation.llm import make_llm
from llmrec.models.adapters import save_adapter
from llmrec.preference.measure import facts_of
from llmrec.preference.rollouts import Rollouts
from llmrec.preference.settings import Config, DpoConfig, GrpoConfig, RewardConfig
from llmrec.preference.training import open_model
from llmrec.tasks.corpus import Corpus
from llmrec.tasks.writer import Writer
from llmrec.tune.base import open_base
from llmrec.tune.settings import LoopConfig


def tiny_prefer(method: str = "grpo", loop: dict[str, Any] | None = None, **changes: Any) -> Config:
    """Settings of a run that takes a second."""
    steps = {"max_steps": 6, "batch_size": 4, "logging_steps": 1, "learning_rate": 1e-2}
    rewards = changes.pop("rewards", {"hit": 1.0, "stock": 0.5, "price": 0.5})
    parts = {
        "rewards": RewardConfig(**rewards),
        "grpo": GrpoConfig(**({"group": 4} | changes.pop("grpo", {}))),
        "dpo": DpoConfig(**({"negatives": "popular"} | changes.pop("dpo", {}))),
    }
    plain: dict[str, Any] = {"method": method, "rank": 4, "validation_users": 30, "beams": 40}
    return Config(**(plain | parts | changes), loop=LoopConfig(**(steps | (loop or {}))))


def make_adapter(base: Path, folder: Path, seed: int = 1) -> Path:
    """A random adapter on a base, far enough from nothing to change every answer."""
    model = open_model(open_base(base), None, tiny_prefer())
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0.0, 0.2)
    return save_adapter(model, folder, name="start", version="1", task="next_item", base=base)


def corpus_at(base: Path, dataset: Path) -> Corpus:
    """What preference tuning sees of a dataset."""
    opened = open_base(base)
    return Corpus(Dataset(dataset), Writer(opened.tokenizer, opened.encoder))


def trainer_at(
    base: Path, dataset: Path, folder: Path, config: Config, adapter: Path | None
) -> tuple[Any, Rollouts, Any]:
    """A GRPO trainer before its first step, its rollouts and its model."""
    from llmrec.preference.grpo import grpo_trainer  # which takes seconds to load

    opened, corpus = open_base(base), corpus_at(base, dataset)
    torch.manual_seed(0)
    model = open_model(opened, adapter, config).eval()
    llm = make_llm(model.get_base_model(), opened.vocabulary, opened.encoder, opened.ids)
    facts = facts_of(corpus.dataset)
    rollouts = Rollouts(llm, corpus, facts, config.rewards, config.grpo.group, 0)
    trainer = grpo_trainer(
        model,
        llm,
        rollouts,
        config,
        np.random.default_rng(0).permutation(corpus.steps)[:64],
        steps=8,
        folder=folder,
        seed=0,
        tokenizer=opened.tokenizer,
    )
    return trainer, rollouts, model


def log_of(folder: Path) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = json.loads((folder / "log.json").read_text())
    return log


def counts_of(folder: Path) -> dict[str, Any]:
    """What a result says of itself."""
    counts: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["counts"]
    return counts
