"""Pictures in a grid with words below each: what a captioner read, and its captions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.errors import ConfigError, require

if TYPE_CHECKING:
    from PIL import Image

_GAP = 8  # pixels around every cell
_FONT = 11


def contact_sheet(
    pictures: Sequence[Image.Image | str | Path],
    captions: Sequence[str],
    *,
    columns: int = 6,
    cell: int = 128,
    lines: int = 2,
) -> Image.Image:
    """One RGB image that shows all pictures, row by row.

    Args:
        pictures: images or files; each is fitted into a square of ``cell`` pixels.
        captions: one text a picture; a line break starts a line, a longer text is wrapped.
        columns: cells in a row.
        lines: how many lines of a caption are shown; what is cut ends in "...".

    Raises:
        ConfigError: if there is nothing to show, or not one caption a picture.
        MissingExtraError: without Pillow.
    """
    require("PIL", "media")
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    if not pictures or len(pictures) != len(captions):
        raise ConfigError(
            f"a contact sheet needs pictures and one caption for each; "
            f"got {len(pictures)} pictures and {len(captions)} captions"
        )
    columns = min(columns, len(pictures))
    wide, high = cell + _GAP, cell + _GAP + lines * (_FONT + 3)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * high + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_FONT)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = _GAP + index % columns * wide, _GAP + index // columns * high
        if not isinstance(picture, Image.Image):
            with Image.open(picture) as file:
                picture = file.convert("RGB")
        sheet.paste(ImageOps.pad(picture, (cell, cell), color="white"), (left, top))
        text = _fit(caption, width=max(int(cell / (_FONT * 0.56)), 4), lines=lines)
        pen.multiline_text((left, top + cell + 1), text, fill="black", font=font, spacing=2)
    return sheet


def _fit(caption: str, width: int, lines: int) -> str:
    wrapped = [piece for line in caption.splitlines() for piece in textwrap.wrap(line, width)]
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1][: width - 3] + "..."]
    return "\n".join(wrapped)
