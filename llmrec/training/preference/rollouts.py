"""Rollouts of GRPO: prompts of the training split, items sampled for them, their rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from llmrec.errors import LlmrecError
from llmrec.generation.beam_search import decode_slots
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.llm import Llm
from llmrec.training.preference.reward_cases import reward_case
from llmrec.training.preference.rewards import REWARDS, CatalogueFacts, RewardCase
from llmrec.training.preference.sampling import Rollout, sample_items
from llmrec.training.preference.settings import RewardConfig
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.history_tasks import next_item


@dataclass(frozen=True)
class RolloutPrompt:
    """A training event as a prompt.

    Attributes:
        ids: int64 ``[tokens]``, as serving renders it.
        history: item indices before the event, which are not recommended.
        case: what rewards read.
    """

    ids: np.ndarray
    history: np.ndarray
    case: RewardCase


@dataclass(eq=False)
class RolloutSampler:
    """Samples a group of items for each prompt: the ``rollout_func`` of TRL's GRPO trainer.

    Args:
        llm: the model being trained, behind the serving decoder; it shares its weights.
        corpus: the training split.
        facts: prices and stock of the catalogue.
        rewards: settings of the rewards.
        group: items for each prompt.
        seed: with the step, decides what is rollout.

    Attributes:
        rollout: of the last step.
    """

    llm: Llm
    corpus: TaskCorpus
    facts: CatalogueFacts
    rewards: RewardConfig
    group: int
    seed: int
    rollout: Rollout = field(init=False)
    _cases: list[RewardCase] = field(init=False)

    def dataset(self, events: np.ndarray) -> Any:
        """Training events as TRL reads them, in this order.

        A prompt is rendered only when it is read; until then it is the index of its event in the
        training histories and its number in the run.
        """
        from datasets import Dataset

        names = [f"{event}:{number}" for number, event in enumerate(events.tolist())]
        return Dataset.from_dict({"prompt": names})

    def prompt(self, name: str) -> RolloutPrompt:
        """The prompt of a row of :meth:`dataset`."""
        event, number = map(int, name.split(":"))
        rng = np.random.default_rng([self.seed, number, 3])
        ids = next_item(self.corpus, event, rng).prompt_ids
        history, _, target, _ = self.corpus.event(event)
        return RolloutPrompt(ids, history, reward_case(target, history, self.facts, self.rewards))

    def __call__(self, names: list[str], trainer: Any) -> dict[str, Any]:
        """Sample for a batch.

        Args:
            names: of prompts, each repeated for the whole group.
            trainer: TRL's, of which only the step and the process are read.

        Raises:
            LlmrecError: if the model's scores are NaN.
        """
        prompts = [self.prompt(name) for name in names[:: self.group]]
        step, process = trainer.state.global_step, trainer.accelerator.process_index
        entropy = np.random.SeedSequence([self.seed, step, process, 4])
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
        rollout = self.sample(prompts, generator)
        if not torch.isfinite(rollout.log_p[:, 0]).all():
            raise LlmrecError(
                f"training: the model's scores stopped being numbers after step {step}; lower "
                "loop.learning_rate"
            )
        self.rollout, self._cases = rollout, [prompt.case for prompt in prompts]
        items = rollout.items.numpy()
        # where fewer may be recommended, the first is repeated, with a weight of 0
        tokens = self.corpus.writer.encoder.item_tokens[np.where(items < 0, items[:, :1], items)]
        return {
            "prompt_ids": [prompt.ids.tolist() for prompt in prompts for _ in range(self.group)],
            "completion_ids": tokens.reshape(-1, tokens.shape[-1]).tolist(),
            "logprobs": None,
        }

    def sample(self, prompts: list[RolloutPrompt], generator: torch.Generator) -> Rollout:
        """Sample items for some prompts; the result is on the CPU."""
        llm, slots = self.llm, decode_slots(self.llm.trie, self.group + 1)
        prefix = llm.engine.prefill_prompts([prompt.ids for prompt in prompts], slots)
        limits = LeafConstraints(llm.trie, [Constraints(exclude=p.history) for p in prompts])
        rollout = sample_items(llm.engine, llm.trie, prefix, limits, self.group, generator)
        # copies, since autograd may not keep tensors of inference mode
        return Rollout(*(getattr(rollout, name).clone().cpu() for name in Rollout.__annotations__))

    def reward(self, name: str) -> Callable[..., list[float]]:
        """A part of the reward as a reward function of TRL: of the last rollout."""

        def score(**_: Any) -> list[float]:
            lists = zip(self.rollout.items.numpy(), self._cases, strict=True)
            return np.concatenate([REWARDS[name](row, case) for row, case in lists]).tolist()

        score.__name__ = name
        return score
