"""What GRPO learns from: prompts of the training split, items drawn for them, their rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llmrec.errors import LlmrecError
from llmrec.generation.beam_search import room
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.history_cache import right_pad
from llmrec.generation.llm import Llm
from llmrec.training.preference.draw import Drawn, draw_items
from llmrec.training.preference.measure import case_of
from llmrec.training.preference.rewards import REWARDS, Case, Facts
from llmrec.training.preference.settings import RewardConfig
from llmrec.training.tasks.corpus import Corpus
from llmrec.training.tasks.history_tasks import next_item


@dataclass(frozen=True)
class Prompt:
    """A training event as a question.

    Attributes:
        ids: int64 ``[tokens]``, what serving sends.
        history: item indices before the event, which are not recommended.
        case: what rewards see.
    """

    ids: np.ndarray
    history: np.ndarray
    case: Case


class Rollouts:
    """Draws a group of items for each prompt: the ``rollout_func`` of TRL's GRPO trainer.

    Args:
        llm: the model being trained, as it serves; it sees every change of the weights.
        corpus: the training split.
        facts: of the catalogue.
        rewards: what a usual price is.
        group: items for each prompt.
        seed: with the step, decides what is drawn.

    Attributes:
        drawn: the last step's items.
    """

    def __init__(
        self, llm: Llm, corpus: Corpus, facts: Facts, rewards: RewardConfig, group: int, seed: int
    ) -> None:
        self.llm, self.corpus, self.facts, self.rewards = llm, corpus, facts, rewards
        self.group, self.seed = group, seed
        self.drawn: Drawn
        self._cases: list[Case] = []

    def dataset(self, places: np.ndarray) -> Any:
        """Training events as TRL reads them, in this order.

        A prompt is written only when it is asked for; until then it is its event's place in the
        training histories and its number in the run.
        """
        from datasets import Dataset

        names = [f"{place}:{number}" for number, place in enumerate(places.tolist())]
        return Dataset.from_dict({"prompt": names})

    def prompt(self, name: str) -> Prompt:
        """The prompt of a row of :meth:`dataset`."""
        place, number = map(int, name.split(":"))
        rng = np.random.default_rng([self.seed, number, 3])
        ids = next_item(self.corpus, place, rng).prompt_ids
        history, _, target, _ = self.corpus.step(place)
        return Prompt(ids, history, case_of(target, history, self.facts, self.rewards))

    def __call__(self, names: list[str], trainer: Any) -> dict[str, Any]:
        """Draw for a batch.

        Args:
            names: each prompt's as often as the group is large, one after the other.
            trainer: TRL's, of which only the step and the process count.

        Raises:
            LlmrecError: if the model's scores are no numbers any more.
        """
        prompts = [self.prompt(name) for name in names[:: self.group]]
        step, process = trainer.state.global_step, trainer.accelerator.process_index
        entropy = np.random.SeedSequence([self.seed, step, process, 4])
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
        drawn = self.draw(prompts, generator)
        if not torch.isfinite(drawn.log_p[:, 0]).all():
            raise LlmrecError(
                f"training: the model's scores stopped being numbers after step {step}; lower "
                "loop.learning_rate"
            )
        self.drawn, self._cases = drawn, [prompt.case for prompt in prompts]
        items = drawn.items.numpy()
        # where fewer may be recommended, the first stands in, with a weight of 0
        said = self.corpus.writer.encoder.item_tokens[np.where(items < 0, items[:, :1], items)]
        return {
            "prompt_ids": [prompt.ids.tolist() for prompt in prompts for _ in range(self.group)],
            "completion_ids": said.reshape(-1, said.shape[-1]).tolist(),
            "logprobs": None,
        }

    def draw(self, prompts: list[Prompt], generator: torch.Generator) -> Drawn:
        """Items for some prompts, on the CPU."""
        llm, free = self.llm, room(self.llm.trie, self.group + 1)
        tokens, mask = right_pad([prompt.ids for prompt in prompts])
        keep = len(llm.trie.levels) > 1
        prefix = llm.engine.prefill(
            tokens.to(llm.device), mask.to(llm.device), room=free, keep=keep
        )
        limits = LeafConstraints(llm.trie, [Constraints(exclude=p.history) for p in prompts])
        drawn = draw_items(llm.engine, llm.trie, prefix, limits, self.group, generator)
        # copies, since autograd may not keep what inference mode made
        return Drawn(*(getattr(drawn, name).clone().cpu() for name in Drawn.__annotations__))

    def reward(self, name: str) -> Callable[..., list[float]]:
        """A part of the reward as a function of TRL's: of the items that were drawn last."""

        def score(**_: Any) -> list[float]:
            lists = zip(self.drawn.items.numpy(), self._cases, strict=True)
            return np.concatenate([REWARDS[name](row, case) for row, case in lists]).tolist()

        score.__name__ = name
        return score
