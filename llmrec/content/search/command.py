"""``llmrec search``: find items by words, a picture or voice.

llmrec search runs/shop/search_index --text "a red striped mug"
llmrec search runs/shop/search_index --image photo.jpg --n 5 --json
llmrec search runs/shop/search_index --voice query.wav --speech-model base
"""

from __future__ import annotations

import json as json_format
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.content.media.errors import MediaError, SourceError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.content.search.query import SearchQuery, image_query, text_query, voice_query
from llmrec.content.search.searcher import FoundItem, SearchIndex
from llmrec.errors import ConfigError
from llmrec.stage import read_manifest

if TYPE_CHECKING:
    from PIL.Image import Image

_CELL = 128  # pixels


def search(
    folder: Path,
    /,
    *,
    text: str | None = None,
    image: str | None = None,
    voice: str | None = None,
    n: int = 10,
    json: bool = False,
    sheet: Path | None = None,
    media_root: Path | None = None,
    image_model: str | None = None,
    speech_model: str | None = None,
    device: str = "auto",
) -> None:
    """Find items by words, a picture or voice, and print them.

    Args:
        folder: folder of ``llmrec search index``.
        text: words, such as 'a red striped mug'.
        image: file or URL of a picture to find the like of.
        voice: file or URL of a spoken query; its first minute is transcribed.
        n: how many items.
        json: print JSON, for programs.
        sheet: PNG of the pictures found, to draw as well.
        media_root: for the sheet, folder that the catalogue's paths are in.
        image_model: where the image model is now; None for where it was.
        speech_model: a Whisper, name or file; None for that of the media features.
        device: auto, cpu, cuda, cuda:1, ...

    Raises:
        ConfigError: for a flag that cannot be used.
        ArtifactError: if the folder or the model cannot be used.
        DataError: if the picture or the recording cannot be used.
    """
    given = {"text": text, "image": image, "voice": voice}
    kinds = [kind for kind, value in given.items() if value is not None]
    if len(kinds) != 1:
        flags = " and ".join(f"--{kind}" for kind in kinds) or "none"
        raise ConfigError(f"give one of --text, --image and --voice; got {flags}")
    if n < 1:
        raise ConfigError(f"--n: must be 1 or more, got {n}")
    if sheet is not None:
        _check_sheet(sheet, media_root)
    index = SearchIndex.load(folder, image_model=image_model, device=device)
    if text is not None:
        query = text_query(index, text)
    elif image is not None:
        query = image_query(index, image)
    else:
        model = speech_model or read_manifest(folder).config["speech_model"]
        query = voice_query(index, str(voice), model, device)
    results = index.search(query.vector, n)[0]
    if json:
        print(as_json(query, results))
    else:
        if query.transcript is not None:
            print(f"transcript: {query.transcript}")
        print(as_table(results))
    if sheet is not None and media_root is not None:
        for line in _draw_sheet(results, sheet, media_root):
            print(f"no picture of {line}", file=sys.stderr)
        print(f"wrote {sheet}", file=sys.stderr)  # stdout has the results alone


def as_table(results: Sequence[FoundItem]) -> str:
    """Rank, score, item id and title, in columns.

    >>> print(as_table([FoundItem(1, "mug-1", "Red  mug", 0.25, None)]))
    rank   score  item   title
       1  0.2500  mug-1  Red mug
    """
    width = max([4, *(len(result.item_id) for result in results)])
    lines = [f"rank   score  {'item':<{width}}  title"]
    for result in results:
        title = _printable(result.title) or "-"
        lines.append(f"{result.rank:>4}  {result.score:.4f}  {result.item_id:<{width}}  {title}")
    return "\n".join(lines)


def as_json(query: SearchQuery, results: Sequence[FoundItem]) -> str:
    """One JSON object: the query, a voice's ``transcript``, and ``results``."""
    found = [
        {"rank": r.rank, "item_id": r.item_id, "title": r.title, "score": round(r.score, 6)}
        for r in results
    ]
    voice = {} if query.transcript is None else {"transcript": query.transcript}
    whole = {"query": {query.kind: query.given}, **voice, "results": found}
    return json_format.dumps(whole, ensure_ascii=False, indent=2)


def _check_sheet(path: Path, media_root: Path | None) -> None:
    """Find a wrong ``--sheet`` before the search."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ConfigError(f"--sheet: {path} is no name of a PNG file; end it in .png")
    if media_root is None:
        raise ConfigError(
            "--sheet: needs --media-root, the folder that the catalogue's pictures are in"
        )
    if not media_root.is_dir():
        raise ConfigError(f"--media-root: {media_root} is no folder")


def _draw_sheet(results: Sequence[FoundItem], path: Path, media_root: Path) -> list[str]:
    """Draw the pictures found, in order; a grey square stands for one that cannot be drawn.

    Returns:
        One line for each item that has no picture, with the reason.
    """
    from PIL import Image

    from llmrec.metrics.contact_sheet import contact_sheet

    pictures, captions, missing = [], [], []
    with tempfile.TemporaryDirectory() as cache:
        source = MediaSource(root=media_root, cache=Path(cache))
        for result in results:
            try:
                picture = _picture(source, result)
            except MediaError as error:
                missing.append(f"{result.item_id}: {error}")
                picture = Image.new("RGB", (_CELL, _CELL), "lightgrey")
            pictures.append(picture)
            title = _printable(result.title) or result.item_id
            captions.append(f"{result.rank}. {result.score:.3f} {title}")
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, captions, cell=_CELL).save(path, format="PNG")
    return missing


def _picture(source: MediaSource, result: FoundItem) -> Image:
    if not result.image:
        raise SourceError("the catalogue names no picture")
    picture = decode_image(source.read(result.image))
    picture.thumbnail((_CELL, _CELL))  # a page of large photographs need not be held whole
    return picture


def _printable(text: str) -> str:
    """One line, without characters that would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
