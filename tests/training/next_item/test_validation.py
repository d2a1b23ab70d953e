"""What decides when training stops and which weights are kept: validation, of averaged weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import Folders, tiny_config, write_dataset

from llmrec.data.dataset import Dataset
from llmrec.training.next_item import sasrec
from llmrec.training.next_item.llm_run import prepare
from llmrec.training.next_item.loop import NextItemTrainer
from llmrec.training.next_item.next_item import NextItemModel
from llmrec.training.next_item.run import run
from llmrec.training.next_item.validation import validation_cases
from llmrec.types import Cases

# The last event of a history is its test event, the one before it the validation event.
HISTORIES = [[0, 1, 2, 3, 10], [4, 5, 6, 11], [7, 8, 9, 0, 12]]
VALIDATION = [([0, 1, 2], 3), ([4, 5], 6), ([7, 8, 9], 0)]


def listed(cases: Cases) -> list[tuple[list[int], int]]:
    """Histories and targets of some cases."""
    targets = cases.targets.tolist()
    return [(cases.histories[n].tolist(), target) for n, target in enumerate(targets)]


def test_validation_cases_are_those_of_the_validation_split(tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path / "d", HISTORIES, 40))
    assert listed(validation_cases(dataset, 0, seed=0)) == VALIDATION
    assert len(validation_cases(dataset, 2, seed=0)) == 2
    for case in listed(validation_cases(dataset, 2, seed=0)):
        assert case in VALIDATION


def test_the_best_epoch_is_the_one_that_validates_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test cases would have chosen another epoch: they get better for as long as one looks."""
    validation, test = [0.1, 0.3, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]
    dataset = write_dataset(tmp_path / "d", HISTORIES, 40)
    measured: list[Cases] = []

    def metrics(recommender: Any, cases: Cases) -> dict[str, float]:
        scores = validation if listed(cases) == VALIDATION else test
        measured.append(cases)
        return {"ndcg@10": scores[len(measured) - 1], "recall@10": 0.0}

    monkeypatch.setattr(sasrec, "validation_metrics", metrics)
    config = tiny_config({"epochs": 10, "patience": 2}, kind="sasrec", validation_users=0)
    out = run(config, dataset, tmp_path / "model")
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert (counts["best_epoch"], counts["epochs"]) == (2, 4)
    assert counts["best_validation_ndcg"] == 0.3


def moving_averages(steps: list[dict[str, torch.Tensor]], decay: float) -> list[Any]:
    """The average after every step of a run, from its weights after every step."""
    averages = [steps[0]]
    for number, weights in enumerate(steps[1:], start=2):
        kept = min(decay, (1 + number) / (10 + number))
        averages.append({n: torch.lerp(v, weights[n], 1 - kept) for n, v in averages[-1].items()})
    return averages


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_averaged_weights_are_validated_and_kept(
    folders: Folders, tmp_path: Path, decay: float
) -> None:
    """Weights are recorded after each step; averaged anew, they must be what was validated."""
    config = tiny_config({"epochs": 3, "patience": 3, "average_decay": decay})
    torch.manual_seed(0)
    dataset = Dataset(folders.dataset)
    made = prepare(config, dataset, folders.atomic, None, validation_cases(dataset, 20, 0), 0)
    scores = iter([0.1, 0.3, 0.2])
    steps: list[dict[str, torch.Tensor]] = []
    validated: list[tuple[int, dict[str, torch.Tensor]]] = []

    def validate(model: NextItemModel) -> dict[str, float]:
        assert not model.training
        validated.append((len(steps), weights_of(model)))
        return {"ndcg@10": next(scores)}

    trainer = NextItemTrainer(made.model, made.batches, validate, config.loop, tmp_path / "work")
    trainer.optimizer.optimizer.register_step_post_hook(
        lambda *_: steps.append(weights_of(trainer.plain_model))
    )
    trainer.run()
    averages = moving_averages(steps, decay) if decay else steps
    assert len(validated) == 3 and validated[-1][0] == len(steps)
    for count, weights in validated:
        assert equal(weights, averages[count - 1])
        assert equal(weights, steps[count - 1]) == (decay == 0.0)
    assert equal(weights_of(trainer.plain_model), validated[1][1]), "the best is kept"
