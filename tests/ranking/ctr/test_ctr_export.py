"""The networks on ONNX Runtime."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.errors import ArtifactError, LlmrecError
from llmrec.ranking.ctr import export as exporting
from llmrec.ranking.ctr.export import FusedEmbedding, RequestNetwork, export
from llmrec.ranking.ctr.features import ClickFeatures, FeatureNames
from llmrec.ranking.ctr.item_features import COUNTERS, ItemFeatures
from llmrec.ranking.ctr.layers import PiecewiseLinearEmbedding
from llmrec.ranking.ctr.model import TorchNetworks
from llmrec.ranking.ctr.network import ClickNetwork, NetworkShape
from llmrec.ranking.ctr.onnx_networks import REQUEST, OnnxNetworks, open_session
from llmrec.ranking.ctr.settings import NetworkConfig

SMALL = NetworkConfig(id_dim=4, field_dim=4, token_dim=4, fused_dim=4, category_dim=2, bins=4,
                number_dim=2, heads=2, head_dim=4, cross_rank=4, hidden=(16, 8))  # fmt: skip
ITEMS, CANDIDATES, CANDIDATE, REQUEST_SIZE = 9, 6, 5, 3


def some_items(items: int = ITEMS, seed: int = 0) -> ItemFeatures:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 4, items)
    return ItemFeatures(
        fused=rng.standard_normal((items, 3)).astype(np.float32),
        fields=rng.integers(0, 4, (items, 2)).astype(np.int32),
        field_names=("colour", "style"),
        field_sizes=(4, 4),
        token_ids=rng.integers(1, 7, words.sum()).astype(np.int32),
        token_offsets=np.concatenate([[0], np.cumsum(words)]).astype(np.int64),
        token_size=7,
        price=np.ones(items, np.float32),
        available_from=np.zeros(items),
        category=np.zeros(items, np.int32),
        categories=("all",),
        totals=np.zeros((items, len(COUNTERS))),
    )


def a_network(seed: int, **changes: object) -> ClickNetwork:
    shape = NetworkShape(
        ITEMS, (4, 4), 7, 3, CANDIDATE, REQUEST_SIZE, (3, 4), 5, ("click", "purchase"), SMALL
    )
    torch.manual_seed(seed)
    network = ClickNetwork(dataclasses.replace(shape, **changes))  # type: ignore[arg-type]
    edges = torch.tensor([[0.0, 0, 0, 1, 2], [-1, 0, 0, 0, 3], [0, 0, 0, 0, 0],
                          [-2, -1, 0, 1, 2], [5, 5, 6, 7, 7]])  # fmt: skip
    network.candidate.set_bins(edges)
    network.request.set_bins(edges[:REQUEST_SIZE])
    torch.nn.init.normal_(network.position_tower[-1].weight)
    return network.eval()


def some_inputs(requests: int = 3, seed: int = 1, items: int = ITEMS) -> ClickFeatures:
    rng = np.random.default_rng(seed)
    candidate = rng.integers(-2, 8, (requests, CANDIDATES, CANDIDATE)).astype(np.float32)
    candidate[rng.random(candidate.shape) < 0.2] = np.nan
    return ClickFeatures(
        names=FeatureNames((), (), ()),
        items=rng.integers(0, items, (requests, CANDIDATES)).astype(np.int32),
        position=np.full((requests, CANDIDATES), -1, np.int16),
        candidate=candidate,
        request=np.where(rng.random((requests, REQUEST_SIZE)) < 0.3, np.nan, 1.0).astype(
            np.float32
        ),
        categories=rng.integers(0, 3, (requests, 2)).astype(np.int32),
        history_items=rng.integers(-1, items, (requests, 4)).astype(np.int32),
        history_types=rng.integers(-1, 7, (requests, 4)).astype(np.int8),
        history_ages=np.where(rng.random((requests, 4)) < 0.3, np.nan, 2.0).astype(np.float32),
        history_ratings=np.where(rng.random((requests, 4)) < 0.5, np.nan, 4.0).astype(np.float32),
    )


def compare_with_torch(
    networks: list[ClickNetwork], item_features: ItemFeatures, folder: Path, items: int = ITEMS
) -> None:
    onnx, reference = OnnxNetworks(folder), TorchNetworks(networks)
    for one in (onnx, reference):
        one.set_items(item_features)
    inputs = some_inputs(items=items)
    for found, expected in zip(onnx.run(inputs), reference.run(inputs), strict=True):
        assert found.dtype == np.float64 and not np.isnan(found).any()
        np.testing.assert_allclose(found, expected, atol=1e-5)


NETWORKS = [a_network(0), a_network(1)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both networks."""
    folder = tmp_path_factory.mktemp("written")
    export(NETWORKS, some_items(), folder)
    return folder


def test_two_networks_answer_as_torch_does_and_new_items_are_known(written: Path) -> None:
    compare_with_torch(NETWORKS, some_items(), written)
    grown = some_items(ITEMS + 5)
    compare_with_torch(NETWORKS, grown, written, ITEMS + 5)
    about = open_session(written / REQUEST, 1).get_modelmeta().custom_metadata_map
    assert about["copies"] == "2"


def test_a_network_that_reads_no_captions_is_written_too(tmp_path: Path) -> None:
    networks, item_features = [a_network(0, field_sizes=(), token_size=0)], some_items()
    export(networks, item_features, tmp_path)
    compare_with_torch(networks, item_features, tmp_path)


def test_what_is_missing_is_not_zero(written: Path) -> None:
    onnx = OnnxNetworks(written)
    onnx.set_items(some_items())
    inputs = some_inputs(1)
    holes = dataclasses.replace(inputs, candidate=np.full_like(inputs.candidate, np.nan))
    zeros = dataclasses.replace(inputs, candidate=np.zeros_like(inputs.candidate))
    assert np.abs(onnx.run(holes)[0] - onnx.run(zeros)[0]).max() > 0.01


def test_embeddings_are_alike_in_few_operations() -> None:
    rng = np.random.default_rng(3)
    embedding = PiecewiseLinearEmbedding(200, 6, 3)
    edges = np.sort(rng.integers(-3, 4, (200, 7)).astype(np.float32) / 3, axis=1)
    embedding.set_bins(torch.from_numpy(edges))
    values = np.concatenate([edges.T, edges.T - 1e-6, edges.T + 1e-6, rng.normal(size=(50, 200))])
    values = np.where(rng.random(values.shape) < 0.1, np.nan, values).astype(np.float32)
    given = torch.from_numpy(values)
    with torch.no_grad():
        torch.testing.assert_close(
            FusedEmbedding(embedding)(given), embedding(given), atol=2e-6, rtol=0
        )


def test_a_file_that_answers_otherwise_is_refused(written: Path) -> None:
    arguments = exporting._random_request(NETWORKS, 8, np.random.default_rng(0))
    others = [a_network(0), a_network(5)]
    with torch.no_grad():
        exporting._compare(RequestNetwork(NETWORKS), arguments, written / REQUEST)
        with pytest.raises(LlmrecError, match="away from torch"):
            exporting._compare(RequestNetwork(others), arguments, written / REQUEST)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not found"):
        open_session(tmp_path / REQUEST, 1)
    (tmp_path / REQUEST).write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match=r"request\.onnx: cannot be opened"):
        open_session(tmp_path / REQUEST, 1)
