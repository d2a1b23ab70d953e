"""What is asked, in words, by a picture or by voice, as a vector of the image model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmrec.content.media.audio import windows
from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.content.search.searcher import SearchIndex
from llmrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

QUESTION_SECONDS = 60.0  # of a recording, how much is listened to


@dataclass(frozen=True, eq=False)
class Question:
    """One query.

    Attributes:
        kind: ``text``, ``image`` or ``voice``.
        given: the text, or the file or URL.
        vector: float32 ``[1, dim]``.
        transcript: what was said, of a voice.
    """

    kind: str
    given: str
    vector: np.ndarray
    transcript: str | None = None


def ask_text(index: SearchIndex, text: str) -> Question:
    """A question in words.

    Raises:
        ConfigError: if there are none.
    """
    if not text.strip():
        raise ConfigError("--text: is empty; say what to look for")
    return Question("text", text, index.embed_text([text]))


def ask_image(index: SearchIndex, place: str) -> Question:
    """A question by a picture, from a file or a URL.

    Raises:
        DataError: if the picture cannot be had or decoded, naming it.
    """
    picture = read_picture(place)  # before the model is loaded: a wrong file costs nothing
    return Question("image", place, index.encoder.encode([picture]))


def ask_voice(index: SearchIndex, place: str, speech_model: str, device: str = "auto") -> Question:
    """A spoken question: its first minute is written down, then asked as text.

    Raises:
        ConfigError: if the speech model has no decoder or cannot be loaded.
        DataError: if the recording cannot be had or decoded, or nothing is said in it.
    """
    said = transcribe(place, speech_model, device)
    return Question("voice", place, index.embed_text([said]), said)


def transcribe(place: str, speech_model: str, device: str = "auto") -> str:
    """What is said in a file or URL; raises as :func:`ask_voice`."""
    from llmrec.content.features.speech_encoder import SpeechEncoder

    with tempfile.TemporaryDirectory() as cache:
        try:  # before the model is loaded: a wrong file costs nothing
            recording = list(windows(_fetched(place, cache), max_seconds=QUESTION_SECONDS))
        except MediaError as error:
            raise DataError(f"--voice {place}: {error}") from None
    text = ""
    if any(not window.silent for window in recording):
        encoder = SpeechEncoder(speech_model, device=device)
        if not encoder.can_transcribe:
            raise ConfigError(
                f"--speech-model: {speech_model!r} is only an audio encoder and cannot write down "
                "a question; give a Whisper with its decoder, a name such as base or a .pt file"
            )
        text = encoder.transcribe(recording).text.strip()
    if not text:
        raise DataError(f"--voice {place}: nothing is said in it; record the question again")
    return text


def read_picture(place: str) -> Image:
    """The picture in a file or behind a URL.

    Raises:
        DataError: if it cannot be had or decoded, naming it.
    """
    with tempfile.TemporaryDirectory() as cache:
        try:
            return decode_image(_fetched(place, cache))
        except MediaError as error:
            raise DataError(f"--image {place}: {error}") from None


def _fetched(place: str, cache: str) -> Path | bytes:
    if "://" in place:
        return MediaSource(cache=Path(cache)).read(place)
    path = Path(place).expanduser().resolve()
    return MediaSource(root=path.parent).read(path.name)
