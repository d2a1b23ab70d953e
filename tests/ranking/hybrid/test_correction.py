"""The learned correction: what it learns, where it stops, and that it is kept only if it helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmrec.data.item_graph import ItemGraph
from llmrec.errors import ArtifactError
from llmrec.ranking.hybrid.correction import Correction
from llmrec.ranking.hybrid.evidence import N_FEATURES, SCALES, evidence_of, features_of
from llmrec.ranking.hybrid.fit import fit_correction, ndcg_at_10
from llmrec.ranking.hybrid.prior import GraphPrior
from llmrec.ranking.hybrid.recommender import Proposed
from llmrec.ranking.hybrid.run import _learn
from llmrec.ranking.retrieval.graph_scorer import PARTS, GraphScorer, content_neighbours
from llmrec.types import Cases, Histories

N, C = 12, 8


def scorer(content: bool = True) -> GraphScorer:
    rng = np.random.default_rng(0)
    train = Histories.from_lists(rng.integers(0, N - 1, (30, 4)).tolist())
    neighbours = content_neighbours(rng.standard_normal((N, 4)), 3) if content else None
    return GraphScorer(ItemGraph.fit(train, N), neighbours)


def users(n: int, truth: str, seed: int = 0) -> tuple[Proposed, np.ndarray]:
    """Users of a world in which the target is the likeliest item, or the one of most content."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.choice(N, C, replace=False) for _ in range(n)])
    found = scorer()
    histories = Histories.from_lists(rng.integers(0, N - 1, (n, 3)).tolist())
    log_likelihood = rng.normal(-5, 1, (n, C)).astype(np.float32)
    evidence = evidence_of(found, found.dense_parts(histories), histories, items, log_likelihood)
    by = log_likelihood if truth == "likelihood" else evidence.parts[2]
    return Proposed(items, evidence), items[np.arange(n), by.argmax(axis=1)]


def cases_of(targets: np.ndarray, users: np.ndarray | None = None) -> Cases:
    """Cases of these targets, by default each of a user of its own."""
    users = np.arange(len(targets)) if users is None else users
    histories = Histories.from_lists([[0]] * len(targets))
    return Cases(users.astype(np.int32), histories, targets.astype(np.int32))


def test_features_are_what_they_are_called() -> None:
    found = scorer()
    histories = Histories.from_lists([[3, 5], []])
    items = np.array([[1, 2, -1], [4, 6, 7]])
    likelihood = np.array([[-1, -2, -np.inf], [-3, -4, -5]], np.float32)
    parts = found.dense_parts(histories)
    evidence = evidence_of(found, found.dense_parts(histories), histories, items, likelihood)
    features = features_of(evidence)
    assert features.shape == (2, 3, N_FEATURES) and not np.isnan(features).any()
    np.testing.assert_array_equal(features[..., 0], likelihood)
    walked = parts[PARTS.index("walk")][0, 2]
    assert walked > 0
    np.testing.assert_allclose(features[0, 1, 2:5], np.log1p(walked / np.array(SCALES)), rtol=1e-5)
    np.testing.assert_allclose(features[:, :, -2], np.log([[2] * 3, [1] * 3]), rtol=1e-6)
    assert (features[1, :, 2:-2] == 0).all() and (features[1, :, -1] == 0).all()  # no history
    assert (features[0, 2, 1:-2] == 0).all()  # padding
    alone = scorer(content=False)
    without = evidence_of(alone, alone.dense_parts(histories), histories, items, likelihood)
    assert (without.parts[[1, 2, 4]] == 0).all() and (
        without.parts[[0, 3]] == evidence.parts[[0, 3]]
    ).all()


def test_it_learns_whom_to_believe_and_is_kept() -> None:
    found, targets = users(1500, "content")
    scores = found.log_likelihood
    before = ndcg_at_10(found.items, scores, targets).mean()
    fitted = fit_correction(found, scores, cases_of(targets))
    assert fitted is not None
    assert fitted.ndcg.mean() > before + 0.2
    others, wanted = users(300, "content", seed=7)
    corrected = others.log_likelihood + fitted.correction(features_of(others.evidence))
    assert ndcg_at_10(others.items, corrected, wanted).mean() > before + 0.2
    prior = GraphPrior(scorer(), weight=0.0)
    told = _learn(prior, found, cases_of(targets), 0)
    assert told["learned"] and prior.correction is not None


def test_what_does_not_help_others_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    found, targets = users(400, "likelihood")  # nothing to correct
    prior = GraphPrior(scorer(), weight=0.0)
    assert not _learn(prior, found, cases_of(targets), 0)["learned"]
    assert prior.correction is None
    assert "left out" in capsys.readouterr().out


def test_the_gain_is_of_users_that_were_not_learned_from() -> None:
    rng = np.random.default_rng(3)
    found, _ = users(200, "content")
    targets = found.items[np.arange(200), rng.integers(0, C, 200)]  # nothing to learn
    fitted = fit_correction(found, found.log_likelihood, cases_of(targets))
    assert fitted is not None
    before = ndcg_at_10(found.items, found.log_likelihood, targets)
    assert fitted.ndcg.mean() < before.mean() + 3 * before.std() / 200**0.5


def test_the_cases_of_a_user_are_learned_from_or_judged_and_never_both() -> None:
    """One user has all the cases, so there is nobody else to learn from."""
    found, targets = users(100, "content")
    assert fit_correction(found, found.log_likelihood, cases_of(targets, np.zeros(100))) is None


def test_too_few_users_teach_nothing() -> None:
    found, _ = users(50, "content")
    assert fit_correction(found, found.log_likelihood, cases_of(np.full(50, N + 1))) is None


def test_the_seed_decides() -> None:
    found, targets = users(300, "content")
    one, same, other = (
        fit_correction(found, found.log_likelihood, cases_of(targets), seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(one.correction.weights[0], same.correction.weights[0])
    assert not np.array_equal(one.correction.weights[0], other.correction.weights[0])


def test_beyond_what_was_seen_it_is_constant() -> None:
    found, targets = users(300, "content")
    correction = fit_correction(found, found.log_likelihood, cases_of(targets)).correction
    features = features_of(found.evidence)[:1, :1].repeat(3, axis=1)
    features[0, :, 0] = [-1e3, -1e6, -np.inf]
    first, *rest = correction(features)[0].tolist()
    assert np.isfinite(first) and rest == [first, first]


def test_saved_and_loaded_it_corrects_the_same(tmp_path: Path) -> None:
    found, targets = users(300, "content")
    correction = fit_correction(found, found.log_likelihood, cases_of(targets)).correction
    prior = GraphPrior(scorer(), 1.0, 0.1, correction)
    loaded = GraphPrior.load(prior.save(tmp_path / "prior"), N)
    np.testing.assert_array_equal(loaded.bonus(found.evidence), prior.bonus(found.evidence))
    path = tmp_path / "prior" / "correction.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(ArtifactError, match="run llmrec hybrid again"):
        Correction.load(path)
    path.unlink()
    with pytest.raises(ArtifactError, match="run llmrec hybrid again"):
        GraphPrior.load(tmp_path / "prior", N)
