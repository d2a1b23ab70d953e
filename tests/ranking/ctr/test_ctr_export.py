"""The heads on ONNX Runtime."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.errors import ArtifactError, LlmrecError
from llmrec.ranking.ctr import export as exporting
from llmrec.ranking.ctr.export import HeadsOfMoment, QuickNumbers, export
from llmrec.ranking.ctr.features import Inputs, Names
from llmrec.ranking.ctr.model import TorchHeads
from llmrec.ranking.ctr.network import Head, Numbers, Shape
from llmrec.ranking.ctr.onnx_heads import HEAD, OnnxHeads, open_session
from llmrec.ranking.ctr.settings import Network
from llmrec.ranking.ctr.shelf import COUNTS, Shelf

SMALL = Network(id_dim=4, field_dim=4, token_dim=4, fused_dim=4, category_dim=2, bins=4,
                number_dim=2, heads=2, head_dim=4, cross_rank=4, hidden=(16, 8))  # fmt: skip
ITEMS, PLACES, PAIR, WHOLE = 9, 6, 5, 3


def a_shelf(items: int = ITEMS, seed: int = 0) -> Shelf:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 4, items)
    return Shelf(
        fused=rng.standard_normal((items, 3)).astype(np.float32),
        fields=rng.integers(0, 4, (items, 2)).astype(np.int32),
        field_names=("colour", "style"),
        field_sizes=(4, 4),
        token_ids=rng.integers(1, 7, words.sum()).astype(np.int32),
        token_offsets=np.concatenate([[0], np.cumsum(words)]).astype(np.int64),
        token_size=7,
        price=np.ones(items, np.float32),
        arrived=np.zeros(items),
        category=np.zeros(items, np.int32),
        categories=("all",),
        totals=np.zeros((items, len(COUNTS))),
    )


def a_head(seed: int, **changes: object) -> Head:
    shape = Shape(ITEMS, (4, 4), 7, 3, PAIR, WHOLE, (3, 4), 5, ("click", "purchase"), SMALL)
    torch.manual_seed(seed)
    head = Head(dataclasses.replace(shape, **changes))  # type: ignore[arg-type]
    limits = torch.tensor([[0.0, 0, 0, 1, 2], [-1, 0, 0, 0, 3], [0, 0, 0, 0, 0], [-2, -1, 0, 1, 2],
                           [5, 5, 6, 7, 7]])  # fmt: skip
    head.pair.set_bins(limits)
    head.whole.set_bins(limits[:WHOLE])
    torch.nn.init.normal_(head.place_of_moment[-1].weight)
    return head.eval()


def some_inputs(moments: int = 3, seed: int = 1, items: int = ITEMS) -> Inputs:
    rng = np.random.default_rng(seed)
    pair = rng.integers(-2, 8, (moments, PLACES, PAIR)).astype(np.float32)
    pair[rng.random(pair.shape) < 0.2] = np.nan
    return Inputs(
        names=Names((), (), ()),
        items=rng.integers(0, items, (moments, PLACES)).astype(np.int32),
        position=np.full((moments, PLACES), -1, np.int16),
        pair=pair,
        whole=np.where(rng.random((moments, WHOLE)) < 0.3, np.nan, 1.0).astype(np.float32),
        categories=rng.integers(0, 3, (moments, 2)).astype(np.int32),
        past_items=rng.integers(-1, items, (moments, 4)).astype(np.int32),
        past_kinds=rng.integers(-1, 7, (moments, 4)).astype(np.int8),
        past_ages=np.where(rng.random((moments, 4)) < 0.3, np.nan, 2.0).astype(np.float32),
        past_ratings=np.where(rng.random((moments, 4)) < 0.5, np.nan, 4.0).astype(np.float32),
    )


def hold_against_torch(heads: list[Head], shelf: Shelf, folder: Path, items: int = ITEMS) -> None:
    onnx, reference = OnnxHeads(folder), TorchHeads(heads)
    for one in (onnx, reference):
        one.set_shelf(shelf)
    inputs = some_inputs(items=items)
    for found, expected in zip(onnx.run(inputs), reference.run(inputs), strict=True):
        assert found.dtype == np.float64 and not np.isnan(found).any()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_heads_answer_as_torch_does_and_new_items_are_known(tmp_path: Path) -> None:
    heads, shelf = [a_head(0), a_head(1)], a_shelf()
    export(heads, shelf, tmp_path)
    hold_against_torch(heads, shelf, tmp_path)
    grown = a_shelf(ITEMS + 5)
    hold_against_torch(heads, grown, tmp_path, ITEMS + 5)
    about = open_session(tmp_path / HEAD, 1).get_modelmeta().custom_metadata_map
    assert about["copies"] == "2"


def test_a_head_that_reads_no_captions_is_written_too(tmp_path: Path) -> None:
    heads, shelf = [a_head(0, field_sizes=(), token_size=0)], a_shelf()
    export(heads, shelf, tmp_path)
    hold_against_torch(heads, shelf, tmp_path)


def test_what_is_missing_is_not_zero(tmp_path: Path) -> None:
    heads, shelf = [a_head(0)], a_shelf()
    export(heads, shelf, tmp_path)
    onnx = OnnxHeads(tmp_path)
    onnx.set_shelf(shelf)
    inputs = some_inputs(1)
    holes = dataclasses.replace(inputs, pair=np.full_like(inputs.pair, np.nan))
    zeros = dataclasses.replace(inputs, pair=np.zeros_like(inputs.pair))
    assert np.abs(onnx.run(holes)[0] - onnx.run(zeros)[0]).max() > 0.01


def test_numbers_are_read_alike_in_few_operations() -> None:
    rng = np.random.default_rng(3)
    numbers = Numbers(200, 6, 3)
    limits = np.sort(rng.integers(-3, 4, (200, 7)).astype(np.float32) / 3, axis=1)
    numbers.set_bins(torch.from_numpy(limits))
    values = np.concatenate(
        [limits.T, limits.T - 1e-6, limits.T + 1e-6, rng.normal(size=(50, 200))]
    )
    values = np.where(rng.random(values.shape) < 0.1, np.nan, values).astype(np.float32)
    given = torch.from_numpy(values)
    with torch.no_grad():
        torch.testing.assert_close(QuickNumbers(numbers)(given), numbers(given), atol=2e-6, rtol=0)


def test_a_file_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    heads, shelf = [a_head(0)], a_shelf()
    export(heads, shelf, tmp_path)
    arguments = exporting._moment(heads, 8, np.random.default_rng(0))
    with torch.no_grad():
        exporting._compare(HeadsOfMoment(heads), arguments, tmp_path / HEAD)
        with pytest.raises(LlmrecError, match="away from torch"):
            exporting._compare(HeadsOfMoment([a_head(5)]), arguments, tmp_path / HEAD)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not found"):
        open_session(tmp_path / HEAD, 1)
    (tmp_path / HEAD).write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match=r"head\.onnx: cannot be opened"):
        open_session(tmp_path / HEAD, 1)
