"""One step moves what may move; the exported model gives the scores of the trained one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import BASE_SIZE, domain_ids, random_semantic_ids, tiny_llama

from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.loop import NextItemTrainer
from llmrec.training.next_item.next_item import ItemRows, LlamaNextItem, NextItemModel
from llmrec.training.next_item.sasrec import SasRec
from llmrec.training.next_item.settings import TrainLoopConfig
from llmrec.types import Histories

N_ITEMS = 14
IDS = {
    "atomic": ItemIds.atomic(N_ITEMS, spare=2),
    "domain": domain_ids(N_ITEMS, spare=2),
    "semantic": random_semantic_ids(14, (5, 6)),
}
FIELDS = ("gap", "month")
HISTORIES = Histories.from_lists(
    [[0, 3, 1], [2, 13], [4, 5, 6, 7]], [[1e9, 1.1e9, 1.2e9], [1e9, 1e9], [1e9, 1e9, 2e9, 2e9]]
)


def make_model(
    kind: str = "semantic",
    *,
    tied: bool = True,
    content: bool = True,
    row_scale: float = 1.0,
    seed: int = 0,
) -> LlamaNextItem:
    vocabulary = Vocabulary.of(BASE_SIZE, FIELDS, IDS[kind])
    plain = tiny_llama(vocabulary.size, tied=tied, seed=seed)
    vectors = torch.randn(IDS[kind].n_tokens - 1, 7) if content else None
    rows = ItemRows(vectors, vocabulary.n_item_tokens, 32, 0.2, std=0.3, content_std=0.3)
    return LlamaNextItem(plain, vocabulary, rows, input_dropout=0.1, row_scale=row_scale)


def one_step(model: NextItemModel, encoder: HistoryEncoder, folder: Path) -> None:
    batches = TrainingBatches(HISTORIES, encoder, 10_000, seed=0)
    config = TrainLoopConfig(epochs=1, warmup_steps=1, learning_rate=1e-2)
    trainer = NextItemTrainer(model, batches, lambda _model: {"ndcg@10": 0.0}, config, folder)
    assert trainer.run().step == 1


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in named}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", IDS)
def test_one_step_moves_every_trainable_weight_and_nothing_else(
    kind: str, tied: bool, tmp_path: Path
) -> None:
    model = make_model(kind, tied=tied)
    for parameter in model.body.layers[0].mlp.parameters():
        parameter.requires_grad = False
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trainable) < len(list(model.parameters()))
    before = snapshot(model)
    assert "item_rows.content" in before
    encoder = HistoryEncoder(model.vocabulary, IDS[kind], [1, 5], 10)
    one_step(model, encoder, tmp_path)
    assert moved(before, snapshot(model)) == trainable


def test_one_step_moves_every_weight_of_sasrec(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SasRec(N_ITEMS, layers=2, width=16, heads=2, max_items=10, dropout=0.1)
    before = snapshot(model)
    one_step(model, HistoryEncoder(model.vocabulary, ItemIds.atomic(N_ITEMS), [0], 10), tmp_path)
    assert moved(before, snapshot(model)) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("row_scale", [1.0, 32**0.5])
@pytest.mark.parametrize("kind", IDS)
def test_the_exported_model_gives_the_trained_logits(
    kind: str, row_scale: float, tied: bool, content: bool
) -> None:
    model = make_model(kind, tied=tied, content=content, row_scale=row_scale)
    model.logit_scale.data.fill_(1.7)
    vocabulary = model.vocabulary
    exported = tiny_llama(vocabulary.size, tied=tied, seed=1)
    encoder = HistoryEncoder(vocabulary, IDS[kind], [1, 5], 10)
    batches = TrainingBatches(HISTORIES, encoder, 10_000, seed=0)
    tokens = batches.batch(batches.sequences).tokens
    for _ in range(2):  # a run exports at every validation: the second must not differ
        model.export_to(exported)
        with torch.no_grad():
            model.eval()
            trained = model.hidden(tokens) @ torch.cat(model.heads()).T
            logits = exported(tokens).logits[..., vocabulary.item_offset :]
        torch.testing.assert_close(
            logits[..., : trained.shape[-1]], trained, rtol=0, atol=1e-5 * trained.abs().max()
        )


def test_untied_export_leaves_the_logits_of_text_alone() -> None:
    """The head's text rows are not trained, so no scale may reach them."""
    model = make_model(tied=False)
    before = tiny_llama(model.vocabulary.size, tied=False)  # the model it was made of
    exported = tiny_llama(model.vocabulary.size, tied=False)
    model.logit_scale.data.fill_(1.7)
    text = torch.arange(BASE_SIZE)[None]
    for _ in range(3):
        model.export_to(exported)
    with torch.no_grad():
        expected = before(text).logits[..., :BASE_SIZE]
        torch.testing.assert_close(
            exported(text).logits[..., :BASE_SIZE], expected, rtol=0, atol=1e-5
        )


def test_what_stands_after_a_position_changes_nothing_before_it() -> None:
    model = make_model().eval()
    tokens = torch.randint(0, model.vocabulary.size, (1, 12))
    changed = tokens.clone()
    changed[0, 6:] = 1
    with torch.no_grad():
        a, b = model.hidden(tokens), model.hidden(changed)
    torch.testing.assert_close(a[:, :6], b[:, :6])
    assert not torch.allclose(a[:, 6:], b[:, 6:])


def test_rows_are_recomputed_after_a_weight_change() -> None:
    model = make_model().eval()
    with torch.no_grad():
        first = model.rows().clone()
        assert model.rows() is model.rows(), "one step must compute the rows once"
        model.item_rows.residual += 1
        model.forget_rows()
        torch.testing.assert_close(model.rows(), first + 1)


def test_spare_rows_have_no_content() -> None:
    vectors = torch.ones(3, 4)
    rows = ItemRows(vectors, 5, 8, 0.0, std=0.02, content_std=1.0).eval()
    with torch.no_grad():
        torch.testing.assert_close(rows()[3:], rows.residual[3:])
        assert not np.allclose(rows()[:3], rows.residual[:3])
