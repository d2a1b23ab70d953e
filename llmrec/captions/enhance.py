"""``llmrec enhance``: what a catalogue lacks, written by a text model: the LLM's part of LLM-EMF.

    llmrec enhance --dataset runs/shop/dataset --out runs/shop/enhanced
    llmrec embed --dataset runs/shop/dataset --enhanced runs/shop/enhanced --out runs/shop/features

From an item's own text a chat model writes key terms, a summary and who would want it
(``prompts/enhance.yaml``), as ``llmrec caption`` has a multimodal one write them from pictures.
The folder holds ``enhanced.jsonl``, a row an item in the order of the catalogue: ``item_id``,
``key_terms``, ``summary``, ``wanted_by``, and ``text`` of them all; empty for an item without text.
``llmrec embed --enhanced`` makes vectors of it, the block ``enhanced``.

What a model writes of a product may be wrong: it is for vectors, not for customers to read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.captions.prompting import ModelInput, catalogue_text, enhance_schema, known_words
from llmrec.captions.responses import read_enhanced
from llmrec.config import as_dict, check_ranges
from llmrec.content.features.models import weights_hash
from llmrec.content.features.text import ENHANCED, ENHANCED_STAGE
from llmrec.content.shards import Shards
from llmrec.data.dataset import Dataset
from llmrec.errors import DataError
from llmrec.jsonl import read_jsonl, write_jsonl
from llmrec.loop.bars import ProgressBar
from llmrec.prompts import load_template
from llmrec.stage import Manifest, StageRun, input_hashes, run_stage
from llmrec.types import Item
from llmrec.weights.locate import locate

Row = dict[str, Any]
SHARD_ITEMS = 256
LEAST_CONTEXT = 1024  # tokens: the text of an item, the prompt around it, the answer


@dataclass(frozen=True)
class EnhanceConfig:
    """Settings of ``llmrec enhance``.

    Attributes:
        model: folder, hub id or short name of a chat model.
        max_tokens: limit of what is written of an item.
        device: auto, cpu, cuda, cuda:1, ...
        batch_size: items that are written of at once.
    """

    model: str = "smollm2-135m"
    max_tokens: int = 160
    device: str = "auto"
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "max_tokens", "batch_size")


def run(config: EnhanceConfig, dataset: Path, out: Path) -> Path:
    """Write what the catalogue of ``dataset`` lacks into the folder ``out``.

    Args:
        config: settings.
        dataset: folder of ``llmrec ingest``.
        out: folder to write; a run that was killed goes on.

    Raises:
        ArtifactError, ConfigError: if the model cannot be used.
        DataError: if no item has any text.
    """
    inputs = input_hashes(dataset=dataset)
    inputs["model"] = weights_hash(locate(config.model, "language model", "model"))
    settings = as_dict(config) | {"prompt": load_template("enhance").text}
    del settings["batch_size"], settings["device"]  # they change how fast it is, nothing else

    def work(stage: StageRun) -> None:
        data = Dataset(dataset)
        items = [data.item(row) for row in range(data.n_items)]
        if not any(map(catalogue_text, items)):
            raise DataError(f"{dataset}: no item has any text to enhance")
        shards = Shards(stage.folder)
        written = _write_all(shards, items, config)
        stage.counts |= {
            "items": len(items),
            "without_text": sum(not catalogue_text(item) for item in items),
            "with_summary": sum(bool(row["summary"]) for row in written),
        }
        write_jsonl(stage.folder / ENHANCED, written)
        shards.remove()

    return run_stage(out, Manifest(ENHANCED_STAGE, settings, inputs), work, resume=True)


def _write_all(shards: Shards, items: Sequence[Item], config: EnhanceConfig) -> list[Row]:
    """The rows of all items; a shard that an earlier try finished is read back."""
    from llmrec.captions.chat_model import ChatModel

    model, done = None, min(len(items), SHARD_ITEMS * len(shards.folders()))
    with ProgressBar(total=len(items), initial=done, unit="item", desc=ENHANCED_STAGE) as progress:
        for number, start in enumerate(range(0, len(items), SHARD_ITEMS)):
            if shards.has(number):
                continue
            if model is None:  # not loaded at all when every shard is there
                model = ChatModel(config.model, least_context=LEAST_CONTEXT, device=config.device)
                grammar = model.grammar(json.dumps(enhance_schema()))
            rows = []
            part = items[start : start + SHARD_ITEMS]
            for first in range(0, len(part), config.batch_size):
                batch = part[first : first + config.batch_size]
                rows += _rows(model, grammar, batch, config.max_tokens)
                progress.update(len(batch))
            with shards.writing(number) as folder:
                write_jsonl(folder / ENHANCED, rows)
    return [row for folder in shards.folders() for row in read_jsonl(folder / ENHANCED)]


def _rows(model: Any, grammar: Any, items: Sequence[Item], limit: int) -> list[Row]:
    texts = [catalogue_text(item) for item in items]
    known = [row for row, text in enumerate(texts) if text]
    template = load_template("enhance")
    prompts = [template.render(known=known_words(ModelInput(text=texts[row]))) for row in known]
    written = model.write(prompts, grammar, limit) if prompts else []
    answers = {row: read_enhanced(one.text) for row, one in zip(known, written, strict=True)}
    empty = read_enhanced("{")
    return [_row(item, answers.get(row, empty)) for row, item in enumerate(items)]


def _row(item: Item, found: Mapping[str, Any]) -> Row:
    """
    >>> _row(Item("1"), {"key_terms": ["red"], "summary": "A mug.", "wanted_by": None})["text"]
    'red. A mug.'
    """
    parts = [", ".join(found["key_terms"]), found["summary"], found["wanted_by"]]
    text = ". ".join(part for part in parts if part)
    return {"item_id": item.item_id, **found, "text": text}
