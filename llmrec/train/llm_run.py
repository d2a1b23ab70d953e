"""Puts an LLM training run together: tokenizer, expanded model, rows, validation, saving."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llmrec.data.dataset import Dataset
from llmrec.errors import ArtifactError, ConfigError
from llmrec.generation.engine import context_of
from llmrec.generation.llm import make_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.models.llama import SIZES, add_dropout, from_folder, from_size
from llmrec.models.tokenizer import add_tokens, load_tokenizer, train_tokenizer
from llmrec.models.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import Template, load_template
from llmrec.tasks.corpus import Corpus
from llmrec.tasks.mixture import Mixture
from llmrec.tasks.writer import Writer
from llmrec.train.batches import TrainingBatches
from llmrec.train.next_item import ItemRows, LlamaNextItem, NextItemModel
from llmrec.train.validation import validation_metrics
from llmrec.train.word_tasks import WordTasks
from llmrec.types import Cases

if TYPE_CHECKING:
    from llmrec.train.settings import Config

LAYOUT = "llmrec.json"
BASE_VOCABULARY = 1024


@dataclass
class Prepared:
    """What the loop needs, and how to save the result."""

    model: NextItemModel
    batches: TrainingBatches
    validate: Callable[[NextItemModel], dict[str, float]]
    save: Callable[[Path], None]
    further_loss: Callable[[NextItemModel, int], torch.Tensor] | None = None


def prepare(
    config: Config,
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
    config: Config, dataset: Dataset, writer: Writer, context: int, seed: int
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


def start_token(tokenizer: Any) -> int:
    """What every prompt begins with: some bases have no start token and use the end token.

    Raises:
        ConfigError: if the tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ConfigError("base: its tokenizer has neither a start nor an end token")


def expanded_tokenizer(config: Config, dataset: Dataset, ids: ItemIds) -> tuple[Any, Vocabulary]:
    """The base's tokenizer with time and item tokens, and where they are."""
    tokenizer = plain_tokenizer(config.base, dataset)
    base_size = len(tokenizer)
    vocabulary = Vocabulary.of(base_size, config.time_tokens, ids)
    add_tokens(tokenizer, vocabulary.time_token_strings() + ids.token_strings(), base_size)
    return tokenizer, vocabulary


def plain_tokenizer(base: str, dataset: Dataset | None) -> Any:
    """The tokenizer of a base; a size name's is learnt from the titles of a dataset."""
    if base not in SIZES:
        return load_tokenizer(base)
    if dataset is None:
        raise ConfigError(f"base: {base!r} needs a dataset whose titles its tokenizer is learnt of")
    return train_tokenizer(dataset.items["title"].to_pylist(), BASE_VOCABULARY)


def base_model(
    config: Config, vocabulary: Vocabulary, encoder: HistoryEncoder, tokenizer: Any
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
    config: Config, plain: Any, vocabulary: Vocabulary, content: torch.Tensor | None
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


def token_content(config: Config, features: Path | None, ids: ItemIds) -> torch.Tensor | None:
    """Content vector of every item token: its item's, or the mean of the items that share it."""
    from llmrec.train.run import content_matrix

    content = content_matrix(features, config.content)
    if content is None:
        return None
    tokens = np.asarray(ids.tokens(np.arange(ids.n_items)))
    sums = np.zeros((ids.n_tokens, content.shape[1]), dtype=np.float64)
    counts = np.zeros(ids.n_tokens)
    for level in tokens.T:
        np.add.at(sums, level, content)
        np.add.at(counts, level, 1)
    return torch.from_numpy((sums / np.maximum(counts, 1)[:, None]).astype(np.float32))


def read_layout(folder: Path) -> tuple[ItemIds, HistoryEncoder]:
    """How a model folder says items and histories: what :func:`save_layout` and the IDs hold.

    Raises:
        ArtifactError: if a file is missing, damaged, or they do not fit together.
    """
    try:
        layout = json.loads((folder / LAYOUT).read_text(encoding="utf-8"))
        ids = ItemIds.load(folder / "item_ids")
        vocabulary = Vocabulary.of(layout["base_size"], layout["time_fields"], ids)
        return ids, HistoryEncoder(vocabulary, ids, layout["prefix"], layout["max_items"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{folder}: not a trained llmrec model ({reason})") from None


def save_layout(
    folder: Path, vocabulary: Vocabulary, template: Template, prefix: list[int], max_items: int
) -> None:
    """Write ``llmrec.json``: everything needed to say a history as in training."""
    layout = {
        "base_size": vocabulary.base_size,
        "time_fields": vocabulary.time_fields,
        "template": vars(template),
        "prefix": prefix,
        "max_items": max_items,
    }
    (folder / LAYOUT).write_text(json.dumps(layout, indent=2) + "\n", encoding="utf-8")
