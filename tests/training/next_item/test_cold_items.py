"""Items without a training event stay out of the softmax, and content alone makes their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_histories, tiny_config, write_dataset, write_item_ids

from llmrec.data.dataset import Dataset
from llmrec.item_ids.item_ids import ItemIds
from llmrec.training.next_item import llm_run
from llmrec.training.next_item.loop import NextItemTrainer
from llmrec.training.next_item.setup import TrainingSetup
from llmrec.training.next_item.validation import validation_cases

N, COLD = 40, 3  # the last items are those that training never meets


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingSetup:
    histories = [
        [*row, N - 1 - user % COLD] for user, row in enumerate(make_histories(60, N - COLD))
    ]
    dataset = Dataset(write_dataset(tmp_path / "dataset", histories, N))
    ids = write_item_ids(tmp_path / "ids", ItemIds.atomic(N, spare=2))
    content = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(llm_run, "token_content", lambda *_: content)
    torch.manual_seed(0)
    config = tiny_config({"epochs": 2}, content={"text": 6}, content_dropout=0.0)
    cases = validation_cases(dataset, 10, 0)
    made = llm_run.prepare(config, dataset, ids, None, cases, 0)
    loop, work = config.loop, tmp_path / "work"
    NextItemTrainer(
        made.model, made.batches, made.validate, loop, work, predicted=made.predicted
    ).run()
    return made


def test_they_are_no_negatives_and_their_rows_are_content(trained: TrainingSetup) -> None:
    assert trained.predicted is not None
    assert trained.predicted[0].tolist() == list(range(N - COLD))
    rows = trained.model.item_rows
    assert (rows.residual[N - COLD :] == 0).all()  # neither at the start nor by any step
    assert (rows.residual[: N - COLD] != 0).any(dim=1).all()
    with torch.no_grad():
        expected = rows.projection(rows.content)[N - COLD : N]
        torch.testing.assert_close(rows()[N - COLD : N], expected)
    assert np.linalg.norm(expected.numpy(), axis=1).min() > 0


def test_the_loss_is_that_of_the_known_items_alone(trained: TrainingSetup) -> None:
    """Whatever a cold item's row is, a step comes out the same."""
    model = trained.model.eval()
    batch = next(iter(trained.batches.epoch(0)))
    states = model.hidden(batch.tokens).flatten(0, 1)[batch.positions[0]]
    known = model.heads()[0][: N - COLD]
    expected = torch.nn.functional.cross_entropy(states @ known.T, batch.codes[0]).item()
    config = tiny_config({"learning_rate": 1e-12, "average_decay": 0.0}).loop
    values = []
    for shift in (0.0, 5.0):
        with torch.no_grad():
            model.item_rows.residual[N - COLD :] += shift
        trainer = NextItemTrainer(
            model, trained.batches, trained.validate, config, Path("unused"),
            predicted=trained.predicted,
        )  # fmt: skip
        trainer.schedule = lambda _step: 0.0
        model.eval()
        values.append(trainer._step(batch)[0])
        model.forget_rows()
    assert values == pytest.approx([expected, expected], rel=1e-4)
