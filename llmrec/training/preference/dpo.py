"""DPO with TRL on pairs of items.

All of it is TRL's but the tokenisation: pairs come as token ids. With atomic IDs a completion is
one token, so what the softmax runs over cancels out of the loss; on longer IDs it is the model's
full softmax at each token, as in supervised training.
"""

from __future__ import annotations

from typing import Any

from trl import DPOConfig, DPOTrainer

from llmrec.training.preference.loop import AdapterCheckpointMixin
from llmrec.training.preference.pairs import PreferencePairs
from llmrec.training.preference.settings import PreferConfig
from llmrec.training.tune.trainer import trainer_arguments


class PairTrainer(AdapterCheckpointMixin, DPOTrainer):
    """TRL's trainer on pairs that are token ids already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def dpo_trainer(
    model: Any, pairs: PreferencePairs, config: PreferConfig, **options: Any
) -> PairTrainer:
    """A DPO trainer of a model on pairs.

    Args:
        model: a peft model whose adapter is named ``default``; its initial weights are the
            reference.
        options: ``folder``, ``seed``, ``steps`` and ``tokenizer``, as for
            :func:`~llmrec.training.tune.trainer.trainer_arguments`.
    """
    tokenizer = options.pop("tokenizer")
    losses = {"sigmoid": 1.0} | ({"sft": config.dpo.likelihood} if config.dpo.likelihood else {})
    settings = DPOConfig(
        **trainer_arguments(config.loop, **options),
        beta=config.beta,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        max_length=None,  # prompts are cut to it already
        disable_dropout=True,
    )
    return PairTrainer(
        model,
        args=settings,
        train_dataset=pairs.dataset(options["steps"] * config.loop.examples_per_step),
        processing_class=tokenizer,
    )
