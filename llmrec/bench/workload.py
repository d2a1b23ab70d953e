"""What is measured: a model on disk, a catalogue and prompts.

A random LLaMA with random IDs and histories, all from one seed, or a trained model with the
histories of its dataset's test split. Either is an ordinary model folder, so that every
engine loads the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.bench.settings import Settings
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import read_layout
from llmrec.llm.llama import SIZES, from_size
from llmrec.llm.tokenizer import add_tokens, train_tokenizer
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
        dataset, name: what to call the histories and the model in the result.
    """

    model: Path
    vocabulary: Vocabulary
    ids: ItemIds
    prompts: list[np.ndarray]
    checked: list[np.ndarray]
    dataset: str
    name: str


def make_workload(settings: Settings, folder: Path) -> Workload:
    """The workload that the settings ask for; a random model is saved in ``folder``.

    Raises:
        ConfigError: if a trained model cannot be used.
    """
    if settings.model is not None and settings.dataset is not None:
        return _trained(settings, settings.model, settings.dataset)
    return _random(settings, folder)


def random_codes(items: int, levels: int, codes: int, rng: np.random.Generator) -> np.ndarray:
    """Different random IDs, int32 ``[items, levels]``, in random order."""
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


def random_ids(items: int, levels: int, codes: int, seed: int) -> ItemIds:
    """Semantic IDs of a random catalogue, without content."""
    table = random_codes(items, levels, codes, np.random.default_rng(seed))
    sizes = (codes,) * levels
    return ItemIds("semantic", table, sizes, np.zeros((sum(sizes), 0), np.float32))


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


def random_prompts(
    users: int, length: int, ids: ItemIds, offset: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """The last ``length`` tokens of random histories; item tokens begin at ``offset``."""
    events = -(-length // ids.levels)
    said = ids.tokens(rng.integers(ids.n_items, size=(users, events))) + offset
    return list(said.reshape(users, -1)[:, -length:])


def load_model(folder: Path, device: str, dtype: str) -> Any:
    """The model of a folder, ready to run; it has read one token.

    A first pass loads libraries and touches every weight, which is no engine's own doing.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    kind = getattr(torch, dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, local_files_only=True)
    model = model.to(device).eval()
    with torch.inference_mode():
        model(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=device))
    return model


def _random(settings: Settings, folder: Path) -> Workload:
    from transformers.utils.logging import disable_progress_bar

    ids = random_ids(settings.items, settings.levels, settings.codes, settings.seed)
    tokenizer = train_tokenizer((f"item number {n}" for n in range(1000)), BASE_TOKENS)
    vocabulary = Vocabulary.of(len(tokenizer), (), ids)
    add_tokens(tokenizer, ids.token_strings(), vocabulary.item_offset)
    longest = settings.length + settings.levels + 1
    model = random_llama(settings.size, vocabulary.size, longest, settings.seed)
    disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rng = np.random.default_rng(settings.seed + 1)
    users = settings.batch + settings.exact_users
    prompts = random_prompts(users, settings.length, ids, vocabulary.item_offset, rng)
    return Workload(
        folder,
        vocabulary,
        ids,
        prompts[: settings.batch],
        prompts[settings.batch :],
        f"random: {settings.items} items, {settings.levels} levels of {settings.codes} codes, "
        f"histories of {settings.length} tokens",
        f"random {settings.size} LLaMA",
    )


def _trained(settings: Settings, folder: Path, dataset_folder: Path) -> Workload:
    ids, encoder = read_layout(folder)
    dataset = Dataset(dataset_folder)
    if dataset.n_items != ids.n_items:
        raise ConfigError(
            f"--dataset {dataset_folder}: has {dataset.n_items} items, the model "
            f"{ids.n_items}; give the dataset it was trained on"
        )
    cases = dataset.cases("test").histories
    users = settings.batch + settings.exact_users
    if users > len(cases):
        raise ConfigError(
            f"--batch: {users} users are needed with --exact-users, the test split of "
            f"{dataset_folder} has {len(cases)}"
        )
    chosen = cases.select(np.random.default_rng(settings.seed).permutation(len(cases))[:users])
    prompts = [
        encoder.encode(chosen[u], chosen.times(u), None if chosen.now is None else chosen.now[u])
        for u in range(users)
    ]
    return Workload(
        folder,
        encoder.vocabulary,
        ids,
        prompts[: settings.batch],
        prompts[settings.batch :],
        f"{dataset_folder}: test split",
        str(folder),
    )
