"""The moving average of weights, worked out by hand."""

import torch

from llmrec.loop.average import average_weights


def follow(values: list[float], decay: float) -> list[float]:
    """The average after each update of a model of one weight."""
    model = torch.nn.Linear(1, 1, bias=False)
    average = average_weights(model, decay)
    found = []
    for value in values:
        torch.nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        found.append(average.module.weight.item())
    return found


def test_the_first_update_copies_and_the_next_ones_forget_the_start_fast() -> None:
    first, second, third = follow([8.0, 20.0, 0.0], decay=0.999)
    assert first == 8.0
    assert second == torch.tensor(8.0 * 0.25 + 20.0 * 0.75).item()  # (1 + 2) / (10 + 2)
    assert abs(third - 17.0 * 4 / 13) < 1e-6  # (1 + 3) / (10 + 3)


def test_the_decay_is_never_above_the_one_asked_for() -> None:
    assert follow([0.0, *[16.0] * 3], decay=0.125) == [0.0, 14.0, 15.75, 15.96875]


def test_what_a_checkpoint_restores_goes_on_with_the_same_decay() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    averages = [average_weights(model, 0.9) for _ in range(2)]
    for value in (1.0, 5.0, -3.0):
        torch.nn.init.constant_(model.weight, value)
        averages[0].update_parameters(model)
    averages[1].load_state_dict(averages[0].state_dict())
    torch.nn.init.constant_(model.weight, 9.0)
    for average in averages:
        average.update_parameters(model)
    assert torch.equal(averages[0].module.weight, averages[1].module.weight)
