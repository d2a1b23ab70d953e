"""New items for a model that knows others: their IDs, and rows of the tokens that these need.

A token of the item's own is a spare one, whose row is made by the item's content
(:func:`llmrec.content.new_items.values_by_content`). A semantic ID is made of codes that the model
knows, so there is no weight to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec.content.new_items import joined_blocks, values_by_content
from llmrec.errors import ConfigError
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.layout import read_layout

Blocks = Mapping[str, np.ndarray]


def add_items(
    folder: Path, names: Sequence[str], domains: Sequence[str], known: Blocks, new: Blocks
) -> None:
    """Add items to a model's folder, in place.

    Args:
        names, domains: the shop's identifiers of the new items, and their domains.
        known, new: feature blocks of the items that the model knows, and of the new ones; empty
            where there are no features.

    Raises:
        CatalogError: if no ID is left for an item.
        ConfigError: if the IDs are made of features that are not there.
    """
    ids, encoder = read_layout(folder)
    new_ids(ids, names, domains, new).save(folder / "item_ids")
    if ids.has_item_tokens:
        first = encoder.vocabulary.own_offset
        rows = slice(first, first + ids.n_items)
        of_known, of_new = joined_blocks(known, ids.n_items), joined_blocks(new, len(names))
        _write_rows(folder, rows, of_known, of_new)


def new_ids(ids: ItemIds, names: Sequence[str], domains: Sequence[str], new: Blocks) -> ItemIds:
    """IDs of a catalogue with more items.

    Args:
        names, domains, new: as for :func:`add_items`.

    Raises:
        CatalogError, ConfigError: as for :func:`add_items`.
    """
    n_items, known = len(names), names if ids.names else None
    missing = [name for name in ids.blocks if name not in new]
    if missing and ids.kind == "semantic":
        raise ConfigError(
            f"the item IDs are made of the features {', '.join(ids.blocks)}, and {missing[0]!r} "
            "is not known of new items: ingest them with the others and train again"
        )
    if missing:  # the tokens' vectors are not used to recommend
        return ids.assign_new(np.zeros((n_items, ids.token_vectors.shape[1])), known, domains)
    return ids.assign_new(ids.content(new, n_items), known, domains)


def token_tables(model: Any) -> list[torch.Tensor]:
    """The matrices ``[tokens, width]`` that have a row a token: one where they are tied, else those
    of input and output."""
    tables = [model.get_input_embeddings().weight]
    if not model.config.tie_word_embeddings:
        tables.append(model.get_output_embeddings().weight)
    return tables


@torch.no_grad()
def _write_rows(folder: Path, known: slice, known_content: np.ndarray, new: np.ndarray) -> None:
    """Write the rows of tokens that follow some known ones.

    Args:
        known: rows of the known items' tokens.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", local_files_only=True, trust_remote_code=False
    )
    for table in token_tables(model):
        rows = values_by_content(known_content, table[known].float().numpy(), new)
        table[known.stop : known.stop + len(rows)] = torch.from_numpy(rows).to(table.dtype)
    model.save_pretrained(folder)
