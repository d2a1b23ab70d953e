"""Some histories are without times in training, as some requests are."""

from pathlib import Path

import numpy as np

from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.llama import from_size
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.training.next_item.batches import TIMELESS, TrainingBatches
from llmrec.training.next_item.loop import NextItemTrainer
from llmrec.training.next_item.next_item import ItemRows, LlamaNextItem
from llmrec.training.next_item.settings import TrainLoopConfig
from llmrec.types import Histories

IDS = ItemIds.atomic(30, spare=2)


def batches(fields: tuple[str, ...]) -> TrainingBatches:
    rng = np.random.default_rng(0)
    items = [rng.integers(0, 30, 5).tolist() for _ in range(1000)]
    times = [np.sort(rng.uniform(1e9, 1.1e9, 5)).tolist() for _ in range(1000)]
    encoder = HistoryEncoder(Vocabulary.of(9, fields, IDS), IDS, [1], 20)
    return TrainingBatches(Histories.from_lists(items, times), encoder, 400, seed=0)


def tokens_of(made: TrainingBatches, epoch: int) -> np.ndarray:
    """All histories of an epoch, a row each, without the prefix."""
    return np.concatenate([batch.tokens.numpy()[:, 1:] for batch in made.epoch(epoch)])


def test_a_share_of_histories_has_no_times_and_the_others_have_all() -> None:
    made = batches(("gap", "month"))
    vocabulary = made.encoder.vocabulary
    events = tokens_of(made, 0).reshape(1000, 5, 3)
    months = events[:, :, 1] - vocabulary.time_offset - 17  # after the values of gap
    without = (months == 0).all(1)
    assert (months[~without] > 0).all()
    assert abs(without.mean() - TIMELESS) < 0.04
    # exactly what serving says when it is asked without times
    row = events[without][0]
    items = row[:, 2] - vocabulary.item_offset
    assert np.array_equal(made.encoder.events(items, None), row)


def test_which_ones_depends_on_seed_and_epoch_alone() -> None:
    first, again = batches(("month",)), batches(("month",))
    list(first.epoch(0))
    assert np.array_equal(tokens_of(first, 2), tokens_of(again, 2))
    # in the long run every history is trained with its times
    earlier, later = (np.sort(tokens_of(first, epoch), axis=0) for epoch in (2, 3))
    assert not np.array_equal(earlier, later)


def test_without_time_tokens_nothing_changes() -> None:
    made = batches(())
    rows = {tuple(row) for row in tokens_of(made, 0)}
    assert rows == {tuple(sequence) for sequence in made.sequences}


def test_the_loop_trains_on_histories_without_times(tmp_path: Path) -> None:
    """One epoch teaches the token of an unknown month, which no history itself holds."""
    made = batches(("month",))
    vocabulary = made.encoder.vocabulary
    plain = from_size("nano", vocabulary.size, made.encoder.max_tokens(), {})
    rows = ItemRows(
        None, vocabulary.n_item_tokens, 64, content_dropout=0.0, std=0.02, content_std=0.02
    )
    model = LlamaNextItem(plain, vocabulary, rows)
    before = model.other_rows[vocabulary.time_offset].detach().clone()
    config = TrainLoopConfig(epochs=1, warmup_steps=1)
    NextItemTrainer(model, made, lambda _: {"ndcg@10": 0.0}, config, tmp_path / "work").run()
    assert (model.other_rows[vocabulary.time_offset] - before).abs().max() > 1e-3
