"""GRPO with TRL on the distribution that serving ranks with.

TRL makes groups of prompts, calls rollouts and rewards, keeps the reference adapter and runs the
loop. Four things differ from its own GRPO, since completions are items:

* **Log-probabilities are those of the sampling policy**
  (:mod:`llmrec.training.preference.sampling`): the softmax over the codes that were allowed, not
  over the vocabulary. The full softmax would also learn to move probability onto item tokens in
  general, which constrained decoding never needs.
* **Items are sampled without replacement, so each counts by its importance weight** ``p / q``,
  normalised over the group, in the loss and in the baseline: advantage = reward - weighted mean of
  the group. The gradient is that of the expected reward under the policy (Kool, van Hoof and
  Welling, ICLR 2020, "Estimating gradients for discrete random variables by sampling without
  replacement").
* **Each sample is learned from once**, so the ratio to the sampling policy is 1 and GRPO's clipping
  never acts; what is logged as the loss is the surrogate whose gradient that is.
* **The KL divergence to the reference** is that of whole distributions at each token, which costs
  nothing more here, instead of an estimate from the sampled tokens.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from llmrec.generation.engine import TorchEngine
from llmrec.generation.llm import Llm
from llmrec.training.preference.loop import AdapterCheckpointMixin
from llmrec.training.preference.rollouts import RolloutSampler
from llmrec.training.preference.settings import PARTS, PreferConfig
from llmrec.training.preference.shared_prefix import SharedPrefixBatch
from llmrec.training.tune.trainer import trainer_arguments

with warnings.catch_warnings():
    # it loads vLLM where that is installed, which uses an API that torch will drop
    warnings.filterwarnings("ignore", "`torch.jit.script_method` is", DeprecationWarning)
    from trl import GRPOConfig, GRPOTrainer


def grpo_trainer(
    model: Any,
    llm: Llm,
    rollouts: RolloutSampler,
    config: PreferConfig,
    events: np.ndarray,
    **options: Any,
) -> GRPOTrainer:
    """A GRPO trainer of a model on its own rollouts.

    Args:
        model: a peft model whose adapter is named ``default``; its initial weights are the
            reference.
        llm: the same model behind the serving decoder.
        events: the training events that are prompts, in order.
        options: ``folder``, ``seed``, ``steps`` and ``tokenizer``, as for
            :func:`~llmrec.training.tune.trainer.trainer_arguments`.
    """
    tokenizer = options.pop("tokenizer")
    weights = {name: w for name, w in config.rewards.weights.items() if w > 0}
    settings = GRPOConfig(
        **trainer_arguments(config.loop, **options)
        | {"per_device_train_batch_size": config.loop.batch_size * config.grpo.group},
        num_generations=config.grpo.group,
        max_completion_length=len(llm.trie.levels),
        beta=config.beta,
        reward_weights=list(weights.values()),
        shuffle_dataset=False,
        disable_dropout=True,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)
        return ItemTrainer(
            model,
            [rollouts.reward(name) for name in PARTS if name in weights],
            settings,
            train_dataset=rollouts.dataset(events),
            processing_class=tokenizer,
            rollout_func=rollouts,
            engine=llm.engine,
            scale=config.grpo.scale == "group",
        )


class ItemTrainer(AdapterCheckpointMixin, GRPOTrainer):
    """TRL's GRPO trainer with the advantages and losses of this module.

    Args:
        engine: runs the same model for generation.
        scale: whether advantages are divided by the group's standard deviation.
    """

    def __init__(self, *args: Any, engine: TorchEngine, scale: bool, **kwargs: Any) -> None:
        self.engine, self.scale = engine, scale
        self._rewards = torch.empty(0)
        super().__init__(*args, **kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._rewards = super()._calculate_rewards(*args, **kwargs)
        return self._rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's, with our advantages, importance weights and masks of allowed codes."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        device, own = self.accelerator.device, len(inputs)
        rollout = self.rollout_func.rollout
        first = self.accelerator.process_index * own
        parts = self._rewards[first : first + own]
        rewards = (parts * self.reward_weights.to(device)).sum(1).view(-1, self.num_generations)
        weights = rollout.weights.to(device)
        advantages, expected = weighted_advantages(rewards, weights, self.scale)
        self._metrics["train"]["expected_reward"].append(
            self.accelerator.gather(expected).mean().item()
        )
        output["advantages"] = advantages.flatten()
        output["weights"] = weights.flatten()
        output["allowed"] = rollout.allowed.flatten(0, 1).to(device)
        return output

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None, None]:
        """Log-probabilities of the reference: here whole distributions."""
        allowed = self.rollout_func.rollout.allowed.flatten(0, 1).to(input_ids.device)
        found = self.log_probs(model, input_ids, attention_mask, allowed, batch_size)
        return found, None, None

    def log_probs(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        allowed: torch.Tensor,
        batch_size: int | None = None,
    ) -> torch.Tensor:
        """The policy's log-probabilities at each token of the items.

        Args:
            input_ids, attention_mask: int64 ``[rows, tokens]``, padded on the left, items last.
            allowed: bool ``[rows, levels, codes]``.
            batch_size: most rows read at once.

        Returns:
            float32 ``[rows, levels, codes]``; 0 where not allowed.
        """
        batch = SharedPrefixBatch.of(input_ids, attention_mask, allowed.shape[1])
        body = self.accelerator.unwrap_model(model).get_base_model().model
        hidden = []
        for part in batch.split(max(1, (batch_size or len(input_ids)) // self.num_generations)):
            with self.accelerator.autocast():
                read = body(
                    input_ids=part.tokens,
                    attention_mask=part.attention_mask(self.model.dtype),
                    position_ids=part.position_ids,
                    use_cache=False,
                )
            hidden.append(read.last_hidden_state[:, -part.kept :])
        of_items = batch.by_completion(torch.cat(hidden))
        scores = self._scores(of_items, allowed.shape[2]).masked_fill(~allowed, float("-inf"))
        return scores.log_softmax(-1).masked_fill(~allowed, 0.0)

    def _scores(self, hidden: torch.Tensor, n_codes: int) -> torch.Tensor:
        """From ``[rows, levels, width]`` to each level's codes, float32 ``[rows, levels, codes]``.

        The rows of text tokens, most of a pretrained head, are left out of the product.
        """
        each = [self.engine.logits(hidden[:, level], level) for level in range(hidden.shape[1])]
        padded = [torch.nn.functional.pad(part, (0, n_codes - part.shape[1])) for part in each]
        return torch.stack(padded, dim=1)

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        log_p = self.log_probs(model, ids, mask, inputs["allowed"])
        code = self._codes(inputs["completion_ids"])
        chosen = log_p.gather(2, code[..., None])[..., 0].sum(1)
        kl = kl_divergence(log_p, inputs["ref_per_token_logps"], inputs["allowed"])
        gain = inputs["advantages"] * chosen - self.beta * kl
        prompts = len(ids) / self.num_generations
        loss = -(inputs["weights"] * gain).sum() / prompts
        mean_kl = (inputs["weights"] * kl.detach()).sum() / prompts
        self._metrics["train"]["kl"].append(self.accelerator.gather(mean_kl).mean().item())
        return loss / self.current_gradient_accumulation_steps

    def _codes(self, tokens: torch.Tensor) -> torch.Tensor:
        """Codes of item tokens, int64 ``[rows, levels]``."""
        vocabulary = self.engine.vocabulary
        firsts = [vocabulary.level_range(level)[0] for level in range(tokens.shape[1])]
        return tokens - vocabulary.item_offset - torch.tensor(firsts, device=tokens.device)


def weighted_advantages(
    rewards: torch.Tensor, weights: torch.Tensor, scale: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """How much better each item is than its group.

    Args:
        rewards, weights: float ``[prompts, group]``; weights add up to one for each prompt.
        scale: whether to divide by the group's standard deviation.

    Returns:
        advantages ``[prompts, group]`` and the expected reward ``[prompts]``.

    >>> a, b = weighted_advantages(torch.tensor([[1., 0.]]), torch.tensor([[0.25, 0.75]]), False)
    >>> a.tolist(), b.tolist()
    ([[0.75, -0.25]], [0.25])
    """
    expected = (weights * rewards).sum(1)
    advantages = rewards - expected[:, None]
    if scale:
        deviation = (weights * advantages.square()).sum(1, keepdim=True).sqrt()
        advantages = advantages / (deviation + 1e-4)
    return advantages, expected


def kl_divergence(
    log_p: torch.Tensor, log_reference: torch.Tensor, allowed: torch.Tensor
) -> torch.Tensor:
    """KL divergence from a reference, summed over the tokens of an item: float ``[rows]``.

    Args:
        log_p, log_reference: float ``[rows, levels, codes]``; 0 where not allowed.
        allowed: bool, the same shape.
    """
    return ((log_p - log_reference) * log_p.exp() * allowed).sum((1, 2))
