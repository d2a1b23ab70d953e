"""An earlier model on a newer dataset: what it knows stays, new items get rows.

Text and time tokens keep their place. Items are matched by the shop's identifiers: a known item's
row goes with it, a new one's is made by content
(:func:`llmrec.content.new_items.values_by_content`), and semantic IDs keep their codes and rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.content.features.blocks import load_blocks
from llmrec.content.new_items import joined_blocks, values_by_content
from llmrec.data.dataset import Dataset
from llmrec.errors import ConfigError
from llmrec.item_ids.continued import continued_ids, known_rows
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import read_layout, read_template
from llmrec.llm.llama import from_folder
from llmrec.llm.tokenizer import add_tokens, load_tokenizer
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.training.next_item.expanded import ExpandedTokenizer, prompt_prefix

Blocks = Mapping[str, np.ndarray]


def ids_for(folder: Path, dataset: Dataset, features: Path | None) -> ItemIds:
    """IDs of a dataset's items that go on from those of a model.

    Raises:
        ConfigError, CatalogError: as for :func:`~llmrec.item_ids.continued.continued_ids`.
    """
    blocks = None if features is None else load_blocks(features)
    old = ItemIds.load(folder / "item_ids")
    return continued_ids(old, dataset.item_ids, blocks, str(folder), dataset.item_domains)


def continued(
    folder: Path,
    ids: ItemIds,
    features: Path | None,
    *,
    prompt: str | None = None,
    max_items: int | None = None,
    dtype: Any = torch.float32,
) -> tuple[Any, ExpandedTokenizer]:
    """An earlier model for the items of other IDs.

    Args:
        folder: of the model.
        ids: of the items now, with names.
        features: folder of llmrec embed of these items; None: new ones start at the mean.
        prompt: template of the history prompt, by name or path; that of the model by default.
        max_items: newest events of a history that are in a prompt; as the model has it by default.
        dtype: of the weights.

    Returns:
        the causal LM, and its tokenizer and encoder of histories.

    Raises:
        ConfigError: if the IDs do not go on from those of the model.
    """
    old, encoder = read_layout(folder)
    known = known_rows(old, ids.names, str(folder))
    _check(folder, old, ids, known)
    layout = encoder.vocabulary
    vocabulary = Vocabulary.of(layout.base_size, layout.time_fields, ids)
    tokenizer = load_tokenizer(str(folder))
    added = ids.token_strings()[old.n_tokens :]
    if added:
        add_tokens(tokenizer, added, layout.size)
    template, prefix = read_template(folder), encoder.prefix.tolist()
    if prompt is not None:
        template, prefix = prompt_prefix(tokenizer, prompt)
    most = encoder.max_items if max_items is None else max_items
    now = HistoryEncoder(vocabulary, ids, prefix, most)
    model = from_folder(str(folder), vocabulary.size, dtype)
    if ids.has_item_tokens:
        blocks = {} if features is None else load_blocks(features)
        _move_rows(model, layout.own_offset, known, joined_blocks(blocks, ids.n_items))
    return model, ExpandedTokenizer(tokenizer, vocabulary, now, template, ids)


def _check(folder: Path, old: ItemIds, ids: ItemIds, known: np.ndarray) -> None:
    again = f"run llmrec index with --base {folder}"
    if ids.kind != old.kind:
        raise ConfigError(f"item_ids: are {ids.kind}, those of {folder} {old.kind}; {again}")
    if ids.domains != old.domains:
        raise ConfigError(f"item_ids: have other domains than {folder}; {again}")
    if ids.has_item_tokens:
        if ids.n_tokens < old.n_tokens:
            raise ConfigError(
                f"item_ids: have {ids.n_tokens} tokens, {folder} has {old.n_tokens}; {again}"
            )
        return
    rows = np.flatnonzero(known >= 0)
    if ids.level_sizes != old.level_sizes:
        raise ConfigError(f"item_ids: have other codes than {folder}; {again}")
    changed = (ids.codes[rows] != old.codes[known[rows]]).any(axis=1)
    if changed.any():
        name = ids.names[rows[np.argmax(changed)]]
        raise ConfigError(f"item_ids: give {name!r} another ID than {folder} does; {again}")


@torch.no_grad()
def _move_rows(model: Any, offset: int, known: np.ndarray, content: np.ndarray) -> None:
    """Bring the rows of item tokens to where their items are now.

    Args:
        offset: of the items' own tokens.
        known: int64 ``[items]``, each item's place before; -1 for new ones.
        content: float32 ``[items, c]``.
    """
    tables = [model.get_input_embeddings().weight]
    if not model.config.tie_word_embeddings:
        tables.append(model.get_output_embeddings().weight)
    is_known, n_items = known >= 0, len(known)
    for table in tables:
        rows = table[offset:].float().numpy()
        moved = np.empty((n_items, rows.shape[1]), np.float32)
        moved[is_known] = rows[known[is_known]]
        if not is_known.all():
            moved[~is_known] = values_by_content(
                content[is_known], moved[is_known], content[~is_known]
            )
        table[offset : offset + n_items] = torch.from_numpy(moved).to(table.dtype)
        table[offset + n_items :] = table[offset : offset + n_items].mean(0)
