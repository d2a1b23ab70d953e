"""GRPO trains the policy that drew, on the gradient of its expected reward."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prefer_runs import tiny_prefer, trainer_at
from trl.trainer.utils import use_adapter

from llmrec.training.preference.grpo import kl_divergence, weighted_advantages
from llmrec.training.preference.reward_cases import catalogue_facts
from llmrec.training.preference.rewards import REWARDS
from llmrec.training.preference.rollouts import RolloutSampler
from llmrec.training.tasks.history_tasks import next_item

BASES = [("atomic", "dataset"), ("untied", "timed")]


def batch_of(trainer: Any) -> dict[str, torch.Tensor]:
    """The first step's batch, drawn and rewarded."""
    trainer.model.train()
    rows = next(iter(trainer.get_train_dataloader()))
    batch: dict[str, torch.Tensor] = trainer._generate_and_score_completions(rows)
    return batch


def read(trainer: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The policy at each token, by the trainer."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    log_p: torch.Tensor = trainer.log_probs(trainer.model, ids, mask, batch["allowed"])
    return log_p


def of_items(trainer: Any, batch: dict[str, torch.Tensor], log_p: torch.Tensor) -> torch.Tensor:
    code = trainer._codes(batch["completion_ids"])
    return log_p.gather(2, code[..., None])[..., 0].sum(1)


@pytest.mark.parametrize(("base", "dataset"), BASES)
def test_what_is_trained_is_what_drew(home: Path, tmp_path: Path, base: str, dataset: str) -> None:
    """Prompts of different lengths, padded and read by the trainer, give the drawn log_p."""
    trainer, rollouts, _ = trainer_at(
        home / base, home / dataset, tmp_path, tiny_prefer(), home / f"{base}-adapter"
    )
    batch = batch_of(trainer)
    assert len(set(batch["prompt_mask"].sum(1).tolist())) > 1
    log_p = read(trainer, batch)
    rollout = rollouts.rollout.log_p.flatten().float()
    torch.testing.assert_close(of_items(trainer, batch, log_p), rollout, atol=1e-4, rtol=1e-4)
    one = (log_p.exp() * batch["allowed"]).sum(2)
    torch.testing.assert_close(one, torch.ones_like(one))
    assert (log_p[~batch["allowed"]] == 0).all()


@pytest.mark.parametrize(("base", "dataset"), BASES)
def test_prompts_are_what_serving_sends(
    home: Path, tmp_path: Path, base: str, dataset: str
) -> None:
    trainer, rollouts, _ = trainer_at(home / base, home / dataset, tmp_path, tiny_prefer(), None)
    batch = batch_of(trainer)
    group, tokens = trainer.num_generations, rollouts.corpus.writer.encoder.item_tokens
    for row, name in enumerate(trainer.train_dataset["prompt"][:4]):
        place, number = map(int, name.split(":"))
        rng = np.random.default_rng([0, number, 3])
        expected = next_item(rollouts.corpus, place, rng).prompt_ids
        history = rollouts.corpus.event(place)[0]
        for item in range(row * group, (row + 1) * group):
            prompt = batch["prompt_ids"][item][batch["prompt_mask"][item].bool()]
            assert prompt.tolist() == expected.tolist()
            answer = tokens[int(rollouts.rollout.items[row, item - row * group])]
            assert batch["completion_ids"][item].tolist() == answer.tolist()
        assert not set(rollouts.rollout.items[row].tolist()) & set(history.tolist())


def test_the_gradient_is_that_of_the_expected_reward(home: Path, tmp_path: Path) -> None:
    """With all items in the group, the loss's gradient is exact; here without a price for KL."""
    config = tiny_prefer(beta=1e-9, grpo={"group": 39}, rewards={"hit": 1.0, "stock": 0.3})
    trainer, rollouts, model = trainer_at(
        home / "atomic", home / "dataset", tmp_path, config, home / "atomic-adapter"
    )
    batch = batch_of(trainer)
    trainer.current_gradient_accumulation_steps = 1
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(trainer._compute_loss(model, batch), trained)

    facts, expected = catalogue_facts(rollouts.corpus.dataset), 0.0
    for name in trainer.train_dataset["prompt"][:4]:
        prompt = rollouts.prompt(name)
        logits = model(input_ids=torch.from_numpy(prompt.ids)[None]).logits[0, -1]
        start = rollouts.llm.engine.vocabulary.item_offset
        left = np.setdiff1d(np.arange(40), prompt.history)
        chances = logits[start : start + 40][torch.from_numpy(left)].softmax(-1)
        worth = (left == prompt.case.target) + 0.3 * facts.in_stock[left]
        expected = expected + (chances * torch.from_numpy(worth)).sum() / 4
    exact = torch.autograd.grad(-expected, trained)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other.float(), atol=1e-5, rtol=1e-3)
    assert max(float(g.abs().max()) for g in exact) > 1e-3


def test_the_mean_gradient_of_small_groups_points_the_same_way(home: Path, tmp_path: Path) -> None:
    """Weights make up for drawing without replacement; without them rare items count too much."""
    config = tiny_prefer(beta=1e-9, grpo={"group": 6}, rewards={"stock": 1.0, "hit": 0.0})
    trainer, rollouts, _ = trainer_at(
        home / "atomic", home / "dataset", tmp_path, config, home / "atomic-adapter"
    )
    prompts = [rollouts.prompt(trainer.train_dataset["prompt"][0])] * 4000
    rollout = rollouts.sample(prompts, torch.Generator().manual_seed(0))
    whole = rollouts.facts.in_stock.astype(np.float32)
    every = RolloutSampler.sample(_with_group(rollouts, 40), prompts[:1], torch.Generator())
    p = torch.zeros(40).scatter(
        0, every.items[0, : _count(every)], every.weights[0, : _count(every)]
    )
    exact = p * (torch.from_numpy(whole) - (p * torch.from_numpy(whole)).sum())  # d E / d logit
    rewards = torch.from_numpy(whole)[rollout.items]

    def estimate(weights: torch.Tensor) -> torch.Tensor:
        advantages, _ = weighted_advantages(rewards, weights, scale=False)
        gain = weights * advantages  # the sum over the group of which times (1[item] - p)
        total = torch.zeros(4000, 40).scatter_add(1, rollout.items, gain)
        return (total - gain.sum(1, keepdim=True) * p).mean(0)

    def off(weights: torch.Tensor) -> float:
        return float((estimate(weights) - exact).norm() / exact.norm())

    assert off(rollout.weights) < 0.15
    assert off(torch.full_like(rollout.weights, 1 / 6)) > 3 * off(rollout.weights)


def _with_group(rollouts: RolloutSampler, group: int) -> RolloutSampler:
    return RolloutSampler(
        rollouts.llm, rollouts.corpus, rollouts.facts, rollouts.rewards, group, rollouts.seed
    )


def _count(rollout: Any) -> int:
    return int((rollout.items[0] >= 0).sum())


@pytest.mark.parametrize(("base", "dataset"), BASES)
def test_the_reference_is_where_it_starts(
    home: Path, tmp_path: Path, base: str, dataset: str
) -> None:
    trainer, _, model = trainer_at(
        home / base, home / dataset, tmp_path, tiny_prefer(), home / f"{base}-adapter"
    )
    batch = batch_of(trainer)
    log_p, allowed = read(trainer, batch), batch["allowed"]
    torch.testing.assert_close(log_p, batch["ref_per_token_logps"], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".default." in name:
                parameter += 0.1
    moved = read(trainer, batch).detach()
    with use_adapter(model, "ref"):
        again = read(trainer, batch).detach()
    torch.testing.assert_close(again, batch["ref_per_token_logps"], atol=1e-5, rtol=1e-5)
    found = kl_divergence(moved, again, allowed)
    each = [(moved[a].exp() * (moved[a] - log_p.detach()[a])).sum() for a in _alone(allowed)]
    torch.testing.assert_close(found, torch.stack(each), atol=1e-4, rtol=1e-4)
    assert found.min() > 1e-3
    assert not any(p.requires_grad for n, p in model.named_parameters() if ".ref." in n)


def _alone(allowed: torch.Tensor) -> list[torch.Tensor]:
    """What is allowed in each row, as masks over all rows."""
    rows = torch.arange(len(allowed))[:, None, None]
    return [allowed & (rows == row) for row in range(len(allowed))]


def test_a_part_of_the_reward_is_that_of_the_items_drawn(home: Path, tmp_path: Path) -> None:
    trainer, rollouts, _ = trainer_at(
        home / "atomic", home / "dataset", tmp_path, tiny_prefer(), None
    )
    batch_of(trainer)
    names = trainer.train_dataset["prompt"][:4]
    for part in ("hit", "stock", "price"):
        found = np.array(rollouts.reward(part)()).reshape(4, -1)
        for row, name in enumerate(names):
            case = rollouts.prompt(name).case
            expected = REWARDS[part](rollouts.rollout.items[row].numpy(), case)
            assert found[row].tolist() == expected.tolist()
    assert trainer.reward_func_names == ["hit", "stock", "price"]
    assert trainer.reward_weights.tolist() == [1.0, 0.5, 0.5]


def test_advantages_are_weighed_within_a_group() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
    advantages, expected = weighted_advantages(rewards, weights, scale=False)
    assert expected.tolist() == [0.5, 2.0]
    assert advantages[0].tolist() == [0.5, -0.5, -0.5]
    scaled, _ = weighted_advantages(rewards, weights, scale=True)
    torch.testing.assert_close(scaled[0], torch.tensor([1.0, -1.0, -1.0]), atol=1e-3, rtol=0)
    assert scaled[1].abs().max() < 1e-2, "nothing to tell apart teaches nothing"
