"""Text, pictures and recordings in the parts of a message, as OpenAI's routes have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmrec.errors import ConfigError
from llmrec.serving.media_inputs import MAX_PICTURES

MAX_RECORDINGS = 1  # of a request

# type of a part -> the field that holds it: of chat, and of responses
TEXTS = {"text": "text", "input_text": "text", "output_text": "text"}
PICTURES = {"image_url": "image_url", "input_image": "image_url"}
RECORDINGS = {"input_audio": "input_audio"}
# what a part may have beside these two, with the values that ask for nothing
_BESIDE: dict[str, tuple[Any, ...]] = {
    "detail": ("auto", None),
    "annotations": ([],),
    "logprobs": ([], None),
}


@dataclass(frozen=True)
class Attachments:
    """What of a request is no text.

    Attributes:
        pictures: field and URL of each.
        recordings: field and base64 of each.
    """

    pictures: tuple[tuple[str, str], ...] = ()
    recordings: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pictures or self.recordings)


def read_parts(parts: Iterable[Any], field: str) -> tuple[str, Attachments]:
    """The text of a message, and what else is in it.

    Args:
        field: of the request, for messages.

    Raises:
        ConfigError: for a part that is not read, naming it.
    """
    texts, pictures, recordings = list[str](), list[tuple[str, str]](), list[tuple[str, str]]()
    for number, part in enumerate(parts):
        where = f"{field}[{number}]"
        kind = part.get("type") if isinstance(part, Mapping) else None
        known = TEXTS | PICTURES | RECORDINGS
        if kind not in known:
            raise ConfigError(
                f"{where}: parts of type {str(kind)[:50]!r} are not read; there is "
                f"{', '.join(known)}"
            )
        _check_beside(part, {"type", known[kind]}, where)
        held, where = part.get(known[kind]), f"{where}.{known[kind]}"
        if kind in TEXTS:
            texts.append(_text(held, where))
        elif kind in PICTURES:
            pictures.append((where, _url(held, where)))
        else:
            recordings.append((where, _sound(held, where)))
    for name, found, most in (
        ("pictures", pictures, MAX_PICTURES),
        ("recordings", recordings, MAX_RECORDINGS),
    ):
        if len(found) > most:
            raise ConfigError(f"{field}: has {len(found)} {name}; at most {most} are read")
    return " ".join(texts).strip(), Attachments(tuple(pictures), tuple(recordings))


def _check_beside(part: Mapping[str, Any], known: set[str], where: str) -> None:
    for name, value in part.items():
        if name not in known and (name not in _BESIDE or value not in _BESIDE[name]):
            raise ConfigError(f"{where}.{name[:50]}: is not done here; leave it out")


def _text(held: Any, where: str) -> str:
    if not isinstance(held, str):
        raise ConfigError(f"{where}: is no text")
    return held


def _url(held: Any, where: str) -> str:
    """A URL, or, as in chat, an object with it."""
    if isinstance(held, Mapping):
        _check_beside(held, {"url"}, where)
        held = held.get("url")
    return _text(held, where)


def _sound(held: Any, where: str) -> str:
    """The base64 of a recording; its form is found out from the bytes, whatever is said."""
    if not isinstance(held, Mapping):
        raise ConfigError(f"{where}: is no object with data and format")
    _check_beside(held, {"data", "format"}, where)
    return _text(held.get("data"), f"{where}.data")
