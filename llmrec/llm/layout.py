"""``llmrec.json`` of a model's folder: how to make its prompts, so that serving equals training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmrec.config import build, convert
from llmrec.errors import ArtifactError, ConfigError, one_line
from llmrec.item_ids.item_ids import ItemIds
from llmrec.jsonl import read_json
from llmrec.llm.vocabulary import HistoryEncoder, Vocabulary
from llmrec.prompts import Template
from llmrec.stage import reading

LAYOUT = "llmrec.json"
_TYPES: dict[str, Any] = {
    "base_size": int,
    "time_fields": list[str],
    "prefix": list[int],
    "max_items": int,
}
ADAPTERS = "adapters"  # folder of a bundle, beside that of the model


def read_layout(folder: Path) -> tuple[ItemIds, HistoryEncoder]:
    """The item IDs of a model's folder, and the encoder of its prompts.

    Raises:
        ArtifactError: if a file is missing, damaged, or they do not fit together.
    """
    try:
        layout = read_json(folder / LAYOUT)
        typed = {name: convert(layout[name], hint, name) for name, hint in _TYPES.items()}
        ids = ItemIds.load(folder / "item_ids")
        vocabulary = Vocabulary.of(typed["base_size"], typed["time_fields"], ids)
        return ids, HistoryEncoder(vocabulary, ids, typed["prefix"], typed["max_items"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ArtifactError(f"{folder}: not a trained llmrec model ({one_line(error)})") from None


def read_template(folder: Path) -> Template:
    """The history prompt that a model was trained with.

    Raises:
        ArtifactError: if the layout is missing or damaged.
    """
    with reading(folder / LAYOUT, "llmrec train"):
        return build(Template, read_json(folder / LAYOUT)["template"], str(folder / LAYOUT))


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
