"""Sets up an LLM training run: tokenizer, expanded model, rows, validation, saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.engine import context_of
from llmrec.generation.llm import make_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.llama import SIZES, add_dropout
from llmrec.llm.tokenizer import plain_tokenizer
from llmrec.llm.vocabulary import Vocabulary
from llmrec.training.next_item.auxiliary_tasks import AuxiliaryTasks
from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.expanded import ExpandedTokenizer
from llmrec.training.next_item.item_content import token_content
from llmrec.training.next_item.next_item import ItemRows, LlamaNextItem, NextItemModel
from llmrec.training.next_item.setup import TrainingSetup
from llmrec.training.next_item.validation import validation_metrics
from llmrec.training.tasks.corpus import TaskCorpus
from llmrec.training.tasks.mixture import Mixture
from llmrec.training.tasks.writer import PromptWriter
from llmrec.types import Cases

if TYPE_CHECKING:
    from llmrec.training.next_item.settings import TrainConfig


def prepare(
    config: TrainConfig,
    dataset: Dataset,
    item_ids: Path | None,
    features: Path | None,
    cases: Cases,
    seed: int,
) -> TrainingSetup:
    """Build everything an LLM run needs.

    Raises:
        ConfigError: if base, IDs, prompt, time tokens and data do not fit together.
    """
    assert item_ids is not None
    ids = ItemIds.load(item_ids)
    if ids.n_items != dataset.n_items:
        raise ConfigError(
            f"{item_ids}: holds IDs of {ids.n_items} items, {dataset.folder} has "
            f"{dataset.n_items}; run llmrec index again"
        )
    histories = dataset.train_histories(config.share)
    if config.time_tokens and histories.timestamps is None:
        raise ConfigError("train.time_tokens: the dataset has no timestamps; leave it empty")
    expanded = ExpandedTokenizer.of(
        plain_tokenizer(config.base, dataset),
        ids,
        config.time_tokens,
        config.prompt,
        config.max_items,
    )
    vocabulary, encoder = expanded.vocabulary, expanded.encoder
    longest = config.task_length if config.tasks else 0
    plain = expanded.make_model(config.base, longest=longest)
    model = next_item_model(config, plain, vocabulary, token_content(config.content, features, ids))
    # an ordinary model of the same shape: validation sees exactly what serving will see
    device = "cuda" if torch.cuda.is_available() else "cpu"
    exported = expanded.make_model(config.base, longest=longest).to(device).eval()
    recommender = make_llm(exported, encoder, ids, beams=config.beams)

    def validate(trained: NextItemModel) -> dict[str, float]:
        assert isinstance(trained, LlamaNextItem)
        trained.export_to(exported)
        return validation_metrics(recommender, cases)

    def save(folder: Path) -> None:
        model.eval()
        model.export_to(exported)
        expanded.save(exported, folder)
        if model.item_rows.content is not None:
            from safetensors.torch import save_file

            projection = model.item_rows.projection.weight.detach() * model.row_scale
            # in a folder of its own: vLLM loads every weight file that stands beside the model's
            (folder / "item_rows").mkdir(exist_ok=True)
            path = folder / "item_rows" / "projection.safetensors"
            save_file({"projection": projection.contiguous()}, path)

    batches = TrainingBatches(histories, encoder, config.loop.tokens_per_batch, seed)
    auxiliary = None
    if config.tasks:
        corpus = TaskCorpus(dataset, PromptWriter(expanded.tokenizer, encoder))
        longest = min(config.task_length, context_of(plain.config))
        mixture = Mixture(corpus, config.tasks, seed, longest)
        auxiliary = AuxiliaryTasks(mixture, config.task_examples, config.task_weight)
    return TrainingSetup(model, batches, validate, save, auxiliary)


def next_item_model(
    config: TrainConfig, plain: Any, vocabulary: Vocabulary, content: torch.Tensor | None
) -> LlamaNextItem:
    """Wrap the causal LM for training."""
    width = plain.config.hidden_size
    from_scratch = config.base in SIZES
    std = 0.02 if from_scratch else float(plain.get_input_embeddings().weight.detach().std())
    rows = ItemRows(
        content,
        vocabulary.n_item_tokens,
        width,
        content_dropout=config.content_dropout,
        std=std,
        content_std=config.content_std * std / 0.02,
    )
    add_dropout(plain, config.dropout)
    return LlamaNextItem(
        plain,
        vocabulary,
        rows,
        input_dropout=config.dropout if from_scratch else 0.0,
        row_scale=width**0.5 if from_scratch else 1.0,
    )
