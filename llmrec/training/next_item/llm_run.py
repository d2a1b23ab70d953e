"""Sets up an LLM training run: tokenizer, expanded model, rows, validation, saving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.engine import context_of
from llmrec.generation.llm import make_llm
from llmrec.item_ids.continued import known_rows
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import read_layout
from llmrec.llm.llama import SIZES, add_dropout
from llmrec.llm.tokenizer import plain_tokenizer
from llmrec.llm.vocabulary import Vocabulary
from llmrec.stage import read_manifest
from llmrec.training.model_inputs import is_earlier_model
from llmrec.training.next_item.auxiliary_tasks import AuxiliaryTasks
from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.children import ChildrenCrossEntropy
from llmrec.training.next_item.domain_data import training_histories
from llmrec.training.next_item.expanded import ExpandedTokenizer
from llmrec.training.next_item.from_atomic import start_from_atomic
from llmrec.training.next_item.item_content import token_content
from llmrec.training.next_item.next_item import ItemRows, LlamaNextItem, NextItemModel
from llmrec.training.next_item.setup import TrainingSetup
from llmrec.training.next_item.validation import validation_metrics
from llmrec.training.next_item.warm_start import continued, ids_for
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
    goes_on = is_earlier_model(config.base)
    if config.start_from is not None and config.base not in SIZES:
        raise ConfigError("train.start_from: is for fresh weights; set base to a size")
    if item_ids is None:
        ids = ids_for(Path(config.base), dataset, features)
    else:
        ids = _load_ids(item_ids, dataset)
    histories = training_histories(config, dataset)
    if config.time_tokens and histories.timestamps is None:
        raise ConfigError("train.time_tokens: the dataset has no timestamps; leave it empty")
    longest = config.task_length if config.tasks else 0
    if goes_on:
        plain, expanded = continued(
            Path(config.base), ids, features, prompt=config.prompt, max_items=config.max_items
        )
        _check_time_tokens(config, expanded.vocabulary)
    else:
        expanded = ExpandedTokenizer.of(
            plain_tokenizer(config.base, dataset),
            ids,
            config.time_tokens,
            config.prompt,
            config.max_items,
        )
        plain = expanded.make_model(config.base, longest=longest)
    vocabulary, encoder = expanded.vocabulary, expanded.encoder
    model = next_item_model(config, plain, vocabulary, token_content(config.content, features, ids))
    if config.start_from is not None:
        start_from_atomic(model, ids, config.start_from)
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

    batches = TrainingBatches(histories, encoder, config.loop.tokens_per_batch, seed)
    auxiliary = None
    if config.tasks:
        writer = PromptWriter(expanded.tokenizer, encoder)
        corpus = TaskCorpus(dataset, writer, user_share=config.user_share)
        longest = min(config.task_length, context_of(plain.config))
        mixture = Mixture(corpus, config.tasks, seed, longest)
        auxiliary = AuxiliaryTasks(mixture, config.task_examples, config.task_weight)
    counts: dict[str, Any] = {"row_scale": model.row_scale}
    if goes_on:
        before = read_layout(Path(config.base))[0]
        new = int((known_rows(before, ids.names, config.base) < 0).sum())
        counts |= {"known_items": ids.n_items - new, "new_items": new}
    predicted = None
    if config.content and not goes_on:
        predicted = batches.targets()
        model.item_rows.content_alone(_never_predicted(predicted, vocabulary))
    later_levels = None
    if config.normalise == "children" and ids.levels > 1:
        items = np.arange(ids.n_items) if predicted is None else np.unique(histories.items)
        later_levels = ChildrenCrossEntropy(ids, items)
    return TrainingSetup(model, batches, validate, save, auxiliary, predicted, later_levels, counts)


def _never_predicted(predicted: list[torch.Tensor], vocabulary: Vocabulary) -> torch.Tensor:
    """Item tokens, int64, that no training history holds."""
    never = torch.ones(vocabulary.n_item_tokens, dtype=torch.bool)
    for level, codes in enumerate(predicted):
        never[codes + vocabulary.level_range(level)[0]] = False
    return never.nonzero()[:, 0]


def _load_ids(item_ids: Path, dataset: Dataset) -> ItemIds:
    """The IDs of a dataset's items.

    Raises:
        ConfigError: if they are of others.
    """
    ids = ItemIds.load(item_ids)
    again = "run llmrec index again"
    if ids.n_items != dataset.n_items:
        raise ConfigError(
            f"{item_ids}: holds IDs of {ids.n_items} items, {dataset.folder} has "
            f"{dataset.n_items}; {again}"
        )
    if ids.names and list(ids.names) != dataset.item_ids:
        row = next(n for n, name in enumerate(ids.names) if name != dataset.item_ids[n])
        raise ConfigError(
            f"{item_ids}: item {row} is {ids.names[row]!r} there and {dataset.item_ids[row]!r} in "
            f"{dataset.folder}; {again}"
        )
    return replace(ids, names=tuple(dataset.item_ids))


def _check_time_tokens(config: TrainConfig, vocabulary: Vocabulary) -> None:
    """Check that the settings name the time tokens that an earlier model has.

    Raises:
        ConfigError: if they do not.
    """
    if tuple(config.time_tokens) != vocabulary.time_fields:
        has = ", ".join(vocabulary.time_fields)
        raise ConfigError(f"train.time_tokens: {config.base} has [{has}]; set the same")


def next_item_model(
    config: TrainConfig, plain: Any, vocabulary: Vocabulary, content: torch.Tensor | None
) -> LlamaNextItem:
    """Wrap the causal LM for training."""
    width = plain.config.hidden_size
    goes_on, row_scale = is_earlier_model(config.base), 1.0
    if config.base in SIZES:
        row_scale = width**0.5
    elif goes_on:
        row_scale = read_manifest(config.base).counts.get("row_scale", 1.0)
    from_scratch = row_scale != 1.0
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
        row_scale=row_scale,
        goes_on=goes_on,
    )
