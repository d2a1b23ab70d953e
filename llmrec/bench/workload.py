"""What is measured: a model on disk, a catalogue and prompts.

A random or a pretrained LLaMA with random histories of items whose IDs are residual k-means codes
of their titles, all from one seed, or a trained model with the histories of its dataset's test
split. Either is an ordinary model folder, so that every engine loads the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError, DataError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.jsonl import read_jsonl
from llmrec.llm.layout import read_layout
from llmrec.llm.llama import SIZES, from_folder, from_size
from llmrec.llm.tokenizer import add_tokens, load_tokenizer, train_tokenizer
from llmrec.llm.vocabulary import Vocabulary

BASE_TOKENS = 512
RETURNING_EVENTS = 50
# Standard deviation of the random model's logits: scores then differ as clearly as a trained
# model's do. Each weight's own follows from the width.
LOGIT_SPREAD = 2.0


@dataclass(frozen=True)
class Workload:
    """What every engine gets.

    Attributes:
        model: folder of a causal LM and its tokenizer.
        vocabulary: where its item tokens are.
        ids: the catalogue.
        prompts: token ids of each user that is timed.
        checked: token ids of each user whose exact answer is checked.
        dataset, name: what the histories and the model are called in the result.
    """

    model: Path
    vocabulary: Vocabulary
    ids: ItemIds
    prompts: list[np.ndarray]
    checked: list[np.ndarray]
    dataset: str
    name: str


def make_workload(config: DecodeBenchConfig, folder: Path) -> Workload:
    """The workload that the config ask for; a random model is saved in ``folder``.

    Raises:
        ConfigError: if a trained model cannot be used.
    """
    if config.model is not None and config.dataset is not None:
        return _trained(config, config.model, config.dataset)
    return _random(config, folder)


def random_codes(items: int, levels: int, codes: int, rng: np.random.Generator) -> np.ndarray:
    """Distinct random IDs, int32 ``[items, levels]``, in random order."""
    capacity = codes**levels
    if capacity <= 4 * items:
        numbers = rng.permutation(capacity)[:items]
    else:
        numbers = np.unique(rng.integers(capacity, size=items))
        while len(numbers) < items:
            more = rng.integers(capacity, size=2 * (items - len(numbers)) + 8)
            numbers = np.unique(np.concatenate([numbers, more]))
        rng.shuffle(numbers)
        numbers = numbers[:items]
    table = np.empty((items, levels), dtype=np.int32)
    for level in reversed(range(levels)):
        numbers, table[:, level] = np.divmod(numbers, codes)
    return table


def title_ids(config: DecodeBenchConfig) -> ItemIds:
    """Semantic IDs by residual k-means of the titles' MiniLM vectors, as ``llmrec index`` makes.

    Items of one kind share the first tokens of their IDs; random IDs would be unique after two.

    Raises:
        ConfigError, DataError: if the file of titles cannot be used.
    """
    from llmrec.content.features.text_encoder import TextEncoder
    from llmrec.demo_shop.catalogue import make_catalogue
    from llmrec.item_ids.index import IndexConfig, build_ids

    if config.titles is None:
        titles = [item.title for item in make_catalogue(config.seed, config.items).items]
    else:
        titles = read_titles(config.titles, config.items)
    vectors = TextEncoder(device=config.device).encode(titles)
    index = IndexConfig(kind="semantic", levels=config.levels, codebook_size=config.codes)
    return build_ids(index, config.items, vectors, config.seed)[0]


def read_titles(path: Path, items: int) -> list[str]:
    """The titles of the first items of a JSONL file.

    Raises:
        DataError: if it cannot be read.
        ConfigError: if it has fewer.
    """
    try:
        titles = [str(row["title"] or "") for row in read_jsonl(path)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no JSONL file of items with a title ({error!r})") from None
    if len(titles) < items:
        raise ConfigError(f"--items: {path} has {len(titles)} titles, fewer than {items}")
    return titles[:items]


def unique_after(ids: ItemIds) -> list[float]:
    """Share of the items that are the only one with the first 1, 2, ... tokens of their ID."""
    shares = []
    for level in range(1, ids.codes.shape[1] + 1):
        _, counts = np.unique(ids.codes[:, :level], axis=0, return_counts=True)
        shares.append(float((counts == 1).sum() / len(ids.codes)))
    return shares


def random_llama(size: str, vocab_size: int, max_tokens: int, seed: int) -> Any:
    """A LLaMA of a named size with random weights and scores that differ clearly."""
    torch.manual_seed(seed)
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = from_size(size, vocab_size, max_tokens, tokens)
    spread = LOGIT_SPREAD / SIZES[size].width ** 0.5
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=spread)
    return model.eval()


def load_model(folder: Path, device: str, dtype: str) -> Any:
    """The model of a folder, ready to run; it has read one token.

    A first pass loads libraries and touches every weight, which is no engine's own doing.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    kind = getattr(torch, dtype)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=kind, local_files_only=True, trust_remote_code=False
    )
    model = model.to(device).eval()
    with torch.inference_mode():
        model(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=device))
    return model


def _random(config: DecodeBenchConfig, folder: Path) -> Workload:
    from transformers.utils.logging import disable_progress_bar

    ids = title_ids(config)
    if config.base is None:
        tokenizer = train_tokenizer((f"item number {n}" for n in range(1000)), BASE_TOKENS)
        vocabulary = Vocabulary.of(len(tokenizer), (), ids)
        longest = config.length + config.levels + 1
        model = random_llama(config.size, vocabulary.size, longest, config.seed)
        name = f"random {config.size} LLaMA"
    else:
        tokenizer = load_tokenizer(config.base)
        vocabulary = Vocabulary.of(len(tokenizer), (), ids)
        model = _pretrained(config.base, vocabulary, config.seed)
        name = f"{config.base} with random rows of items"
    add_tokens(tokenizer, ids.token_strings(), vocabulary.item_offset)
    disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rng = np.random.default_rng(config.seed + 1)
    users = config.batch + config.exact_users
    events = -(-config.length // ids.levels)
    tokens = ids.tokens(rng.integers(ids.n_items, size=(users, events))) + vocabulary.item_offset
    prompts = list(tokens.reshape(users, -1)[:, -config.length :])
    titles = "made-up titles" if config.titles is None else f"the titles of {config.titles}"
    return Workload(
        folder,
        vocabulary,
        ids,
        prompts[: config.batch],
        prompts[config.batch :],
        f"{config.items} items with IDs from {titles}, {config.levels} levels of "
        f"{config.codes} codes; random histories of {config.length} tokens",
        name,
    )


def _pretrained(base: str, vocabulary: Vocabulary, seed: int) -> Any:
    """A pretrained LLaMA with random rows for item tokens, whose scores differ clearly."""
    torch.manual_seed(seed)
    model = from_folder(base, vocabulary.size, torch.float32).eval()
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        rows = table.weight.data[vocabulary.item_offset :]
        rows.normal_(std=LOGIT_SPREAD / rows.shape[1] ** 0.5)
    return model


def _trained(config: DecodeBenchConfig, folder: Path, dataset_folder: Path) -> Workload:
    ids, encoder = read_layout(folder)
    dataset = Dataset(dataset_folder)
    if dataset.n_items != ids.n_items:
        raise ConfigError(
            f"--dataset {dataset_folder}: has {dataset.n_items} items, the model "
            f"{ids.n_items}; give the dataset it was trained on"
        )
    cases = dataset.cases("test").histories
    users = config.batch + config.exact_users
    if users > len(cases):
        raise ConfigError(
            f"--batch: {users} users are needed with --exact-users, the test split of "
            f"{dataset_folder} has {len(cases)}"
        )
    chosen = cases.select(np.random.default_rng(config.seed).permutation(len(cases))[:users])
    prompts = [
        encoder.encode(chosen[u], chosen.times(u), None if chosen.now is None else chosen.now[u])
        for u in range(users)
    ]
    return Workload(
        folder,
        encoder.vocabulary,
        ids,
        prompts[: config.batch],
        prompts[config.batch :],
        f"{dataset_folder}: test split",
        str(folder),
    )
