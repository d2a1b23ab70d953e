"""Puts an LLM training run together: tokenizer, expanded model, rows, validation, saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.generation.engine import context_of
from llmrec.generation.llm import make_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import save_layout
from llmrec.llm.llama import SIZES, add_dropout, from_folder, from_size
from llmrec.llm.tokenizer import (
    add_tokens,
    plain_tokenizer,
    start_token,
)
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import load_template
from llmrec.training.next_item.batches import TrainingBatches
from llmrec.training.next_item.item_content import token_content
from llmrec.training.next_item.next_item import ItemRows, LlamaNextItem, NextItemModel
from llmrec.training.next_item.prepared import Prepared
from llmrec.training.next_item.validation import validation_metrics
from llmrec.training.next_item.word_tasks import WordTasks
from llmrec.training.tasks.corpus import Corpus
from llmrec.training.tasks.mixture import Mixture
from llmrec.training.tasks.writer import Writer
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
) -> Prepared:
    """Build everything an LLM run needs.

    Raises:
        ConfigError: if base, IDs, prompt, time tokens and data do not fit together.
    """
    if item_ids is None:
        raise ConfigError("train: an llm needs the folder of the index stage")
    ids = ItemIds.load(item_ids)
    if ids.n_items != dataset.n_items:
        raise ConfigError(
            f"{item_ids}: holds IDs of {ids.n_items} items, {dataset.folder} has "
            f"{dataset.n_items}; run llmrec index again"
        )
    histories = dataset.train_histories(config.share)
    if config.time_tokens and histories.timestamps is None:
        raise ConfigError("train.time_tokens: the dataset has no timestamps; leave it empty")
    template = load_template(config.prompt)
    tokenizer, vocabulary = expanded_tokenizer(config, dataset, ids)
    words = tokenizer.encode(template.prefix("history"), add_special_tokens=False)
    prefix = [start_token(tokenizer), *words]
    encoder = HistoryEncoder(vocabulary, ids, prefix, config.max_items)
    plain = base_model(config, vocabulary, encoder, tokenizer)
    model = next_item_model(config, plain, vocabulary, token_content(config, features, ids))
    # an ordinary model of the same shape: validation sees exactly what serving will see
    device = "cuda" if torch.cuda.is_available() else "cpu"
    exported = base_model(config, vocabulary, encoder, tokenizer).to(device).eval()
    recommender = make_llm(exported, vocabulary, encoder, ids, beams=config.beams)

    def validate(trained: NextItemModel) -> dict[str, float]:
        assert isinstance(trained, LlamaNextItem)
        trained.export_to(exported)
        return validation_metrics(recommender, cases)

    def save(folder: Path) -> None:
        model.eval()
        model.export_to(exported)
        exported.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        ids.save(folder / "item_ids")
        save_layout(folder, vocabulary, template, prefix, config.max_items)
        if model.item_rows.content is not None:
            from safetensors.torch import save_file

            projection = model.item_rows.projection.weight.detach() * model.row_scale
            # in a folder of its own: vLLM loads every weight file that stands beside the model's
            (folder / "item_rows").mkdir(exist_ok=True)
            path = folder / "item_rows" / "projection.safetensors"
            save_file({"projection": projection.contiguous()}, path)

    batches = TrainingBatches(histories, encoder, config.loop.tokens_per_batch, seed)
    return Prepared(
        model,
        batches,
        validate,
        save,
        word_tasks(config, dataset, Writer(tokenizer, encoder), context_of(plain.config), seed),
    )


def word_tasks(
    config: TrainConfig, dataset: Dataset, writer: Writer, context: int, seed: int
) -> WordTasks | None:
    """What a step learns beside histories, or None.

    Args:
        context: tokens that the model reads.
    """
    if not config.tasks:
        return None
    longest = min(config.task_length, context)
    mixture = Mixture(Corpus(dataset, writer), config.tasks, seed, longest)
    return WordTasks(mixture, config.task_examples, config.task_weight)


def expanded_tokenizer(
    config: TrainConfig, dataset: Dataset, ids: ItemIds
) -> tuple[Any, Vocabulary]:
    """The base's tokenizer with time and item tokens, and where they are."""
    tokenizer = plain_tokenizer(config.base, dataset)
    base_size = len(tokenizer)
    vocabulary = Vocabulary.of(base_size, config.time_tokens, ids)
    add_tokens(tokenizer, vocabulary.time_token_strings() + ids.token_strings(), base_size)
    return tokenizer, vocabulary


def base_model(
    config: TrainConfig, vocabulary: Vocabulary, encoder: HistoryEncoder, tokenizer: Any
) -> Any:
    """The causal LM with the expanded vocabulary."""
    if config.base in SIZES:
        tokens = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        longest = max(encoder.max_tokens(), config.task_length if config.tasks else 0)
        return from_size(config.base, vocabulary.size, longest, tokens)
    return from_folder(config.base, vocabulary.size, torch.float32)


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
