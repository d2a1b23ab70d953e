"""DPO with TRL on pairs of items.

TRL does all of it, but for reading text: pairs come as token ids. With atomic IDs a completion is
one token, so what the softmax runs over cancels out of the loss; on longer IDs it is the model's
full softmax at each token, as in supervised training.
"""

from __future__ import annotations

from typing import Any

from trl import DPOConfig, DPOTrainer

from llmrec.training.preference.pairs import Pairs
from llmrec.training.preference.settings import PreferConfig
from llmrec.training.preference.training import Resuming, arguments


class PairTrainer(Resuming, DPOTrainer):
    """TRL's trainer on pairs that are token ids already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def dpo_trainer(model: Any, pairs: Pairs, config: PreferConfig, **place: Any) -> PairTrainer:
    """A trainer, ready to go.

    Args:
        model: a peft model whose adapter is named ``default``; its starting point is the
            reference.
        place: ``folder``, ``seed``, ``steps`` and ``tokenizer``, as for
            :func:`~llmrec.training.preference.training.arguments`.
    """
    tokenizer = place.pop("tokenizer")
    losses = {"sigmoid": 1.0} | ({"sft": config.dpo.likelihood} if config.dpo.likelihood else {})
    settings = DPOConfig(
        **arguments(config, **place),
        beta=config.beta,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        max_length=None,  # the prompts have seen to it
        disable_dropout=True,
    )
    return PairTrainer(
        model,
        args=settings,
        train_dataset=pairs.dataset(place["steps"] * config.loop.examples_per_step),
        processing_class=tokenizer,
    )
