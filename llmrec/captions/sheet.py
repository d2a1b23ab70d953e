"""A contact sheet of captions: each item's picture with its caption below."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from llmrec.captions.table import load_captions
from llmrec.captions.truth import read_truth
from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.content.schema import Schema
from llmrec.data.dataset import Dataset
from llmrec.errors import CatalogError
from llmrec.metrics.contact_sheet import contact_sheet

_CAPTION_CHARS = 80  # what is wrong has to fit below


def write_sheet(
    captions: Path,
    dataset: Dataset,
    media_root: Path | None,
    path: Path,
    *,
    items: int = 24,
    truth: Path | None = None,
    split: str | None = None,
) -> Path:
    """Draw captioned items that have a picture; with a truth file, only those that it holds.

    Args:
        captions: folder of ``llmrec caption``.
        dataset: what was captioned.
        media_root: where paths of the catalogue start.
        path: PNG to write.
        items: how many, evenly spread over the table.
        truth: true values, see :mod:`llmrec.captions.truth`; wrong ones are marked.
        split: of the truth, whose items alone are drawn; None for all.

    Raises:
        CatalogError: if no captioned item has a picture that can be opened.
        DataError: for a truth file that cannot be read.
    """
    table, schema = load_captions(captions)
    known = {} if truth is None else read_truth(truth, schema, split)
    images = dict(zip(dataset.item_ids, dataset.items["image"].to_pylist(), strict=True))
    rows = [
        row
        for row in table.to_pylist()
        if row["caption"] and images.get(row["item_id"]) and (not known or row["item_id"] in known)
    ]
    source = MediaSource(media_root)
    pictures, texts = [], []
    for row in rows[:: max(1, len(rows) // items)][:items]:
        try:
            pictures.append(decode_image(source.read(images[row["item_id"]])))
        except MediaError:
            continue  # it is in the stage's own list of what was skipped
        texts.append(_below(row, schema, known.get(row["item_id"], {})))
    if not pictures:
        raise CatalogError(f"{captions}: no captioned item has a picture to draw")
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, texts, cell=160, lines=8).save(path)
    return path


def _below(row: dict[str, Any], schema: Schema, truth: dict[str, str]) -> str:
    """The caption, then what is wrong: ``WRONG colour: red, not blue``; or how many are right."""
    wrong = [
        f"WRONG {name}: {row[name]}, not {true}"
        for name, true in truth.items()
        if row[name] != true
    ]
    caption = textwrap.shorten(row["caption"], _CAPTION_CHARS, placeholder="...")
    if not truth:
        values = [row[name] for name in schema.names if row[name]]
        return "\n".join([caption, " / ".join(values)])
    return "\n".join([caption, f"{len(truth) - len(wrong)} of {len(truth)} right", *wrong])
