"""What is drawn: real, different, allowed, from the policy, and weighed so that means are right."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import random_semantic_ids, tiny_llama

from llmrec.generation.beam_search import decode_slots
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.engine import TorchEngine, right_pad
from llmrec.generation.trie import ItemTrie
from llmrec.llm.vocabulary import Vocabulary
from llmrec.training.preference.sampling import Rollout, sample_items

PROMPTS = [np.array([1, 5, 3]), np.array([1, 5, 7, 2, 9, 4])]


@dataclass(frozen=True)
class World:
    """A catalogue and a model that can say it."""

    engine: TorchEngine
    codes: np.ndarray
    trie: ItemTrie


def world_of(sizes: tuple[int, ...], n_items: int, seed: int = 0) -> World:
    """A random catalogue, asked with the same two prompts; likelihoods differ by orders."""
    ids = random_semantic_ids(n_items, sizes, seed)
    vocabulary = Vocabulary.of(12, (), ids)
    engine = TorchEngine(tiny_llama(vocabulary.size), vocabulary)
    return World(engine, ids.codes, ItemTrie(ids.codes))


def drawn_from(
    world: World, n: int, excluded: list[list[int]], seed: int = 0, times: int = 1
) -> Rollout:
    """Items for each prompt, each asked so many times."""
    prompts = [prompt for prompt in PROMPTS for _ in range(times)]
    prefix = world.engine.prefill(*right_pad(prompts), slots=decode_slots(world.trie, n + 1))
    requests = [Constraints(exclude=row) for row in excluded for _ in range(times)]
    limits = LeafConstraints(world.trie, requests)
    generator = torch.Generator().manual_seed(seed)
    return sample_items(world.engine, world.trie, prefix, limits, n, generator)


def policy(world: World, user: int, excluded: list[int]) -> np.ndarray:
    """Log-probability of every item, by hand: level by level among codes with something left."""
    engine, codes = world.engine, world.codes
    left = np.setdiff1d(np.arange(len(codes)), excluded)
    vocabulary = engine.vocabulary
    starts = [vocabulary.level_range(level)[0] for level in range(codes.shape[1])]
    scores = np.full(len(codes), -np.inf)
    for item in left:
        scores[item] = 0.0
        for level in range(codes.shape[1]):
            same = (codes[left, :level] == codes[item, :level]).all(1)
            choices = np.unique(codes[left[same], level])
            prefix = codes[item, :level] + vocabulary.item_offset + np.array(starts[:level], int)
            tokens = torch.from_numpy(np.concatenate([PROMPTS[user], prefix]).astype(np.int64))
            with torch.inference_mode():
                logits = engine.model(input_ids=tokens[None]).logits[0, -1].double().numpy()
            own = logits[choices + vocabulary.item_offset + starts[level]]
            place = int(np.flatnonzero(choices == codes[item, level])[0])
            scores[item] += own[place] - np.logaddexp.reduce(own)
    return scores


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.sampled_from([(16,), (4, 5), (3, 2, 4)]),
    n=st.integers(1, 8),
    excluded=st.lists(st.integers(0, 11), max_size=11, unique=True),
    seed=st.integers(0, 1000),
)
def test_items_are_real_different_and_allowed(
    sizes: tuple[int, ...], n: int, excluded: list[int], seed: int
) -> None:
    drawn = drawn_from(world_of(sizes, 12), n, [excluded, []], seed)
    for user, lost in enumerate((excluded, [])):
        found = drawn.items[user][drawn.items[user] >= 0].tolist()
        assert len(found) == len(set(found)) == min(n, 12 - len(lost))
        assert set(found) <= set(range(12)) - set(lost)
    assert torch.equal(drawn.items < 0, drawn.log_p == -torch.inf)
    torch.testing.assert_close(drawn.weights.sum(1), torch.ones(2))
    assert (drawn.log_p.diff(dim=1)[drawn.items[:, 1:] >= 0] <= 0).all(), "the likeliest first"


@pytest.mark.parametrize("sizes", [(16,), (4, 5), (3, 2, 4)])
def test_probabilities_are_those_of_the_policy_with_what_is_excluded_left_out(
    sizes: tuple[int, ...],
) -> None:
    world, excluded = world_of(sizes, 12), [[1, 4, 5, 8], [0]]
    drawn = drawn_from(world, 5, excluded)
    for user, lost in enumerate(excluded):
        truth = policy(world, user, lost)
        assert np.exp(truth).sum() == pytest.approx(1.0)
        np.testing.assert_allclose(
            drawn.log_p[user].numpy(), truth[drawn.items[user].numpy()], atol=1e-4
        )


@pytest.mark.parametrize("sizes", [(16,), (4, 5), (3, 2, 4)])
def test_weighed_sums_have_the_policys_expectation(sizes: tuple[int, ...]) -> None:
    """The mean of p / q over draws in which an item is, and 0 elsewhere, is its probability."""
    world, excluded, times = world_of(sizes, 12), [[2, 3], []], 6000
    drawn = drawn_from(world, 3, excluded, times=times)
    for user, lost in enumerate(excluded):
        rows = slice(user * times, (user + 1) * times)
        ratio, items = drawn.log_ratio[rows].exp().numpy(), drawn.items[rows].numpy()
        probability = np.exp(policy(world, user, lost))
        for item in range(12):
            counted = np.where(items == item, ratio, 0.0).sum(1)
            error = counted.std() / np.sqrt(times)
            assert counted.mean() == pytest.approx(probability[item], abs=5 * error + 2e-4)


def test_the_first_to_be_drawn_follows_the_policy() -> None:
    """One item a prompt is an ordinary sample, every weight one."""
    world, times = world_of((4, 5), 12), 6000
    drawn = drawn_from(world, 1, [[2], [7]], times=times)
    assert (drawn.weights == 1).all()
    for user, lost in enumerate(([2], [7])):
        counts = np.bincount(drawn.items[user * times : (user + 1) * times, 0], minlength=12)
        probability = np.exp(policy(world, user, lost))
        error = np.sqrt(probability * (1 - probability) / times)
        assert (np.abs(counts / times - probability) <= 5 * error + 2e-4).all()


@pytest.mark.parametrize("sizes", [(16,), (4, 5)])
def test_a_group_that_is_the_catalogue_is_weighed_by_probability(sizes: tuple[int, ...]) -> None:
    world = world_of(sizes, 12)
    drawn = drawn_from(world, 12, [[0, 1, 2], []])
    assert drawn.items[0, 9:].tolist() == [-1, -1, -1] and drawn.weights[0, 9:].sum() == 0
    torch.testing.assert_close(drawn.weights.double(), drawn.log_p.exp(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(16,), (3, 2, 4)])
def test_what_was_allowed_is_what_had_something_left(sizes: tuple[int, ...]) -> None:
    world, lost = world_of(sizes, 12), [0, 3, 6]
    drawn = drawn_from(world, 4, [lost, []])
    codes, left = world.codes, np.setdiff1d(np.arange(12), lost)
    for item, allowed in zip(drawn.items[0].tolist(), drawn.allowed[0].numpy(), strict=True):
        for level in range(codes.shape[1]):
            same = (codes[left, :level] == codes[item, :level]).all(1)
            expected = np.unique(codes[left[same], level])
            assert np.flatnonzero(allowed[level]).tolist() == expected.tolist()


def test_the_generator_decides() -> None:
    world = world_of((4, 5), 12)
    one, same, other = (drawn_from(world, 4, [[], []], seed).items for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
