"""Baselines of click models on rows whose truth is known."""

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.bench.ctr_baselines.baseline import ScoreAlone, log_loss
from llmrec.bench.ctr_baselines.logistic import Encoding, LogisticRegression
from llmrec.bench.ctr_baselines.table import Table
from llmrec.bench.ctr_baselines.trees import Trees
from llmrec.errors import ConfigError, DataError, MissingExtraError

N_ITEMS, WORDS = 30, 12


def a_catalogue(rng):
    """Words of items: 0 to 4 each, so that some have none."""
    lengths = rng.integers(0, 5, N_ITEMS)
    ids = rng.integers(0, WORDS, lengths.sum()).astype(np.int32)
    return ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def rows_of_a_shop(n=1200, seed=0):
    """Rows, labels and true logits: clicks depend on each kind of column."""
    rng = np.random.default_rng(seed)
    ids, offsets = a_catalogue(np.random.default_rng(99))
    dense = rng.normal(size=(n, 3)).astype(np.float32)
    categorical = np.stack([rng.integers(0, 5, n), rng.integers(0, 3, n)], axis=1)
    item = rng.integers(0, N_ITEMS, n)
    words_matter = np.zeros(N_ITEMS)
    np.add.at(words_matter, np.repeat(np.arange(N_ITEMS), np.diff(offsets)), ids % 3 - 1.0)
    # the second number acts by its size, whatever its sign
    logits = dense[:, 0] + 1.5 * (np.abs(dense[:, 1]) > 1) + (categorical[:, 0] == 2)
    logits = logits + 0.5 * words_matter[item] - 1.5
    labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    dense[rng.random(n) < 0.1, 2] = np.nan
    table = Table(
        dense,
        ("score", "size", "noise"),
        categorical.astype(np.int32),
        ("hour", "device"),
        (5, 3),
        ids,
        offsets,
        item.astype(np.int32),
    )
    return table, labels, logits


def without(table, names):
    """The same table without some columns."""
    dense = [i for i, name in enumerate(table.dense_names) if name not in names]
    kinds = [i for i, name in enumerate(table.categorical_names) if name not in names]
    return dataclasses.replace(
        table,
        dense=table.dense[:, dense],
        dense_names=tuple(table.dense_names[i] for i in dense),
        categorical=table.categorical[:, kinds],
        categorical_names=tuple(table.categorical_names[i] for i in kinds),
        sizes=tuple(table.sizes[i] for i in kinds),
    )


def tree_settings(num_leaves, learning_rate, min_data_in_leaf):
    return {
        "num_leaves": num_leaves,
        "learning_rate": learning_rate,
        "min_data_in_leaf": min_data_in_leaf,
    }


def few_trees():
    return Trees([tree_settings(7, 0.1, 20)], rounds=60, patience=10)


MAKERS = {
    "logistic": LogisticRegression,
    "trees": few_trees,
    "score": lambda: ScoreAlone("score"),
}
every_baseline = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@pytest.fixture(scope="module")
def shop():
    table, labels, logits = rows_of_a_shop(4000)
    at = np.split(np.arange(4000), [2400, 3200])
    return [(table.select(rows), labels[rows], logits[rows]) for rows in at]


@pytest.fixture(scope="module")
def fitted(shop):
    (train, labels, _), (held, held_labels, _), _ = shop
    return {name: make().fit(train, labels, held, held_labels) for name, make in MAKERS.items()}


def loss_of(logits, truth):
    """Expected log loss, against the true probabilities."""
    p = 1 / (1 + np.exp(-truth))
    return float(np.mean(np.logaddexp(0, logits) - p * logits))


def test_each_learns_what_it_can_see(shop, fitted):
    test, _, truth = shop[2]
    rate = shop[0][1].mean()
    constant = loss_of(np.full(len(test), np.log(rate / (1 - rate))), truth)
    best = loss_of(truth, truth)
    losses = {name: loss_of(model.logits(test), truth) for name, model in fitted.items()}
    assert losses["score"] < constant - 0.2 * (constant - best)
    for name in ("logistic", "trees"):
        assert losses[name] < losses["score"]
    assert losses["logistic"] < constant - 0.8 * (constant - best)
    assert losses["trees"] < constant - 0.7 * (constant - best)


def test_a_column_alone_is_calibrated_in_the_large(shop, fitted):
    (train, labels, _), *_ = shop
    p = 1 / (1 + np.exp(-fitted["score"].logits(train)))
    assert p.mean() == pytest.approx(labels.mean(), abs=2 / len(labels))


@pytest.mark.parametrize("name", MAKERS)
def test_logits_are_finite_float64_one_a_row_and_do_not_depend_on_other_rows(shop, fitted, name):
    test = shop[2][0]
    logits = fitted[name].logits(test)
    assert logits.dtype == np.float64 and logits.shape == (len(test),)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(
        fitted[name].logits(test.select(slice(3, 9))), logits[3:9], rtol=1e-9, atol=1e-12
    )
    assert fitted[name].logits(test.select(slice(0, 0))).shape == (0,)


@every_baseline
def test_the_same_seed_gives_the_same_answers(shop, fitted, make):
    (train, labels, _), (held, held_labels, _), (test, _, _) = shop
    again = [make().fit(train, labels, held, held_labels, seed=3).logits(test) for _ in range(2)]
    np.testing.assert_array_equal(*again)


@every_baseline
def test_numbers_beyond_those_seen_and_missing_ones_give_finite_logits(shop, make):
    (train, labels, _), (held, held_labels, _), (test, _, _) = shop
    model = make().fit(train, labels, held, held_labels)
    for number in (3e38, -3e38, np.nan):
        strange = dataclasses.replace(test, dense=np.full_like(test.dense, number))
        assert np.isfinite(model.logits(strange)).all()


@every_baseline
@pytest.mark.parametrize("number", [0.0, 7.0, np.nan, 3e38])
def test_a_number_that_is_always_the_same_does_no_harm(shop, make, number):
    (train, labels, _), (held, held_labels, _), _ = shop
    same = [dataclasses.replace(t, dense=np.full_like(t.dense, number)) for t in (train, held)]
    logits = make().fit(same[0], labels, same[1], held_labels).logits(same[1])
    assert np.isfinite(logits).all()
    if make is MAKERS["score"]:
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), labels.mean(), atol=1e-3)


@every_baseline
@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_label_give_a_probability_that_is_not_certain(shop, make, label):
    (train, _, _), (held, held_labels, _), _ = shop
    labels = np.full(len(train), label)
    logits = make().fit(train, labels, held, held_labels).logits(held)
    k, n = labels.sum(), len(labels)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), (k + 1) / (n + 2), rtol=1e-12)


@every_baseline
def test_no_rows_at_all_are_even_chances(shop, make):
    (train, labels, _), (held, held_labels, _), _ = shop
    model = make().fit(train.select(slice(0, 0)), labels[:0], held, held_labels)
    assert set(model.logits(held).tolist()) == {0.0}


@every_baseline
def test_a_shop_without_numbers_categories_or_words_can_be_fitted(shop, make):
    (train, labels, _), (held, held_labels, _), _ = shop

    def bare(table):
        table = without(table, ["size", "noise", "hour", "device"])
        none = np.zeros(0, dtype=np.int32), np.zeros(N_ITEMS + 1, dtype=np.int64)
        return dataclasses.replace(table, bag_ids=none[0], bag_offsets=none[1])

    model = make().fit(bare(train), labels, bare(held), held_labels)
    assert len(set(model.logits(bare(held)).tolist())) > 1


@pytest.mark.parametrize("make", [LogisticRegression, few_trees])
def test_an_item_alone_is_enough_to_learn_from(shop, make):
    (train, labels, _), (held, held_labels, _), _ = shop
    names = train.dense_names + train.categorical_names
    train, held = without(train, names), without(held, names)
    logits = make().fit(train, labels, held, held_labels).logits(held)
    assert loss_of(logits, shop[1][2]) < log_loss(np.full(800, logits.mean()), held_labels)


def test_new_items_and_unseen_values_are_unknown_ones():
    table, labels, _ = rows_of_a_shop(600)
    used = (table.item < 20) & (table.categorical[:, 0] != 4)
    model = LogisticRegression().fit(
        table.select(used), labels[used], table.select(used), labels[used]
    )
    new = table.select(slice(0, 40))
    hours = new.categorical.copy()
    hours[:, 0] = 4
    unseen = dataclasses.replace(new, categorical=hours)
    hours = hours.copy()
    hours[:, 0] = 0
    unknown = dataclasses.replace(new, categorical=hours)
    np.testing.assert_array_equal(model.logits(unseen), model.logits(unknown))
    # the catalogue has grown: an item and a word that there were not
    grown = dataclasses.replace(
        new,
        bag_ids=np.concatenate([table.bag_ids, [WORDS + 5, 1]]).astype(np.int32),
        bag_offsets=np.concatenate([table.bag_offsets, [len(table.bag_ids) + 2]]),
    )
    np.testing.assert_array_equal(model.logits(grown), model.logits(new))
    newest = dataclasses.replace(grown, item=np.full(40, N_ITEMS, dtype=np.int32))
    assert np.isfinite(model.logits(newest)).all()
    trees = few_trees().fit(table.select(used), labels[used], table.select(used), labels[used])
    assert np.isfinite(trees.logits(newest)).all()


def test_a_value_that_few_of_many_rows_have_is_learned():
    n, rng = 100_000, np.random.default_rng(0)
    kinds = np.ones((n, 1), dtype=np.int32)
    kinds[:8] = 2
    none, items = np.zeros((n, 0), dtype=np.float32), np.zeros(n, dtype=np.int32)
    words = np.zeros(0, dtype=np.int32), np.zeros(2, dtype=np.int64)
    table = Table(none, (), kinds, ("kind",), (3,), *words, items)
    labels = (rng.random(n) < 0.1).astype(np.int8)
    labels[:8] = 1
    model = LogisticRegression([1.0]).fit(table, labels, table, labels)
    rare, common = model.logits(table.select(slice(7, 9)))
    assert rare - common > 2
    # errors of a kind sum to its weight / C; the free intercept makes the two weights opposite
    assert rare - common == pytest.approx(2 * 8 / (1 + np.exp(rare)), rel=0.05)


def test_a_sparse_row_is_what_it_says():
    dense = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, np.nan], [3.0, 5.0]], dtype=np.float32)
    table = Table(
        dense,
        ("a", "b"),
        np.array([[1], [1], [2], [1]], dtype=np.int32),
        ("c",),
        (4,),
        np.array([0, 1, 1, 2], dtype=np.int32),
        np.array([0, 2, 4, 4]),
        np.array([0, 1, 2, 0], dtype=np.int32),
    )
    encoding = Encoding.of(table)
    rows = encoding.rows(table)
    assert rows.dtype == np.float32 and rows.indices.dtype == np.int32
    edges = len(encoding.edges[0])
    assert rows.shape == (4, 2 + (edges + 2) + 3 + 4 + 3 + 3)  # b: one edge, two bins, missing
    full = rows.toarray()
    np.testing.assert_allclose(full[:, 0], (dense[:, 0] - 1.5) / np.std([0, 1, 2, 3]), rtol=1e-6)
    assert full[:, 1].tolist() == [0, 0, 0, 0]
    bins_of_a, rest = full[:, 2 : 4 + edges], full[:, 4 + edges :]
    assert bins_of_a.sum(axis=1).tolist() == [1, 1, 1, 1]
    assert len(np.unique(bins_of_a.argmax(axis=1))) == 4
    assert rest[:, :3].tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert rest[:, 3:7].argmax(axis=1).tolist() == [1, 1, 2, 1]
    assert rest[:, 7:10].argmax(axis=1).tolist() == [0, 1, 2, 0]
    half = np.sqrt(0.5)
    expected = [[half, half, 0], [0, half, half], [0, 0, 0], [half, half, 0]]
    np.testing.assert_allclose(rest[:, 10:], expected, rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_any_rows_give_finite_logits(seed, n):
    rng = np.random.default_rng(seed)
    dense = rng.choice([np.nan, 0.0, 1.0, -3e38, 3e38, 1e-40], (n, 2)).astype(np.float32)
    table = Table(
        dense,
        ("score", "other"),
        rng.integers(0, 3, (n, 1)).astype(np.int32),
        ("kind",),
        (3,),
        rng.integers(0, 4, 6).astype(np.int32),
        np.array([0, 0, 6]),
        rng.integers(0, 2, n).astype(np.int32),
    )
    labels = rng.integers(0, 2, n)
    for name, make in MAKERS.items():
        logits = make().fit(table, labels, table, labels).logits(table)
        assert np.isfinite(logits).all(), name


def test_choices_are_made_on_the_validation_rows(shop, fitted):
    losses = fitted["logistic"].chosen["validation_log_loss"]
    assert sorted(losses) == [0.01, 0.1, 1.0]
    assert losses[fitted["logistic"].chosen["C"]] == min(losses.values())
    held, held_labels, _ = shop[1]
    assert log_loss(fitted["logistic"].logits(held), held_labels) == pytest.approx(
        min(losses.values()), rel=1e-9
    )
    train, labels, _ = shop[0]
    stump, wild = tree_settings(2, 0.3, 20), tree_settings(127, 1.0, 1)
    model = Trees([wild, stump], rounds=30).fit(train, labels, held, held_labels)
    assert model.chosen["num_leaves"] == 2
    assert model.chosen["validation_log_loss"][1] == pytest.approx(
        log_loss(model.logits(held), held_labels), rel=1e-9
    )
    assert 1 <= model.chosen["trees"] <= 30


def test_an_infinite_number_is_told_with_its_column():
    table, _, _ = rows_of_a_shop(10)
    dense = table.dense.copy()
    dense[4, 1] = -np.inf
    with pytest.raises(DataError, match="size: row 4 is -inf"):
        dataclasses.replace(table, dense=dense)


def test_a_score_alone_reads_its_own_column_only():
    table, labels, _ = rows_of_a_shop(10)
    model = ScoreAlone("score").fit(table, labels, table, labels)
    assert len(model.logits(without(table, ["size", "hour"]))) == 10
    with pytest.raises(ConfigError, match="likes: no such number"):
        ScoreAlone("likes").fit(table, labels, table, labels)


def test_without_lightgbm_the_extra_is_named(shop, monkeypatch):
    (train, labels, _), (held, held_labels, _), _ = shop
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match=r"llmrec\[ctr\]"):
        Trees().fit(train, labels, held, held_labels)
