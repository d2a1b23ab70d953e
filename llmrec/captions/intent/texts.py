"""What customers wrote or said: rows of a table, recordings transcribed, and the prompt."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrec.content.media.audio import windows
from llmrec.content.media.errors import MediaError
from llmrec.content.media.source import MediaSource
from llmrec.content.schema import Schema
from llmrec.data import raw_files
from llmrec.data.values import to_text
from llmrec.errors import ConfigError, DataError
from llmrec.prompts import load_template

KINDS = {"query": "question", "review": "review", "after_service": "talk with our service"}
MAX_CHARS = 1200  # of a text: what follows rarely helps
MAX_SECONDS = 300.0  # of a recording


@dataclass(frozen=True)
class CustomerText:
    """One text.

    Attributes:
        text_id: the shop's name of it, or else its row.
        kind: a key of :data:`KINDS`.
        user_id: who wrote it; empty where nobody knows.
        timestamp: seconds since 1970 UTC, or None.
        transcribed: whether it was spoken.
    """

    text_id: str
    kind: str
    text: str
    user_id: str = ""
    timestamp: float | None = None
    transcribed: bool = False


def prompt_of(text: CustomerText, schema: Schema) -> str:
    """What the model is asked: the same when it is trained and when it is used."""
    fields = ", ".join(name.replace("_", " ") for name in schema.names)
    words = " ".join(text.text.split())[:MAX_CHARS]
    return load_template("intent").render(kind=KINDS[text.kind], text=words, fields=fields)


def read_texts(
    path: Path, transcribe: Callable[[str], str] | None
) -> Iterator[CustomerText | tuple[str, str]]:
    """The texts of a table; in place of one that cannot be used its name and the reason.

    Columns: ``text``, or ``audio`` with a file's path; and where there are, ``text_id``, ``kind``
    (without it, query), ``user_id`` and ``timestamp``.

    Args:
        transcribe: gives the words of a recording; None where none may be asked for.

    Raises:
        DataError: for a malformed row, naming file and row.
        ConfigError: for a recording where no speech model was named.
    """
    seen = set()
    for row, record in raw_files.rows(path, (), {}):
        at = f"{path}: row {row}"
        values = {name: (to_text(record.get(name)) or "").strip() for name in _COLUMNS}
        text_id, kind = values["text_id"] or str(row), values["kind"] or "query"
        if kind not in KINDS:
            raise DataError(f"{at}: kind {kind[:40]!r} is not one of {', '.join(KINDS)}")
        if text_id in seen:
            raise DataError(f"{at}: text_id {text_id[:80]!r} occurs a second time; make it unique")
        seen.add(text_id)
        words, spoken = values["text"], False
        if not words and values["audio"]:
            if transcribe is None:
                raise ConfigError(f"{at}: is a recording; name a Whisper with --speech-model")
            try:
                words, spoken = transcribe(values["audio"]), True
            except MediaError as error:
                yield text_id, str(error)
                continue
        if not words:
            yield text_id, "nothing is said" if spoken else "no text"
            continue
        time = _seconds(values["timestamp"], at)
        yield CustomerText(text_id, kind, words, values["user_id"], time, spoken)


_COLUMNS = ("text_id", "kind", "text", "audio", "user_id", "timestamp")


def _seconds(value: str, at: str) -> float | None:
    if not value:
        return None
    try:
        return float(value)
    except ValueError:
        raise DataError(
            f"{at}: timestamp {value[:40]!r} is no number; give seconds since 1970 UTC"
        ) from None


def transcriber(model: str, root: Path, device: str) -> Callable[[str], str]:
    """Writes down the first minutes of a recording below a folder; Whisper is loaded once.

    Raises:
        ConfigError: if the model cannot transcribe.
    """
    from llmrec.content.features.speech_encoder import SpeechEncoder

    found: dict[str, Any] = {}

    def transcribe(place: str) -> str:
        with tempfile.TemporaryDirectory() as cache:
            file = MediaSource(root=root, cache=Path(cache)).read(place)
            recording = list(windows(file, max_seconds=MAX_SECONDS))
        if all(window.silent for window in recording):
            return ""
        if not found:
            found["whisper"] = SpeechEncoder(model, device=device)
            found["whisper"].with_decoder()
        return str(found["whisper"].transcribe(recording).text).strip()

    return transcribe
