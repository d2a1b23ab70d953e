"""A share of the users: what models are trained on to see what they make of little data."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_histories, write_dataset

from llmrec.data.dataset import Dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(write_dataset(tmp_path / "shop", make_histories(60, 30), 30))


def test_the_histories_of_a_share_are_whole_and_those_of_others_empty(dataset: Dataset) -> None:
    drawn = dataset.is_drawn(0.25)
    assert drawn.sum() == 15
    part, whole = dataset.train_histories(user_share=0.25), dataset.train_histories()
    assert len(part) == len(whole) == 60
    for user in range(60):
        assert part[user].tolist() == (whole[user].tolist() if drawn[user] else [])


def test_a_smaller_share_is_a_part_of_a_larger_one(dataset: Dataset) -> None:
    small, large = dataset.is_drawn(0.1), dataset.is_drawn(0.5)
    assert (small <= large).all() and small.sum() == 6 and large.sum() == 30
    assert dataset.is_drawn(1.0).all()
    assert dataset.is_drawn(1e-9).sum() == 1
    assert not np.array_equal(large, np.arange(60) < 30), "drawn, not the first"


def test_it_is_a_share_of_users_for_validation_events_too(dataset: Dataset) -> None:
    both = dataset.train_histories(validation=True, user_share=0.25)
    train = dataset.train_histories(user_share=0.25)
    assert len(both.items) == len(train.items) + 15
