"""Every training event is a target once an epoch, padding is rare, order is reproducible."""

from collections import Counter

import numpy as np
import pytest
import torch
from tiny_models import domain_ids, random_semantic_ids

from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.training.next_item.batches import SequenceBatch, TrainingBatches
from llmrec.types import Histories

N_ITEMS, MAX_ITEMS = 50, 20
IDS = {
    "atomic": ItemIds.atomic(N_ITEMS, spare=5),
    "domain": domain_ids(N_ITEMS, spare=5),
    "semantic": random_semantic_ids(50, (5, 4, 6)),
}


def skewed_histories(users: int = 400) -> Histories:
    """Most histories are short, some are long, some empty, as in a shop."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(1.3, 0.9, users).astype(int), 60)
    rows = [rng.integers(0, N_ITEMS, length).tolist() for length in lengths]
    times = [np.sort(rng.uniform(1e9, 1.1e9, len(row))).tolist() for row in rows]
    return Histories.from_lists(rows, times)


def make_batches(
    kind: str = "atomic", fields: tuple[str, ...] = (), budget: int = 300, seed: int = 0
) -> TrainingBatches:
    vocabulary = Vocabulary.of(9, fields, IDS[kind])
    encoder = HistoryEncoder(vocabulary, IDS[kind], [1, 4], MAX_ITEMS)
    return TrainingBatches(skewed_histories(), encoder, budget, seed)


def targets(batch: SequenceBatch, ids: ItemIds) -> list[int]:
    codes = torch.stack(batch.codes, dim=1).numpy()
    return ids.decode(codes).tolist()


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("fields", [(), ("gap", "month")])
def test_every_event_is_a_target_exactly_once(kind: str, fields: tuple[str, ...]) -> None:
    expected = Counter(int(i) for row in skewed_histories() for i in row[-MAX_ITEMS:])
    batches = make_batches(kind, fields)
    for epoch in (0, 1):
        found: Counter[int] = Counter()
        for batch in batches.epoch(epoch):
            found.update(targets(batch, IDS[kind]))
        assert found == expected


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("fields", [(), ("gap", "month")])
def test_the_token_after_a_position_is_its_code(kind: str, fields: tuple[str, ...]) -> None:
    batches = make_batches(kind, fields)
    vocabulary = batches.encoder.vocabulary
    for batch in batches.epoch(0):
        flat = batch.tokens.flatten()
        for level, (positions, codes) in enumerate(zip(batch.positions, batch.codes, strict=True)):
            start, end = vocabulary.level_range(level)
            assert torch.equal(flat[positions + 1] - vocabulary.item_offset - start, codes)
            assert codes.min() >= 0
            assert codes.max() < end - start
            assert len(positions.unique()) == len(positions)
        # every item token is somebody's target, so padding is none and nothing was missed
        n_item_tokens = int((flat >= vocabulary.item_offset).sum())
        assert n_item_tokens == sum(len(codes) for codes in batch.codes)


def test_padding_is_rare() -> None:
    encoder = make_batches().encoder
    batches = TrainingBatches(skewed_histories(4000), encoder, 1024, seed=0)
    real = batches.lengths.sum() + 2 * len(batches.lengths)
    held = sum(batch.tokens.numel() for batch in batches.epoch(0))
    assert 1 - real / held < 0.10


def test_batches_stay_within_their_tokens() -> None:
    for batch in make_batches(budget=64).epoch(0):
        assert batch.tokens.numel() <= 64 or len(batch.tokens) == 1


def test_a_history_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = make_batches(budget=5)
    sizes = [len(batch.tokens) for batch in batches.epoch(0)]
    assert sum(sizes) == len(batches.sequences)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return [group.tolist() for group in make_batches(seed=seed).groups(epoch)]

    batches = make_batches()
    list(batches.epoch(0))
    assert [group.tolist() for group in batches.groups(3)] == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    # not only the batches' order changes, but who shares one
    assert {frozenset(g) for g in order(0, 3)} != {frozenset(g) for g in order(0, 4)}
