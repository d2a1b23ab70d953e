import numpy as np
import pytest

from llmrec.errors import ArtifactError, ConfigError, DataError
from llmrec.metrics.measure import evaluate, train_counts
from llmrec.metrics.metrics import NOT_FOUND
from llmrec.metrics.slices import buckets, slice_rows, upwards_share
from llmrec.metrics.summary import metrics_of, slices_of
from llmrec.recommender import recommend_from_scores
from llmrec.types import Cases, Histories, Ranking

TRAIN = Histories.from_lists([[0, 1], [0, 2], [0]])
COUNTS = train_counts(TRAIN, 5)


class ByIndex:
    """Scores every item so that item 0 is best and the last item worst."""

    n_items = 5

    def score(self, histories: Histories) -> np.ndarray:
        return np.tile(-np.arange(5, dtype=np.float32), (len(histories), 1))


class Lists:
    """The same ranking without scores, and as much of it as is asked for."""

    n_items = 5

    def recommend(self, histories: Histories, n: int, *, exclude_history: bool = True) -> Ranking:
        return recommend_from_scores(ByIndex(), histories, n, exclude_history=exclude_history)


CASES = Cases(
    users=np.array([0, 1, 2, 2], dtype=np.int32),
    histories=Histories.from_lists([[0, 1], [0, 2], [0], []]),
    # the third target is in its own history
    targets=np.array([3, 1, 0, 4], dtype=np.int32),
)


@pytest.mark.parametrize("batch_size", [1, 3, 512])
def test_exact_ranks_under_both_protocols(batch_size):
    result = evaluate(ByIndex(), CASES, COUNTS, ks=(1, 2), list_length=3, batch_size=batch_size)
    assert result.rank_limit is None
    # left after taking the history out: [2 3 4], [1 3 4], [1 2 3 4], [0 1 2 3 4]
    assert result.removed.ranks.tolist() == [1, 0, NOT_FOUND, 4]
    assert result.removed.lists.tolist() == [[2, 3, 4], [1, 3, 4], [1, 2, 3], [0, 1, 2]]
    assert result.with_history.ranks.tolist() == [3, 1, 0, 4]
    assert result.with_history.lists.tolist() == [[0, 1, 2]] * 4
    assert (result.removed.seen, result.with_history.seen) == (0, 2 + 2 + 1)


def test_lists_find_the_same_within_their_length():
    result = evaluate(Lists(), CASES, COUNTS, ks=(1, 2), list_length=3, batch_size=3)
    assert result.rank_limit == 3
    assert result.removed.ranks.tolist() == [1, 0, NOT_FOUND, NOT_FOUND]
    assert result.with_history.ranks.tolist() == [NOT_FOUND, 1, 0, NOT_FOUND]


def test_metrics_of_both_agree_up_to_the_list():
    settings = {"ks": (1, 2), "list_length": 3}
    exact = evaluate(ByIndex(), CASES, COUNTS, **settings)
    listed = evaluate(Lists(), CASES, COUNTS, **settings)
    a, b = metrics_of(exact, exact.removed), metrics_of(listed, listed.removed)
    assert a["recall@2"] == b["recall@2"] == 0.5
    assert a["mrr@2"] == b["mrr@2"] == pytest.approx((1 / 2 + 1) / 4)
    assert a["mrr"] == pytest.approx((1 / 2 + 1 + 0 + 1 / 5) / 4)
    assert a["coverage@2"] == 0.8  # items 0 to 3
    assert a["invalid_rate"] == a["short_list_rate"] == a["seen_rate"] == 0.0


def test_second_protocol_can_be_left_out():
    result = evaluate(ByIndex(), CASES, COUNTS, ks=(1,), list_length=2, with_history=False)
    assert result.with_history is None


def test_a_recommender_that_ignores_the_history_gains_nothing_and_is_seen():
    class Ignores(Lists):
        def recommend(self, histories, n, *, exclude_history=True):
            return super().recommend(histories, n, exclude_history=False)

    result = evaluate(Ignores(), CASES, COUNTS, ks=(1,), list_length=3)
    assert result.removed.ranks[2] == NOT_FOUND
    assert metrics_of(result, result.removed)["seen_rate"] == pytest.approx(5 / 12)


def test_invalid_places_are_counted_and_never_hit():
    class Invents(Lists):
        invalid_generated = 0

        def recommend(self, histories, n, *, exclude_history=True):
            self.invalid_generated += 2
            ranking = super().recommend(histories, n, exclude_history=exclude_history)
            ranking.items[:, 0] = 77
            ranking.items[0, 1:] = -1
            return ranking

    result = evaluate(Invents(), CASES, COUNTS, ks=(1,), list_length=3, batch_size=2)
    found = metrics_of(result, result.removed)
    assert found["recall@1"] == 0.0
    # four invented places and two reported in each of two batches, of 3 * 4 - 4 filled ones
    assert result.removed.invalid_reported == 4
    assert found["invalid_rate"] == pytest.approx((4 + 4) / (12 - 4 + 4))
    assert found["short_list_rate"] == 0.5


def test_nan_is_refused_instead_of_ranked_first():
    class Broken(ByIndex):
        def score(self, histories):
            scores = super().score(histories)
            scores[-1, 4] = np.nan
            return scores

    with pytest.raises(ArtifactError, match="not all finite"):
        evaluate(Broken(), CASES, COUNTS, ks=(1,), list_length=3)


def test_wrong_use_is_named():
    with pytest.raises(ConfigError, match="list_length"):
        evaluate(ByIndex(), CASES, COUNTS, ks=(5,), list_length=3)
    with pytest.raises(DataError, match="no cases"):
        evaluate(ByIndex(), CASES.select([]), COUNTS)
    with pytest.raises(ArtifactError, match="5 items but the dataset has 9"):
        evaluate(ByIndex(), CASES, np.zeros(9, dtype=np.int64))


def test_goes_on_where_it_was_killed(tmp_path):
    class Counts(ByIndex):
        asked = 0

        def score(self, histories):
            if self.asked == self.stop_at:
                raise KeyboardInterrupt
            self.asked += 1
            return super().score(histories)

    settings = {"ks": (1, 2), "list_length": 3, "batch_size": 1, "checkpoint": tmp_path}
    killed = Counts()
    killed.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        evaluate(killed, CASES, COUNTS, **settings)
    resumed = Counts()
    resumed.stop_at = -1
    result = evaluate(resumed, CASES, COUNTS, **settings)
    assert resumed.asked == 2
    whole = evaluate(ByIndex(), CASES, COUNTS, ks=(1, 2), list_length=3)
    np.testing.assert_array_equal(result.removed.ranks, whole.removed.ranks)
    np.testing.assert_array_equal(result.with_history.lists, whole.with_history.lists)


def test_slices_partition_the_cases():
    result = evaluate(ByIndex(), CASES, COUNTS, ks=(1, 2), list_length=3)
    assert result.target_counts.tolist() == [0, 1, 3, 0]
    sliced = slices_of(result, result.removed, resamples=50, seed=0)
    popularity = sliced["item_popularity"]
    assert {name: part["cases"] for name, part in popularity.items()} == {"0": 2, "1-4": 2}
    assert popularity["0"]["metrics"]["recall@1"] == 0.0
    assert popularity["1-4"]["metrics"]["recall@1"] == 0.5
    lengths = sliced["history_length"]
    assert {name: part["cases"] for name, part in lengths.items()} == {"0": 1, "1-4": 3}


def test_targets_above_and_below_the_last_item_are_parted():
    """Names stand as 3, 4, 1, 0 and item 2 has none; the last items are 1, 2, 0 and none."""
    ranks = np.array([2, 1, -1, 0, 3])
    cases = Cases(
        np.arange(6, dtype=np.int32),
        Histories.from_lists([[0, 1], [0, 1], [0, 2], [1, 0], [], [0, 4, 4]]),
        np.array([3, 4, 1, 4, 4, 4], dtype=np.int32),
    )
    result = evaluate(ByIndex(), cases, COUNTS, ks=(1, 2), list_length=3, name_ranks=ranks)
    assert result.facts["name_order"].tolist() == [-1, 1, 0, 1, 0, 0]
    sliced = slices_of(result, result.removed, resamples=50, seed=0)["name_order"]
    assert {name: part["cases"] for name, part in sliced.items()} == {"upwards": 2, "downwards": 1}
    assert sliced["downwards"]["metrics"] == {"recall@1": 0.0, "ndcg@1": 0.0}
    assert upwards_share(result.facts) == pytest.approx(2 / 3)
    without = evaluate(ByIndex(), cases, COUNTS, ks=(1, 2), list_length=3)
    assert "name_order" not in slices_of(without, without.removed, resamples=50, seed=0)
    assert upwards_share(without.facts) is None


def test_days_since_the_last_event_are_whole_ones_and_unknown_ones_in_no_bucket():
    day = 86_400.0
    histories = Histories.from_lists(
        [[0, 1], [0], [], [1], [1]],
        [[0.0, day], [0.0], [], [np.nan], [5 * day]],
        [day, 7 * day - 1, day, day, 6 * day],
    )
    cases = Cases(np.arange(5, dtype=np.int32), histories, np.full(5, 2, dtype=np.int32))
    result = evaluate(ByIndex(), cases, COUNTS, ks=(1, 2), list_length=3)
    assert result.facts["days_since_last_event"].tolist() == [0, 6, -1, -1, 1]
    rows = dict(slice_rows(result.facts)["days_since_last_event"])
    assert {label: found.tolist() for label, found in rows.items()} == {"0": [0], "1-6": [1, 4]}


def test_buckets_take_every_row_once():
    amounts = np.array([0, 1, 4, 5, 9, 10, 49, 50, 5000])
    found = buckets(amounts, (0, 1, 5, 10, 20, 50))
    assert [name for name, _ in found] == ["0", "1-4", "5-9", "10-19", "20-49", "50+"]
    assert sorted(np.concatenate([rows for _, rows in found]).tolist()) == list(range(9))


# what came next is {3, 0} and {1, 4} after [0, 1], [0, 2]
BASKETS = Cases(
    users=np.array([0, 0, 1, 1], dtype=np.int32),
    histories=Histories.from_lists([[0, 1], [0, 1], [0, 2], [0, 2]]),
    targets=np.array([3, 0, 1, 4], dtype=np.int32),
    basket=np.array([0, 0, 1, 1]),
)


@pytest.mark.parametrize("batch_size", [1, 512])
@pytest.mark.parametrize("recommender", [ByIndex(), Lists()])
def test_a_basket_is_asked_once_and_is_one_case(recommender, batch_size):
    settings = {"ks": (1, 2), "list_length": 5, "batch_size": batch_size}
    names = {"name_ranks": np.arange(5), "with_history": False}
    result = evaluate(recommender, BASKETS, COUNTS, **settings, **names)
    assert result.with_history.ranks.tolist() == [3, 0, 1, 4]
    # left after taking the history out: [2 3 4], [1 3 4]
    assert result.removed.ranks.tolist() == [1, NOT_FOUND, 0, 2]
    assert result.removed.lists.tolist() == [[2, 3, 4, -1, -1], [1, 3, 4, -1, -1]]
    assert result.users.tolist() == [0, 1]
    assert result.facts["history_length"].tolist() == [2, 2, 2, 2]
    assert result.primary is result.with_history, "what is in a basket is bought again"
    assert result.mean("recall@2") == 0.5 and result.mean("hr@1") == 0.5
    found = metrics_of(result, result.removed)
    assert found["recall@2"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    sliced = slices_of(result, result.primary, 5, 0)
    assert list(sliced) == ["basket_size", "history_length"], "names in a basket are in no order"
    assert sliced["basket_size"]["2-4"]["cases"] == 2
