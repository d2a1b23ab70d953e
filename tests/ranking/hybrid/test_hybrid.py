"""Language model and item graph in one ranking, for atomic and semantic item IDs."""

from __future__ import annotations

import numpy as np
import pytest
from recommender_contract import RecommenderContract
from tiny_models import random_semantic_ids, tiny_llm

from llmrec.data.domains import Domains
from llmrec.data.item_graph import ItemGraph
from llmrec.errors import ArtifactError, CatalogError, ConfigError
from llmrec.generation.constraints import Constraints, ItemFilter
from llmrec.generation.llm import Llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.ranking.hybrid.evidence import evidence_of
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.hybrid.recommender import HybridLlm, with_prior
from llmrec.ranking.hybrid.run import candidates, try_priors
from llmrec.ranking.hybrid.settings import HybridConfig
from llmrec.ranking.retrieval.graph_scorer import GraphScorer, content_neighbours
from llmrec.types import Cases, Histories

N = 30
HISTORIES = Histories.from_lists([[1, 2, 3], [4], [], [7, 8, 7]])


def scorer() -> GraphScorer:
    rng = np.random.default_rng(0)
    train = Histories.from_lists(rng.integers(0, N - 1, (40, 4)).tolist())
    vectors = rng.standard_normal((N, 5))
    return GraphScorer(ItemGraph.fit(train, N), content_neighbours(vectors, neighbours=3))


def bonus_of(prior: GraphPrior, histories: Histories) -> np.ndarray:
    """What every item gets, float32 ``[users, N]``."""
    items = np.tile(np.arange(prior.n_items), (len(histories), 1))
    parts = prior.scorer.dense_parts(histories)
    nothing = np.zeros(items.shape, np.float32)
    return prior.bonus(evidence_of(prior.scorer, parts, histories, items, nothing))


def make(kind: str, weight: float = 1.0, scale: float = 0.1) -> HybridLlm:
    ids = ItemIds.atomic(N) if kind == "atomic" else random_semantic_ids(N, (6, 8))
    return with_prior(tiny_llm(ids, beams=N), GraphPrior(scorer(), weight, scale))


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
class TestHybridContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, kind: str) -> HybridLlm:
        return make(kind)


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_the_score_is_the_log_likelihood_and_the_bonus(kind: str) -> None:
    hybrid = make(kind, weight=0.5, scale=0.2)
    items = np.tile(np.arange(N), (len(HISTORIES), 1))
    graph = hybrid.prior.scorer.sparse_scores(HISTORIES).toarray()
    expected = hybrid.llm.score_items(HISTORIES, items) + 0.5 * np.log1p(graph / 0.2)
    found = hybrid.recommend(HISTORIES, N, exclude_history=False)
    for user in range(len(HISTORIES)):
        order = np.argsort(-expected[user])
        assert found.items[user].tolist() == order.tolist()
        np.testing.assert_allclose(found.scores[user], expected[user, order], rtol=1e-4)
    np.testing.assert_allclose(hybrid.score_items(HISTORIES, items), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_without_weight_it_is_the_language_model(kind: str) -> None:
    hybrid = make(kind, weight=0.0)
    alone = hybrid.llm.recommend(HISTORIES, 5)
    found = hybrid.recommend(HISTORIES, 5)
    np.testing.assert_array_equal(found.items, alone.items)


def test_an_item_that_beams_miss_is_proposed_by_the_graph() -> None:
    ids = random_semantic_ids(N, (6, 8))
    prior = GraphPrior(scorer(), weight=50.0, scale=0.001)
    narrow = with_prior(tiny_llm(ids, beams=2), prior)
    best = bonus_of(prior, HISTORIES)
    best[0, [1, 2, 3]] = 0
    assert narrow.recommend(HISTORIES, 2).items[0, 0] == best[0].argmax()
    assert best[0].argmax() not in narrow.llm.recommend(HISTORIES, 2).items[0]


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_constraints_hold_for_both_parts(kind: str) -> None:
    allowed = ItemFilter.of_items([5, 6, 9, 11], N)
    constraints = [Constraints(exclude=[9], allow=allowed)] * len(HISTORIES)
    found = make(kind, weight=50.0).recommend(HISTORIES, 6, constraints=constraints)
    for row in found.items:
        assert set(row[row >= 0].tolist()) == {5, 6, 11}
        assert (row[3:] == -1).all()


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_many_users_are_answered_in_parts_as_one_by_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hybrid = make(kind)
    constraints = [Constraints(exclude=[user + 5]) for user in range(len(HISTORIES))]
    whole = hybrid.recommend(HISTORIES, 6, constraints=constraints)
    monkeypatch.setattr("llmrec.ranking.hybrid.recommender._SCORES_AT_ONCE", 3 * N)
    parts = hybrid.recommend(HISTORIES, 6, constraints=constraints)
    np.testing.assert_array_equal(parts.items, whole.items)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-5)


def test_an_event_of_the_graph_counts_at_the_next_request() -> None:
    hybrid = make("atomic", weight=50.0, scale=0.001)
    one = HISTORIES.select([1])
    before = hybrid.recommend(one, 1).items[0, 0]
    for _ in range(50):
        hybrid.prior.scorer.graph.append(np.array([4]), N - 1)
    after = hybrid.recommend(one, 1).items[0, 0]
    assert (before, after) == (before, N - 1)
    assert before != N - 1


def test_a_graph_of_another_catalogue_is_refused() -> None:
    other = GraphPrior(GraphScorer(ItemGraph(N + 1)))
    with pytest.raises(ArtifactError, match=f"{N + 1} items, the language model of {N}"):
        with_prior(tiny_llm(ItemIds.atomic(N)), other)


def test_items_outside_the_catalogue_and_no_items_are_refused_as_by_the_model() -> None:
    hybrid = make("atomic")
    with pytest.raises(CatalogError):
        hybrid.recommend(Histories.from_lists([[N]]), 3)
    with pytest.raises(CatalogError, match="at least 1"):
        hybrid.recommend(HISTORIES, 0)


def test_saved_and_loaded_it_ranks_the_same(tmp_path) -> None:
    prior = GraphPrior(scorer(), 0.7, 0.05)
    loaded = GraphPrior.load(prior.save(tmp_path / "prior"), N)
    np.testing.assert_allclose(bonus_of(loaded, HISTORIES), bonus_of(prior, HISTORIES), rtol=1e-5)
    alone = GraphPrior(GraphScorer(ItemGraph(N)), 1.0, 1.0)
    assert GraphPrior.load(alone.save(tmp_path / "alone"), N).scorer.content is None
    with pytest.raises(ArtifactError, match=f"of {N} items, the catalogue has 7"):
        GraphPrior.load(tmp_path / "prior", 7)
    (tmp_path / "prior" / "content.npz").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="run llmrec hybrid again"):
        GraphPrior.load(tmp_path / "prior", N)


def test_new_items_are_reached_by_content_and_old_scores_stay() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((N + 2, 5))
    vectors[N] = vectors[3] + 0.01  # the new item is like 3
    content = content_neighbours(vectors[:N], neighbours=3)
    prior = GraphPrior(GraphScorer(ItemGraph(N), content), 1.0, 0.1)
    one = Histories.from_lists([[3]])
    before = bonus_of(prior, one)[0]
    prior = prior.grown(prior.content_with(vectors, N + 2), N + 2)
    after = bonus_of(prior, one)[0]
    np.testing.assert_allclose(after[:N], before, rtol=1e-6)
    assert after[N] == after.max() > 0
    assert bonus_of(prior, Histories.from_lists([[N]]))[0, 3] > 0
    rewritten = vectors.copy()
    rewritten[0] = vectors[3] - 0.01  # and now 0 is like it as well
    moved_content = prior.content_with(rewritten, N + 2, [0])
    moved = bonus_of(prior.grown(moved_content, N + 2), one)[0]
    assert moved[0] > 0.9 * after[N] > after[0]
    np.testing.assert_allclose(np.delete(moved, 0), np.delete(after, 0), rtol=1e-6)
    without = GraphPrior(GraphScorer(ItemGraph(N), content), 1.0, 0.1)
    without = without.grown(without.content_with(None, N + 2), N + 2)
    np.testing.assert_allclose(bonus_of(without, one)[0], [*before, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(("weight", "scale"), [(-1.0, 0.1), (1.0, 0.0), (float("nan"), 0.1)])
def test_a_weight_or_scale_out_of_range_is_refused(weight: float, scale: float) -> None:
    with pytest.raises(ConfigError, match=r"weight|scale"):
        GraphPrior(scorer(), weight, scale)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"weights": []}, "hybrid.weights"),
        ({"scales": [0.0]}, "hybrid.scales"),
        ({"weights": [-1.0]}, "hybrid.weights"),
        ({"candidates": 5}, "hybrid.candidates"),
    ],
)
def test_settings_out_of_range_are_named(settings, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        HybridConfig(**settings)


def test_the_ndcg_of_every_weight_is_that_of_its_ranking() -> None:
    targets = np.array([9, 5, 2, 11], dtype=np.int32)
    cases = Cases(np.arange(4, dtype=np.int32), HISTORIES, targets)
    llm: Llm = tiny_llm(ItemIds.atomic(N), beams=N)
    config = HybridConfig(weights=[0.5], scales=[0.1, 1.0], candidates=N)
    tried = try_priors(candidates(llm, scorer(), cases, config), scorer(), targets, config)
    assert sorted(tried) == [(0.0, 0.1), (0.0, 1.0), (0.5, 0.1), (0.5, 1.0)]
    for (weight, scale), value in tried.items():
        hybrid = with_prior(llm, GraphPrior(scorer(), weight, scale))
        items = hybrid.recommend(HISTORIES, 10).items
        hits = (items == targets[:, None]) / np.log2(np.arange(10) + 2)
        assert value == pytest.approx(hits.sum() / 4)


def test_with_domains_only_items_of_the_targets_are_proposed() -> None:
    targets = np.array([9, 4, 2, 11], dtype=np.int32)
    cases = Cases(np.arange(4, dtype=np.int32), HISTORIES, targets)
    llm: Llm = tiny_llm(ItemIds.atomic(N), beams=N)
    domains = Domains(("odd", "even"), (np.arange(N) % 2 == 0).astype(np.int64))
    found = candidates(llm, scorer(), cases, HybridConfig(candidates=N, by_domain=True), domains)
    for items, target, history in zip(found.items, targets, HISTORIES, strict=True):
        own = np.arange(N)[np.arange(N) % 2 == target % 2]
        assert sorted(items[items >= 0]) == sorted(np.setdiff1d(own, history))
