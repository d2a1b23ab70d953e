"""Answers as a table for people, JSON for programs, or a sheet of pictures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.content.media.errors import MediaError, SourceError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.content.search.question import Question
from llmrec.content.search.searcher import Answer
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

_CELL = 128  # pixels


def as_table(answers: Sequence[Answer]) -> str:
    """Rank, score, item id and title, in columns.

    >>> print(as_table([Answer(1, "m1", "Red  mug", 0.25, None), Answer(2, "m20", "", 0.2, None)]))
    rank   score  item  title
       1  0.2500  m1    Red mug
       2  0.2000  m20   -
    """
    width = max([4, *(len(answer.item_id) for answer in answers)])
    lines = [f"rank   score  {'item':<{width}}  title"]
    for answer in answers:
        title = _printable(answer.title) or "-"
        lines.append(f"{answer.rank:>4}  {answer.score:.4f}  {answer.item_id:<{width}}  {title}")
    return "\n".join(lines)


def as_json(question: Question, answers: Sequence[Answer]) -> str:
    """One JSON object: the query, a voice's ``transcript``, and ``answers``."""
    found = [
        {"rank": a.rank, "item_id": a.item_id, "title": a.title, "score": round(a.score, 6)}
        for a in answers
    ]
    said = {} if question.transcript is None else {"transcript": question.transcript}
    whole = {"query": {question.kind: question.given}, **said, "answers": found}
    return json.dumps(whole, ensure_ascii=False, indent=2)


def write_sheet(answers: Sequence[Answer], path: Path, media_root: Path) -> list[str]:
    """Draw the pictures found, in order; a grey square stands for one that cannot be shown.

    Args:
        path: the PNG to write.
        media_root: the folder that the catalogue's paths are in.

    Returns:
        One line for each item that has no picture to show, with the reason.

    Raises:
        ConfigError: if ``path`` is no PNG's name, or ``media_root`` no folder.
    """
    from PIL import Image

    from llmrec.metrics.contact_sheet import contact_sheet

    check_sheet(path, media_root)
    pictures, captions, missing = [], [], []
    with tempfile.TemporaryDirectory() as cache:
        source = MediaSource(root=media_root, cache=Path(cache))
        for answer in answers:
            try:
                picture = _picture(source, answer)
            except MediaError as error:
                missing.append(f"{answer.item_id}: {error}")
                picture = Image.new("RGB", (_CELL, _CELL), "lightgrey")
            pictures.append(picture)
            title = _printable(answer.title) or answer.item_id
            captions.append(f"{answer.rank}. {answer.score:.3f} {title}")
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, captions, cell=_CELL).save(path, format="PNG")
    return missing


def check_sheet(path: Path, media_root: Path | None) -> None:
    """Find a wrong ``--sheet`` before the search.

    Raises:
        ConfigError: naming the flag.
    """
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ConfigError(f"--sheet: {path} is no name of a PNG file; end it in .png")
    if media_root is None or not media_root.is_dir():
        raise ConfigError(
            "--sheet: needs --media-root, the folder that the catalogue's pictures are in"
            if media_root is None
            else f"--media-root: {media_root} is no folder"
        )


def _picture(source: MediaSource, answer: Answer) -> Image:
    if not answer.image:
        raise SourceError("the catalogue names no picture")
    picture = decode_image(source.read(answer.image))
    picture.thumbnail((_CELL, _CELL))  # a page of large photographs need not be held whole
    return picture


def _printable(text: str) -> str:
    """One line, without characters that would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
