"""The network and its training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from test_ctr_features import make_items

from llmrec.errors import ArtifactError, DataError
from llmrec.ranking.ctr.bins import quantile_edges
from llmrec.ranking.ctr.features import ClickFeatures, FeatureNames
from llmrec.ranking.ctr.fit import ItemTensors, forward, predict, train_networks
from llmrec.ranking.ctr.layers import PiecewiseLinearEmbedding
from llmrec.ranking.ctr.loss import Targets
from llmrec.ranking.ctr.network import ClickNetwork, NetworkShape
from llmrec.ranking.ctr.settings import FitConfig, NetworkConfig

SMALL = NetworkConfig(id_dim=4, field_dim=4, token_dim=4, fused_dim=4, category_dim=2, bins=4,
                number_dim=2, heads=2, head_dim=4, cross_rank=4, hidden=(16, 8))  # fmt: skip
FAST = FitConfig(epochs=3, rows=64, learning_rate=5e-3, average=0.9)


def make_inputs(n: int = 200, seed: int = 0, positions: int = 4) -> ClickFeatures:
    """Requests whose first feature decides the click, some values missing."""
    rng = np.random.default_rng(seed)
    candidate = rng.normal(size=(n, positions, 3)).astype(np.float32)
    candidate[rng.random(candidate.shape) < 0.1] = np.nan
    candidate[..., 2] = 1.0  # never varies
    items = rng.integers(4, size=(n, positions)).astype(np.int32)
    items[rng.random(items.shape) < 0.05] = -1
    return ClickFeatures(
        names=FeatureNames(
            (("a", "feedback"), ("b", "feedback"), ("c", "feedback")), (("w", "time"),),
            (("device", "context", 3),),
        ),
        items=items,
        position=np.where(items >= 0, np.arange(positions), -1).astype(np.int16),
        candidate=candidate,
        request=rng.normal(size=(n, 1)).astype(np.float32),
        categories=rng.integers(3, size=(n, 1)).astype(np.int32),
        history_items=rng.integers(-1, 4, size=(n, 2)).astype(np.int32),
        history_types=rng.integers(-1, 3, size=(n, 2)).astype(np.int8),
        history_ages=np.where(
            rng.random((n, 2)) < 0.2, np.nan, rng.random((n, 2))
        ).astype(np.float32),
        history_ratings=np.full((n, 2), np.nan, np.float32),
    )  # fmt: skip


def make_targets(inputs: ClickFeatures, seed: int = 1) -> Targets:
    rng = np.random.default_rng(seed)
    logit = 2.5 * np.nan_to_num(inputs.candidate[..., 0]) - 0.5 * inputs.position - 0.5
    click = (rng.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    click[inputs.items < 0] = np.nan
    purchase = np.where(click == 1, (rng.random(click.shape) < 0.3), np.nan).astype(np.float32)
    rating = np.where(click == 1, np.clip(np.round(3.5 + logit), 1, 5), np.nan).astype(np.float32)
    return Targets(click, purchase, rating, np.zeros_like(click))


def shape(**changes: object) -> NetworkShape:
    found = NetworkShape(4, (4,), 5, 2, 3, 1, (3,), 4, ("click", "purchase", "rating"), SMALL)
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def loss(logits: np.ndarray, click: np.ndarray) -> float:
    known = ~np.isnan(click)
    x = logits[known]
    return float(np.mean(np.logaddexp(0, x) - click[known] * x))


@pytest.fixture(scope="module")
def trained() -> tuple[list[ClickNetwork], ClickFeatures, Targets]:
    inputs, later = make_inputs(600), make_inputs(200, 5)
    networks, _ = train_networks(
        inputs, make_targets(inputs), (later, make_targets(later, 6)), make_items(), SMALL, FAST, 0,
        quiet=True,
    )  # fmt: skip
    return networks, later, make_targets(later, 6)


def test_a_network_learns_what_decides(
    trained: tuple[list[ClickNetwork], ClickFeatures, Targets],
) -> None:
    networks, later, targets = trained
    logits = predict(networks, make_items(), later)
    rate = np.nanmean(targets.click)
    base = loss(np.full(later.items.shape, np.log(rate / (1 - rate))), targets.click)
    assert loss(logits[..., 0], targets.click) < 0.85 * base
    assert np.isfinite(logits).all()


def test_ratings_are_learned_beside_clicks(
    trained: tuple[list[ClickNetwork], ClickFeatures, Targets],
) -> None:
    networks, later, targets = trained
    predicted = predict(networks, make_items(), later)[..., 2]
    known = ~np.isnan(targets.rating)
    assert np.corrcoef(predicted[known], targets.rating[known])[0, 1] > 0.3


def test_the_same_seed_gives_the_same_network() -> None:
    inputs = make_inputs(100)
    targets = make_targets(inputs)
    args = (
        inputs,
        targets,
        (inputs, targets),
        make_items(),
        SMALL,
        FitConfig(epochs=1, rows=64),
        3,
    )
    one, two = (train_networks(*args, quiet=True)[0][0] for _ in range(2))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[name], rtol=0, atol=0)


def test_a_step_moves_every_weight_that_can_matter() -> None:
    inputs = make_inputs(100)
    targets = make_targets(inputs)
    torch.manual_seed(0)
    before = {name: p.clone() for name, p in ClickNetwork(shape()).named_parameters()}
    networks, _ = train_networks(
        inputs, targets, (inputs, targets), make_items(), SMALL,
        FitConfig(epochs=1, rows=64, average=0.0), 0, quiet=True,
    )  # fmt: skip
    still = [n for n, p in networks[0].named_parameters() if torch.equal(p, before[n])]
    assert still == []


def test_position_bias_changes_the_click_alone_and_never_an_order(
    trained: tuple[list[ClickNetwork], ClickFeatures, Targets],
) -> None:
    networks, later, _ = trained
    top = dataclasses.replace(later, position=np.zeros_like(later.position))
    low = dataclasses.replace(later, position=np.full_like(later.position, 3))
    high, below = (predict(networks, make_items(), one) for one in (top, low))
    np.testing.assert_allclose(high[..., 1:], below[..., 1:], atol=1e-5)
    apart = high[..., 0] - below[..., 0]
    np.testing.assert_allclose(apart, apart[:, :1].repeat(apart.shape[1], 1), atol=1e-4)
    assert apart.mean() > 0.3  # what was further down was clicked less


def test_what_is_padded_and_who_else_is_there_changes_nothing(
    trained: tuple[list[ClickNetwork], ClickFeatures, Targets],
) -> None:
    networks, later, _ = trained
    request = predict(networks, make_items(), later)
    alone = predict(networks, make_items(), later.select(np.array([7])))
    np.testing.assert_allclose(request[7], alone[0], atol=1e-5)


def test_a_feature_that_was_always_missing_stays_missing() -> None:
    """A model's score that no row of the training part has must not shake those that do."""
    inputs = make_inputs(100)
    inputs.candidate[..., 1] = np.nan
    targets = make_targets(inputs)
    networks, _ = train_networks(
        inputs, targets, (inputs, targets), make_items(), SMALL, FitConfig(epochs=1, rows=64), 0,
        quiet=True,
    )  # fmt: skip
    before = predict(networks, make_items(), inputs)
    inputs.candidate[..., 1] = 7.0
    np.testing.assert_array_equal(before, predict(networks, make_items(), inputs))


def test_labels_that_are_all_positive_give_probabilities_below_one() -> None:
    inputs = make_inputs(100)
    targets = make_targets(inputs)
    ones = dataclasses.replace(
        targets, click=np.where(np.isnan(targets.click), np.nan, 1.0).astype(np.float32)
    )
    networks, _ = train_networks(
        inputs,
        ones,
        (inputs, ones),
        make_items(),
        SMALL,
        FitConfig(epochs=1, rows=64),
        0,
        quiet=True,
    )
    logits = predict(networks, make_items(), inputs)
    assert np.isfinite(logits).all()
    assert (1 / (1 + np.exp(-logits[..., 0])) < 1).all()


def test_an_infinite_number_is_named() -> None:
    inputs = make_inputs(20)
    inputs.candidate[3, 1, 1] = np.inf
    targets = make_targets(inputs)
    with pytest.raises(DataError, match="the number 'b' is infinite"):
        train_networks(inputs, targets, (inputs, targets), make_items(), SMALL, FAST, 0)


def test_several_networks_are_averaged() -> None:
    inputs = make_inputs(100)
    targets = make_targets(inputs)
    two = dataclasses.replace(SMALL, copies=2)
    networks, _ = train_networks(
        inputs,
        targets,
        (inputs, targets),
        make_items(),
        two,
        FitConfig(epochs=1, rows=64),
        0,
        quiet=True,
    )
    each = [predict([network], make_items(), inputs) for network in networks]
    np.testing.assert_allclose(predict(networks, make_items(), inputs), sum(each) / 2, atol=1e-6)
    assert not np.allclose(each[0], each[1])


def test_a_network_is_read_back_as_it_was(tmp_path: Path) -> None:
    network = ClickNetwork(shape()).eval()
    network.save(tmp_path / "network.safetensors")
    again = ClickNetwork.load(tmp_path / "network.safetensors")
    inputs = make_inputs(10)
    one, two = (forward(h, ItemTensors(make_items(), shape()), inputs) for h in (network, again))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    (tmp_path / "network.safetensors").write_bytes(b"no")
    with pytest.raises(ArtifactError, match="not a ctr"):
        ClickNetwork.load(tmp_path / "network.safetensors")


def test_a_network_may_read_no_captions() -> None:
    bare = shape(field_sizes=(), token_size=0)
    network = ClickNetwork(bare).eval()
    found = forward(network, ItemTensors(make_items(), bare), make_inputs(10))
    assert found.shape == (10, 4, 3)
    assert not [
        name for name, _ in network.named_parameters() if name.startswith(("words", "fields"))
    ]


def test_an_item_without_an_id_is_known_by_its_content() -> None:
    """A catalogue that has grown: new items share the ID that stands for unknown ones."""
    network = ClickNetwork(shape(n_items=4)).eval()
    grown = ItemTensors(make_items(6), shape(n_items=4))
    assert grown.ids.tolist() == [1, 2, 3, 4, 0, 0]
    assert torch.isfinite(grown.vectors(network, torch.arange(6))).all()


def test_bins_fill_from_below() -> None:
    read = PiecewiseLinearEmbedding(1, 2, 1)
    read.set_bins(torch.tensor([[0.0, 1.0, 3.0]]))
    with torch.no_grad():
        read.weight.copy_(torch.tensor([[[1.0], [10.0]]]))
        read.bias.zero_()
        read.missing.fill_(-7.0)
    values = torch.tensor([[-1.0], [0.5], [2.0], [9.0], [float("nan")]])
    assert read(values).flatten().tolist() == [0.0, 0.5, 6.0, 11.0, -7.0]


def test_a_value_that_most_rows_share_takes_one_edge() -> None:
    values = np.concatenate([np.zeros(90), np.arange(1, 11)]).astype(np.float32)[:, None]
    edges = quantile_edges(values, 5)[0]
    assert edges[0] == 0 and edges[-1] == 10
    assert len(np.unique(edges)) == 6
