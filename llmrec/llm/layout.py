"""``llmrec.json`` of a model's folder: how to make its prompts, so that serving equals training."""

from __future__ import annotations

import json
from pathlib import Path

from llmrec.errors import ArtifactError, one_line
from llmrec.item_ids.item_ids import ItemIds
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import Template

LAYOUT = "llmrec.json"
ADAPTERS = "adapters"  # folder of a bundle, beside that of the model


def read_layout(folder: Path) -> tuple[ItemIds, HistoryEncoder]:
    """The item IDs of a model's folder, and the encoder of its prompts.

    Raises:
        ArtifactError: if a file is missing, damaged, or they do not fit together.
    """
    try:
        layout = json.loads((folder / LAYOUT).read_text(encoding="utf-8"))
        ids = ItemIds.load(folder / "item_ids")
        vocabulary = Vocabulary.of(layout["base_size"], layout["time_fields"], ids)
        return ids, HistoryEncoder(vocabulary, ids, layout["prefix"], layout["max_items"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}: not a trained llmrec model ({one_line(error)})") from None


def save_layout(
    folder: Path, vocabulary: Vocabulary, template: Template, prefix: list[int], max_items: int
) -> None:
    """Write ``llmrec.json``: everything needed to encode a history as in training."""
    layout = {
        "base_size": vocabulary.base_size,
        "time_fields": vocabulary.time_fields,
        "template": vars(template),
        "prefix": prefix,
        "max_items": max_items,
    }
    (folder / LAYOUT).write_text(json.dumps(layout, indent=2) + "\n", encoding="utf-8")
