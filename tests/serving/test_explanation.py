"""What moved an item is the event of another shop whose absence costs it most."""

from types import SimpleNamespace

import numpy as np

from llmrec.serving.explanation import NEWEST, cross_domain_reasons, losses_without
from llmrec.types import Histories

TABLE = SimpleNamespace(
    domains=["food", "food", "kitchen", "kitchen"], titles=["Rice", "Tea", "Pan", "Kettle"]
)


SPEAKS = {(0, 2): 2.0, (1, 3): 3.0, (2, 3): 5.0, (1, 2): -1.0}  # (event, item)


class Pairs:
    """An item is likelier for each event that speaks for it."""

    def score_items(self, histories: Histories, items: np.ndarray) -> np.ndarray:
        rows = [
            [sum(SPEAKS.get((int(event), int(item)), 0.0) for event in events) for item in own]
            for events, own in zip(histories, items, strict=True)
        ]
        return np.array(rows, dtype=np.float32)


def reasons(history: list[int], items: list[int]) -> list[str]:
    return cross_domain_reasons(Pairs(), Histories.from_lists([history]), np.array(items), TABLE)


def test_each_item_names_its_own_mover_of_the_other_shop() -> None:
    found = reasons([0, 1, 2], [2, 3])
    assert found == ["'Rice' of food speaks for it", "'Tea' of food speaks for it"]


def test_nobody_is_named_where_nothing_of_another_shop_helps() -> None:
    assert reasons([1], [2]) == [""], "Tea speaks against a pan"
    assert reasons([2], [3]) == [""], "a pan is of the same shop"
    assert reasons([2, 0], [0]) == [""]


def test_the_newest_events_are_left_out_one_by_one() -> None:
    history = Histories.from_lists([[0] * 3 + [1] * NEWEST])
    losses = losses_without(Pairs(), history, np.array([3, 2]))
    assert losses.shape == (NEWEST, 2)
    np.testing.assert_allclose(losses, np.tile([3.0, -1.0], (NEWEST, 1)))
