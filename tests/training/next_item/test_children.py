"""Trained over the codes that make an item, an ID's loss is its item's among all items."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import Folders, random_semantic_ids, semantic_ids, tiny_config

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.training.next_item import llm_run
from llmrec.training.next_item.children import ChildrenCrossEntropy
from llmrec.training.next_item.loop import NextItemTrainer
from llmrec.training.next_item.validation import validation_cases

WIDTH = 6


def probabilities(ids: ItemIds, items: np.ndarray, seed: int) -> torch.Tensor:
    """Of each item by the loss, where a code's logit depends on the codes before it."""
    generator = torch.Generator().manual_seed(seed)
    tables = [torch.randn(size, WIDTH, generator=generator) for size in ids.level_sizes]
    codes = [torch.from_numpy(column.astype(np.int64)) for column in ids.codes[items].T]
    total = torch.zeros(len(items))
    loss = ChildrenCrossEntropy(ids, items)
    hidden = torch.randn(1, WIDTH, generator=generator).expand(len(items), -1)
    used = codes[0].unique()
    total += (hidden[0] @ tables[0][used].T).log_softmax(0)[torch.searchsorted(used, codes[0])]
    for level in range(1, ids.levels):
        hidden = torch.sin(hidden + tables[level - 1][codes[level - 1]])
        for row in range(len(items)):
            one = [column[row : row + 1] for column in codes]
            total[row] -= loss(hidden[row : row + 1], tables[level], one, level)
    return total.exp()


@pytest.mark.parametrize("left_out", [0, 4])
@pytest.mark.parametrize("sizes", [(5, 6), (3, 4, 5), (2, 20)])
def test_the_probabilities_of_all_items_add_up_to_one(
    sizes: tuple[int, ...], left_out: int
) -> None:
    ids = random_semantic_ids(24, sizes)
    found = probabilities(ids, np.arange(left_out, 24), seed=sum(sizes))
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert found.std() > 1e-3


def test_a_batch_has_the_mean_of_its_targets_and_their_gradients() -> None:
    """A code without alternative costs nothing, and no row but those of siblings is moved."""
    ids = semantic_ids([[0, 1], [0, 3], [1, 2], [0, 0]], (2, 5))
    loss = ChildrenCrossEntropy(ids, np.arange(3))  # item 3 takes no part
    hidden = torch.randn(3, WIDTH, requires_grad=True)
    table = torch.randn(5, WIDTH, requires_grad=True)
    found = loss(hidden, table, [torch.tensor([0, 1, 0]), torch.tensor([3, 2, 1])], 1)
    logits = hidden.detach() @ table.detach()[[1, 3]].T
    expected = -(logits[0].log_softmax(0)[1] + logits[2].log_softmax(0)[0]) / 3
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    assert table.grad is not None and hidden.grad is not None
    assert table.grad.any(dim=1).tolist() == [False, True, False, True, False]
    assert hidden.grad.any(dim=1).tolist() == [True, False, True]


def test_a_training_learns_so(folders: Folders, tmp_path: Path) -> None:
    """The setting reaches the loop: the first loss is that of guessing items, not codes."""
    dataset, ids = Dataset(folders.dataset), ItemIds.load(folders.semantic)
    values = {}
    for normalise in ("level", "children"):
        torch.manual_seed(0)
        config = tiny_config({"learning_rate": 1e-9, "epochs": 1}, normalise=normalise)
        cases = validation_cases(dataset, 5, 0)
        made = llm_run.prepare(config, dataset, folders.semantic, None, cases, 0)
        trainer = NextItemTrainer(
            made.model, made.batches, made.validate, config.loop, tmp_path / normalise,
            predicted=made.predicted, later_levels=made.later_levels,
        )  # fmt: skip
        values[normalise] = trainer.run().log[0]["loss"]
    with pytest.raises(ConfigError, match=r"train.loop.label_smoothing: .*; set 0, or normalise"):
        tiny_config({"label_smoothing": 0.1}, normalise="children")
    events = dataset.train_histories().items
    used = [len(np.unique(column)) for column in ids.codes.T]
    siblings = np.bincount(ids.codes[:, 0])[ids.codes[events, 0]]
    assert values["level"] == pytest.approx(np.log(used).sum(), abs=0.1)
    assert values["children"] == pytest.approx(np.log(used[0] * siblings).mean(), abs=0.1)
    assert values["children"] < values["level"] - 0.2
