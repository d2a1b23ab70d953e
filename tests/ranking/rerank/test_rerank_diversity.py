"""MMR and DPP against their definitions, written down slowly."""

import time

import numpy as np
import pytest

from llmrec.ranking.rerank import RerankConfig, rerank
from llmrec.ranking.rerank.diversity import relevance_of, unit_rows


def scored_vectors(seed, count=20, size=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=count), rng.normal(size=(count, size))


def cosines(vectors):
    lengths = np.linalg.norm(vectors, axis=1)
    likeness = vectors @ vectors.T / np.outer(lengths, lengths)
    np.fill_diagonal(likeness, 1.0)  # not 1 but for rounding, which would break ties
    return likeness


def relevances(logits):
    return (logits - logits.min()) / (logits.max() - logits.min())


def slow_mmr(logits, vectors, n, weight):
    likeness, relevance = cosines(vectors), relevances(logits)
    chosen: list[int] = []
    while len(chosen) < n:
        left = [i for i in range(len(logits)) if i not in chosen]
        gains = [
            weight * relevance[i]
            - (1 - weight) * max((likeness[i, j] for j in chosen), default=0.0)
            for i in left
        ]
        chosen.append(left[int(np.argmax(gains))])
    return chosen


def slow_dpp(logits, vectors, n, alpha):
    quality = np.exp(alpha * relevances(logits))
    kernel = quality[:, None] * cosines(vectors) * quality
    chosen: list[int] = []
    while len(chosen) < n:
        left = [i for i in range(len(logits)) if i not in chosen]
        sets = [np.ix_([*chosen, i], [*chosen, i]) for i in left]
        chosen.append(left[int(np.argmax([np.linalg.slogdet(kernel[s])[1] for s in sets]))])
    return chosen


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("weight", [0.2, 0.5, 0.9])
def test_mmr_is_the_definition(seed, weight):
    logits, vectors = scored_vectors(seed)
    order = rerank(RerankConfig("mmr", mmr_lambda=weight), logits, 12, vectors)
    assert order.tolist() == slow_mmr(logits, vectors, 12, weight)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("alpha", [0.0, 0.7, 3.0])
def test_dpp_is_the_greedy_choice_of_the_greatest_determinant(seed, alpha):
    logits, vectors = scored_vectors(seed)
    if alpha == 0:
        logits = -np.arange(20.0)  # determinants alone: the first is a tie, the best score has it
    order = rerank(RerankConfig("dpp", dpp_alpha=alpha), logits, 8, vectors)
    assert order.tolist() == slow_dpp(logits, vectors, 8, alpha)


@pytest.mark.parametrize("way", ["mmr", "dpp"])
def test_a_twin_waits_for_what_is_different(way):
    vectors = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    config = RerankConfig(way, mmr_lambda=0.5, dpp_alpha=1.0)
    assert rerank(config, np.array([1.0, 0.9, 0.5]), 3, vectors).tolist() == [0, 2, 1]


def test_dpp_goes_on_by_score_when_every_direction_is_taken():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    order = rerank(RerankConfig("dpp"), np.array([5.0, 4.0, 3.0, 2.0, 1.0]), 5, vectors)
    assert order.tolist() == [0, 2, 4, 1, 3]


@pytest.mark.parametrize("way", ["mmr", "dpp"])
def test_items_without_vectors_are_alike_to_none(way):
    logits = np.array([1.0, 3.0, 2.0])
    assert rerank(RerankConfig(way), logits, 3, np.zeros((3, 4))).tolist() == [1, 2, 0]
    assert rerank(RerankConfig(way), logits, 3, np.zeros((3, 0))).tolist() == [1, 2, 0]


@pytest.mark.parametrize("way", ["mmr", "dpp"])
def test_the_best_comes_first_and_the_length_of_a_vector_does_not_matter(way):
    logits, vectors = scored_vectors(3)
    order = rerank(RerankConfig(way), logits, 10, vectors)
    assert order[0] == np.argmax(logits)
    scaled = vectors * np.exp2(np.arange(-10, 10))[:, None]
    np.testing.assert_array_equal(rerank(RerankConfig(way), logits, 10, scaled), order)


def test_a_great_alpha_is_the_order_of_the_scores_without_overflow():
    logits, vectors = scored_vectors(4, size=30)
    logits = np.argsort(logits).astype(float)
    order = rerank(RerankConfig("dpp", dpp_alpha=100.0), logits, 10, vectors)
    np.testing.assert_array_equal(order, np.argsort(-logits)[:10])


def test_relevance_and_lengths_stand_great_numbers():
    relevance = relevance_of(np.array([1.7e308, 0.0, -1.7e308]))
    assert relevance.tolist() == [1.0, 0.5, 0.0]
    assert relevance_of(np.array([2.0, 2.0])).tolist() == [1.0, 1.0]
    units = unit_rows(np.array([[3e200, 4e200], [3e-200, 4e-200]]))
    np.testing.assert_allclose(units, [[0.6, 0.8], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(("way", "milliseconds"), [("mmr", 3), ("dpp", 5)])
def test_fifty_of_a_thousand_are_chosen_in_milliseconds_of_one_core(way, milliseconds):
    logits, vectors = scored_vectors(0, 1000, 128)
    vectors = vectors.astype(np.float32)
    seconds = []
    for _ in range(10):  # the best of ten: this is about the work, not about a busy machine
        started = time.thread_time()
        rerank(RerankConfig(way), logits, 50, vectors)
        seconds.append(time.thread_time() - started)
    assert min(seconds) * 1000 < milliseconds
