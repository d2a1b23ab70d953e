"""Beam search against asking the model about every item, on a real (untrained) LLaMA."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import semantic_ids, tiny_llm

from llmrec.errors import CatalogError
from llmrec.generation.llm import SemanticLlm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.types import Histories

SIZES = ((9,), (4, 5), (3, 2, 4), (2, 2, 2, 3))


@st.composite
def catalogues(draw: st.DrawFn) -> ItemIds:
    sizes = draw(st.sampled_from(SIZES))
    row = st.tuples(*[st.integers(0, size - 1) for size in sizes])
    return semantic_ids(draw(st.lists(row, min_size=1, max_size=24, unique=True)), sizes)


@st.composite
def questions(draw: st.DrawFn) -> tuple[ItemIds, Histories, int]:
    """A catalogue, histories of unequal length over it, and a seed for the weights."""
    ids = draw(catalogues())
    items = st.lists(st.integers(0, ids.n_items - 1), max_size=6)
    rows = draw(st.lists(items, min_size=1, max_size=3))
    return ids, Histories.from_lists(rows), draw(st.integers(0, 3))


@torch.inference_mode()
def every_score(llm: SemanticLlm, history: np.ndarray) -> np.ndarray:
    """float32 [items]: sum of each level's log-softmax, the item's tokens spelt out."""
    vocabulary = llm.encoder.vocabulary
    prompt = llm.encoder.encode(history)
    said = llm.encoder.item_tokens
    tokens = np.concatenate([np.tile(prompt, (len(said), 1)), said], axis=1)
    logits = llm.engine.model(torch.from_numpy(tokens)).logits
    total = torch.zeros(len(said))
    for level, size in enumerate(vocabulary.level_sizes):
        start = vocabulary.item_offset + sum(vocabulary.level_sizes[:level])
        step = logits[:, len(prompt) - 1 + level, start : start + size].log_softmax(-1)
        codes = torch.from_numpy(llm.ids.codes[:, level].astype(np.int64))
        total += step.gather(1, codes[:, None])[:, 0]
    return total.numpy()


@pytest.mark.parametrize("exclude", [True, False])
@given(question=questions())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_with_room_for_all_it_finds_all_with_their_true_scores(
    question: tuple[ItemIds, Histories, int], exclude: bool
) -> None:
    ids, histories, seed = question
    llm = tiny_llm(ids, beams=ids.n_items, seed=seed)
    ranking = llm.recommend(histories, ids.n_items, exclude_history=exclude)
    for items, scores, history in zip(ranking.items, ranking.scores, histories, strict=True):
        truth = every_score(llm, history)
        left = np.setdiff1d(np.arange(ids.n_items), history if exclude else [])
        assert sorted(items[items >= 0]) == left.tolist()
        np.testing.assert_allclose(scores[: len(left)], truth[items[: len(left)]], atol=2e-4)
        assert (np.diff(scores[: len(left)]) <= 0).all()
        assert np.isneginf(scores[len(left) :]).all()


@given(question=questions(), beams=st.integers(1, 4), n=st.integers(1, 6))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_with_few_beams_lists_are_full_real_and_free_of_the_history(
    question: tuple[ItemIds, Histories, int], beams: int, n: int
) -> None:
    ids, histories, seed = question
    llm = tiny_llm(ids, beams=beams, seed=seed)
    ranking = llm.recommend(histories, n)
    assert ranking.items.shape == ranking.scores.shape == (len(histories), n)
    for items, scores, history in zip(ranking.items, ranking.scores, histories, strict=True):
        found = items[items >= 0]
        left = np.setdiff1d(np.arange(ids.n_items), history)
        assert len(found) == min(n, len(left)), "excluding items must not shorten the list"
        assert (items[: len(found)] == found).all(), "padding must be at the end"
        assert len(np.unique(found)) == len(found)
        assert np.isin(found, left).all()
        truth = every_score(llm, history)
        np.testing.assert_allclose(scores[: len(found)], truth[found], atol=2e-4)
        assert (np.diff(scores[: len(found)]) <= 0).all()


@given(question=questions(), batch_size=st.integers(1, 3))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_neighbours_in_a_batch_change_nothing(
    question: tuple[ItemIds, Histories, int], batch_size: int
) -> None:
    ids, histories, seed = question
    together = tiny_llm(ids, seed=seed).recommend(histories, 5)
    apart = tiny_llm(ids, seed=seed, batch_size=batch_size).recommend(histories, 5)
    np.testing.assert_array_equal(together.items, apart.items)
    np.testing.assert_allclose(together.scores, apart.scores, atol=1e-4)


def test_a_wide_enough_beam_loses_nothing_to_a_wider_one() -> None:
    """Where the best item stands behind an unlikely first code, one beam misses it."""
    ids = semantic_ids([(a, b) for a in range(4) for b in range(5)], (4, 5))
    histories = Histories.from_lists([[n] for n in range(20)])
    best = tiny_llm(ids, beams=20).recommend(histories, 1)
    narrow = tiny_llm(ids, beams=1).recommend(histories, 1)
    assert (best.scores >= narrow.scores - 1e-4).all()
    assert (best.scores > narrow.scores + 1e-3).any(), "the example is too easy to show it"


def test_nothing_left_gives_an_empty_list() -> None:
    ids = semantic_ids([(0, 1), (2, 3)], (3, 4))
    ranking = tiny_llm(ids).recommend(Histories.from_lists([[0, 1, 0], [1]]), 3)
    assert ranking.items.tolist() == [[-1, -1, -1], [0, -1, -1]]


def test_an_empty_catalogue_is_an_error() -> None:
    nothing = semantic_ids(np.zeros((0, 2)), (3, 4))
    with pytest.raises(CatalogError, match="the catalogue is empty"):
        tiny_llm(nothing)
