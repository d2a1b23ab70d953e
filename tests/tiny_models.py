"""What fits in a test: a LLaMA of width 32 with random weights, IDs and datasets made by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from llmrec.generation.llm import AtomicLlm, SemanticLlm, make_llm
from llmrec.item_ids.item_ids import ItemIds
from llmrec.models.vocabulary import HistoryEncoder, Vocabulary
from llmrec.stage import Manifest, writing
from llmrec.train.settings import Config, LoopConfig

BASE_SIZE = 12  # text tokens of the models made here
TRAIN, VALIDATION, TEST = 0, 1, 2


def tiny_llama(vocab_size: int, *, tied: bool = True, seed: int = 0, context: int = 256) -> Any:
    """A real LLaMA with grouped-query attention; weights large enough that scores differ."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def semantic_ids(codes: Sequence[Sequence[int]] | np.ndarray, sizes: Sequence[int]) -> ItemIds:
    """Semantic IDs with these codes."""
    table = np.asarray(codes, dtype=np.int32)
    return ItemIds("semantic", table, tuple(sizes), np.zeros((sum(sizes), 0), np.float32))


def random_semantic_ids(n_items: int, sizes: Sequence[int], seed: int = 0) -> ItemIds:
    """``n_items`` different random IDs."""
    every = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    rng = np.random.default_rng(seed)
    return semantic_ids(every[rng.choice(len(every), n_items, replace=False)], sizes)


def tiny_llm(
    ids: ItemIds,
    *,
    time_fields: Sequence[str] = (),
    max_items: int = 8,
    beams: int = 50,
    batch_size: int = 128,
    seed: int = 0,
    context: int = 256,
) -> AtomicLlm | SemanticLlm:
    """An untrained recommender over ``ids``; its model reads ``context`` tokens."""
    vocabulary = Vocabulary.of(BASE_SIZE, time_fields, ids)
    encoder = HistoryEncoder(vocabulary, ids, [1, 5], max_items)
    model = tiny_llama(vocabulary.size, seed=seed, context=context)
    return make_llm(model, vocabulary, encoder, ids, batch_size=batch_size, beams=beams)


def write_dataset(
    folder: Path,
    histories: Sequence[Sequence[int]],
    n_items: int,
    times: Sequence[Sequence[float]] | None = None,
    *,
    held_out: bool = True,
) -> Path:
    """A dataset folder as ``llmrec ingest`` writes it.

    Args:
        histories: item indices per user; the last is the test event, the one before it the
            validation event, unless not ``held_out``.
    """
    split: list[int] = []
    for row in histories:
        split += [TRAIN] * (len(row) - 2) + [VALIDATION, TEST] if held_out else [TRAIN] * len(row)
    flat_times = [None] * len(split) if times is None else [t for row in times for t in row]
    users = np.repeat(np.arange(len(histories)), [len(row) for row in histories])
    items = {
        "item_id": [f"i{n}" for n in range(n_items)],
        "title": [f"Thing number {n} of the shop" for n in range(n_items)],
    }
    events = {
        "user": pa.array(users, pa.int32()),
        "item": pa.array([item for row in histories for item in row], pa.int32()),
        "timestamp": pa.array(flat_times, pa.float64()),
        "split": pa.array(split, pa.int8()),
    }
    names = {"user_id": [f"u{n}" for n in range(len(histories))]}
    with writing(folder, Manifest("ingest", {}, counts={"events": len(split)})) as run:
        pq.write_table(pa.table(items), run.folder / "items.parquet")
        pq.write_table(pa.table(names), run.folder / "users.parquet")
        pq.write_table(pa.table(events), run.folder / "events.parquet")
    return folder


def write_item_ids(folder: Path, ids: ItemIds) -> Path:
    """A folder as ``llmrec index`` writes it."""
    with writing(folder, Manifest("index", {}, counts={"items": ids.n_items})) as run:
        ids.save(run.folder)
    return folder


def tiny_config(loop: dict[str, Any] | None = None, **changes: Any) -> Config:
    """Settings of a training run that takes a second."""
    steps = {"epochs": 2, "warmup_steps": 2, "tokens_per_batch": 256} | (loop or {})
    plain: dict[str, Any] = {"base": "nano", "content": {}, "dropout": 0.1, "max_items": 8}
    return Config(**(plain | changes), loop=LoopConfig(**steps))


@dataclass(frozen=True)
class Folders:
    """Inputs of ``llmrec train``: a dataset and two kinds of IDs for its items."""

    dataset: Path
    atomic: Path
    semantic: Path


def make_histories(users: int, n_items: int, seed: int = 0) -> list[list[int]]:
    """Walks along the catalogue, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in rng.integers(4, 10, users):
        steps = rng.choice([1, 2, 7], length, p=[0.7, 0.2, 0.1])
        rows.append(((rng.integers(n_items) + np.cumsum(steps)) % n_items).tolist())
    return rows
