"""A query in words, by a picture or by voice, as a vector of the image model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.content.media.audio import windows
from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.content.search.searcher import SearchIndex
from llmrec.errors import ConfigError, DataError

VOICE_SECONDS = 60.0  # of a recording, how much is transcribed


@dataclass(frozen=True, eq=False)
class SearchQuery:
    """One query.

    Attributes:
        kind: ``text``, ``image`` or ``voice``.
        given: the text, or the file or URL.
        vector: float32 ``[1, dim]``.
        transcript: of a voice.
    """

    kind: str
    given: str
    vector: np.ndarray
    transcript: str | None = None


def text_query(index: SearchIndex, text: str) -> SearchQuery:
    """A query in words.

    Raises:
        ConfigError: if there are none.
    """
    if not text.strip():
        raise ConfigError("--text: is empty; say what to look for")
    return SearchQuery("text", text, index.embed_text([text]))


def image_query(index: SearchIndex, place: str) -> SearchQuery:
    """A query by a picture, from a file or a URL.

    Raises:
        DataError: if the picture cannot be had or decoded, naming it.
    """
    with tempfile.TemporaryDirectory() as cache:
        try:  # before the model is loaded: a wrong file costs nothing
            picture = decode_image(_fetch(place, cache))
        except MediaError as error:
            raise DataError(f"--image {place}: {error}") from None
    return SearchQuery("image", place, index.encoder.encode([picture]))


def voice_query(
    index: SearchIndex, place: str, speech_model: str, device: str = "auto"
) -> SearchQuery:
    """A spoken query: the transcript of its first minute is a query in words.

    Raises:
        ConfigError: if the speech model has no decoder or cannot be loaded.
        DataError: if the recording cannot be had or decoded, or nothing is said in it.
    """
    transcript = transcribe(place, speech_model, device)
    return SearchQuery("voice", place, index.embed_text([transcript]), transcript)


def transcribe(place: str, speech_model: str, device: str = "auto") -> str:
    """The transcript of a file or URL; raises as :func:`voice_query`."""
    from llmrec.content.features.speech_encoder import SpeechEncoder

    with tempfile.TemporaryDirectory() as cache:
        try:  # before the model is loaded: a wrong file costs nothing
            recording = list(windows(_fetch(place, cache), max_seconds=VOICE_SECONDS))
        except MediaError as error:
            raise DataError(f"--voice {place}: {error}") from None
    text = ""
    if any(not window.silent for window in recording):
        encoder = SpeechEncoder(speech_model, device=device)
        if not encoder.can_transcribe:
            raise ConfigError(
                f"--speech-model: {speech_model!r} is only an audio encoder and cannot transcribe "
                "a query; give a Whisper with its decoder, a name such as base or a .pt file"
            )
        text = encoder.transcribe(recording).text.strip()
    if not text:
        raise DataError(f"--voice {place}: nothing is said in it; record the query again")
    return text


def _fetch(place: str, cache: str) -> Path | bytes:
    if "://" in place:
        return MediaSource(cache=Path(cache)).read(place)
    path = Path(place).expanduser().resolve()
    return MediaSource(root=path.parent).read(path.name)
