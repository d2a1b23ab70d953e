"""A mixture is decided by its weights and seed, and gives every row its turn."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_expanded import same

from llmrec.errors import ConfigError
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.mixture import IGNORED, TASKS, Mixture

ALL = {name: 1.0 for name in TASKS}


def drawn(mixture: Mixture, epoch: int) -> list[tuple[int, int]]:
    tasks, rows = mixture.plan(epoch)
    return list(zip(tasks.tolist(), rows.tolist(), strict=True))


def test_the_same_seed_gives_the_same_examples(corpus: TaskCorpus) -> None:
    one, other = Mixture(corpus, ALL, 3, 256), Mixture(corpus, ALL, 3, 256)
    assert drawn(one, 1) == drawn(other, 1)
    for draw, (task, row) in enumerate(drawn(one, 1)[:50]):
        assert same(one.example(task, row, draw), other.example(task, row, draw))
    assert drawn(one, 1) != drawn(one, 2)
    assert drawn(one, 1) != drawn(Mixture(corpus, ALL, 4, 256), 1)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.dictionaries(st.sampled_from(list(TASKS)), st.floats(0.0625, 4), min_size=1))
def test_shares_follow_the_weights(corpus: TaskCorpus, weights: dict[str, float]) -> None:
    mixture = Mixture(corpus, weights, 0, 256)
    tasks, rows = mixture.plan(0)
    assert len(tasks) == len(rows) == len(mixture)
    counts = dict(zip(mixture.names, np.bincount(tasks), strict=True))
    main = max(mixture.names, key=lambda name: weights[name])
    assert counts[main] == len(TASKS[main].rows(corpus, main)), "an epoch passes over them once"
    for name in mixture.names:
        exact = counts[main] * weights[name] / weights[main]
        assert abs(counts[name] - max(1, exact)) <= 0.5 + 1e-6


def test_every_row_has_its_turn_before_any_comes_again(corpus: TaskCorpus) -> None:
    mixture = Mixture(corpus, {"next_item": 1.0, "item_to_text": 0.07}, 0, 256)
    other = mixture.names.index("item_to_text")
    per_epoch = mixture.counts[other]
    assert 40 % per_epoch and per_epoch < 40, "epochs must not fit the 40 items, to show a thing"
    epochs = [
        [row for task, row in drawn(mixture, epoch) if task == other]
        for epoch in range(40 // per_epoch)
    ]
    whole = [row for rows in epochs for row in rows]
    assert len(set(whole)) == len(whole) == 40 - 40 % per_epoch
    assert whole != sorted(whole)


def test_a_weight_of_nothing_leaves_a_task_out(corpus: TaskCorpus) -> None:
    mixture = Mixture(corpus, {"next_item": 1.0, "search": 0.0}, 0, 256)
    assert mixture.names == ["next_item"]
    with pytest.raises(ConfigError, match="tasks: trains nothing"):
        Mixture(corpus, {"search": 0.0}, 0, 256)


def test_the_dataset_is_written_when_it_is_read(corpus: TaskCorpus) -> None:
    mixture = Mixture(corpus, ALL, 0, 256)
    count = len(mixture) + 7  # into the second epoch
    dataset = mixture.dataset(count)
    assert len(dataset) == count
    plan = drawn(mixture, 0) + drawn(mixture, 1)
    for number in (0, 5, len(mixture) - 1, len(mixture), count - 1):
        example = mixture.example(*plan[number], number)
        prompt, answer = example.prompt_ids.tolist(), example.completion_ids.tolist()
        assert dataset[number] == {
            "input_ids": prompt + answer,
            "labels": [IGNORED] * len(prompt) + answer,
        }


def test_a_copied_dataset_shares_its_catalogue(corpus: TaskCorpus) -> None:
    """`datasets` copies and pickles transforms; neither may copy a catalogue."""
    import pickle

    dataset = Mixture(corpus, ALL, 0, 256).dataset(9)
    render: Any = dataset.format["format_kwargs"]["transform"]
    assert copy.deepcopy(dataset).format["format_kwargs"]["transform"] is render
    assert len(pickle.dumps(render)) < 1000


def test_no_example_is_longer_than_asked(timed: TaskCorpus) -> None:
    mixture = Mixture(timed, ALL, 0, 40)
    lengths = [len(row["input_ids"]) for row in mixture.dataset(len(mixture))]
    assert max(lengths) == 40
