"""Semantic IDs start from what a model with atomic IDs has learned of the same items.

The weights of the network are taken over, and the rows of text. Each token of a semantic ID gets
the mean of its items' rows, less what their earlier tokens say, so that the rows of an ID add up to
about its item's. What is left to learn is to read and write an item in several tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from llmrec.errors import ConfigError
from llmrec.item_ids.continued import known_rows
from llmrec.item_ids.item_ids import ItemIds
from llmrec.item_ids.quantizer import content_codebooks
from llmrec.llm.layout import read_layout
from llmrec.llm.llama import from_folder
from llmrec.stage import read_manifest
from llmrec.training.model_inputs import is_earlier_model
from llmrec.training.next_item.next_item import LlamaNextItem

NAME = "train.start_from"


@torch.no_grad()
def start_from_atomic(model: LlamaNextItem, ids: ItemIds, folder: Path) -> None:
    """Give a fresh model the weights of one with atomic IDs.

    Args:
        model: of a size, with semantic IDs.
        ids: its item IDs, with names.
        folder: of the earlier model.

    Raises:
        ConfigError: if that has no atomic IDs of all these items, or another shape or vocabulary.
    """
    if not is_earlier_model(folder):
        raise ConfigError(f"{NAME}: {folder} is no folder of a model of llmrec train")
    old, encoder = read_layout(folder)
    if old.kind != "atomic":
        raise ConfigError(f"{NAME}: the IDs of {folder} are {old.kind}; give a model with atomic")
    rows = known_rows(old, ids.names, str(folder))
    if (rows < 0).any():
        unknown = ids.names[int(np.argmin(rows))]
        raise ConfigError(f"{NAME}: {folder} does not know {unknown!r}; train it on these items")
    before, layout = encoder.vocabulary, model.vocabulary
    if (before.base_size, before.time_fields) != (layout.base_size, layout.time_fields):
        raise ConfigError(f"{NAME}: {folder} has other text or time tokens; train it alike")
    earlier = from_folder(str(folder), before.size, torch.float32)
    body = {name: w for name, w in earlier.model.state_dict().items() if "embed_tokens" not in name}
    try:
        model.body.load_state_dict(body)
    except RuntimeError:
        raise ConfigError(f"{NAME}: {folder} has another shape; set the same base") from None
    # as exported, the row scale is in the table and out of the last norm
    scale = read_manifest(folder).counts.get("row_scale", 1.0)
    model.body.norm.weight *= scale
    table = earlier.get_input_embeddings().weight.detach() / scale
    model.other_rows.copy_(table[: before.item_offset])
    items = table[before.item_offset :][torch.from_numpy(rows)].numpy()
    tokens = np.concatenate(content_codebooks(items, ids.codes, ids.level_sizes))
    model.item_rows.start_from(torch.from_numpy(tokens))
    model.forget_rows()
