"""Early stopping, best weights, and what a checkpoint restores."""

import dataclasses
from pathlib import Path

import torch

from llmrec.loop.checkpoint import load_best, load_checkpoint, save_best, save_checkpoint
from llmrec.loop.state import TrainingState


def test_patience_counts_validations_since_the_best() -> None:
    state = TrainingState()
    assert not state.out_of_patience(1), "nothing was validated yet"
    stops = []
    for epoch, score in enumerate([0.1, 0.3, 0.3, 0.2, 0.4], start=1):
        state.epoch = epoch
        state.improve(score)
        stops.append(state.out_of_patience(2))
    assert stops == [False, False, False, True, False]  # an equal score is no better one
    assert (state.best_score, state.best_epoch) == (0.4, 5)


def test_patience_where_not_every_epoch_is_validated() -> None:
    state = TrainingState(epoch=3, best_score=0.5, best_epoch=3)
    stops = []
    for epoch in range(4, 11):
        state.epoch = epoch
        stops.append(state.out_of_patience(2, every=3))
    assert stops == [False] * 5 + [True] * 2


def test_a_score_that_is_no_number_is_never_the_best() -> None:
    state = TrainingState(epoch=1)
    assert not state.improve(float("nan")) and state.improve(-1.0)


def test_the_best_weights_come_back(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    assert not load_best(tmp_path, model)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    save_best(tmp_path, model)
    torch.nn.init.zeros_(model.weight)
    assert load_best(tmp_path, model)
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


@dataclasses.dataclass
class State(TrainingState):
    skipped: int = 0


def test_a_checkpoint_restores_model_optimizer_state_and_randomness(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Module, torch.optim.AdamW, State]:
        model = torch.nn.ModuleDict({"model": torch.nn.Linear(2, 1), "best": torch.nn.Linear(2, 1)})
        return model, torch.optim.AdamW(model.parameters(), lr=0.1), State()

    model, optimizer, state = make()
    assert not load_checkpoint(tmp_path, model, optimizer, state)
    for step in (1, 2):
        model["model"](torch.ones(1, 2)).sum().backward()
        optimizer.step()
        state.step, state.skipped = step, 7
        state.log.append({"step": step})
        save_checkpoint(tmp_path, model, optimizer, state)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1, "the checkpoint before is gone"
    drawn = torch.rand(3)
    other, moments, restored = make()
    assert load_checkpoint(tmp_path, other, moments, restored)
    assert restored == state and torch.equal(torch.rand(3), drawn)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    first = optimizer.state_dict()["state"]
    for index, values in moments.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(value, first[index][name])
