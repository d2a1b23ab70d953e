"""The models beside the language model that a service asks: for texts, pictures and speech.

What they are asked waits in a queue of its own and is answered one after the other, so that a long
recording holds up no list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from llmrec.content.features.speech_encoder import SpeechEncoder, Transcript
from llmrec.content.media.audio import AudioWindow, windows
from llmrec.content.media.errors import MediaError
from llmrec.content.search.query import VOICE_SECONDS
from llmrec.errors import ConfigError
from llmrec.serving.attachments import Attachments
from llmrec.serving.batching import Batcher
from llmrec.serving.bundle import Bundle
from llmrec.serving.media_inputs import MediaReader
from llmrec.serving.recommender import Recommender
from llmrec.serving.request import RecommendRequest
from llmrec.serving.settings import ServiceConfig

R = TypeVar("R")
TEXT, IMAGE, SPEECH = "llmrec-text", "llmrec-image", "llmrec-speech"  # names for requests


class SideModels:
    """Texts, pictures and speech of requests.

    Args:
        recommender: whose text model and search index to use.
        config: settings.
    """

    def __init__(self, recommender: Recommender, config: ServiceConfig) -> None:
        self._recommender, self.search = recommender, recommender.search
        self._speech_model = config.speech_model
        self.more_cards: dict[str, dict[str, Any]] = {}
        self.media = MediaReader(config.media_hosts, config.max_media, config.media_networks)
        self._queue: Batcher[Any, Any] = Batcher(lambda _: (), most=1, waiting=config.waiting)

    @property
    def bundle(self) -> Bundle:
        """As its catalogue is now."""
        return self._recommender.bundle

    @property
    def cards(self) -> dict[str, dict[str, Any]]:
        """Entries of ``/v1/models``, of those that there are."""
        there = {
            TEXT: (self.bundle.has_texts, "embed"),
            IMAGE: (self.search is not None, "embed"),
            SPEECH: (self._speech_model is not None, "transcribe"),
        }
        found = {
            name: {"id": name, "object": "model", "created": 0, "owned_by": "llmrec", "task": task}
            for name, (is_there, task) in there.items()
            if is_there
        }
        return found | self.more_cards

    async def run(self, function: Callable[[], R], seconds: float) -> R:
        """Run what asks these models, after what was asked before.

        Raises:
            BusyError, DeadlineError: if there is no room, or no answer in time.
        """
        return await self._queue.between(function, seconds)

    def close(self, seconds: float) -> None:
        """Answer what is queued, and end; what takes longer is left."""
        self._queue.close(seconds)

    def understood(
        self, request: RecommendRequest, attached: Attachments
    ) -> tuple[RecommendRequest, str | None]:
        """A request with what its pictures and recordings say, and the transcript.

        Raises:
            ConfigError: for what cannot be read, beginning with its field.
        """
        said = [self.voice_query(field, sound) for field, sound in attached.recordings]
        query = " ".join([request.query, *said]).strip()
        vector = self._vector(attached, query) if attached.pictures else None
        request = replace(request, query=query, query_vector=vector)
        return request, said[0] if said else None

    def voice_query(self, field: str, sound: str) -> str:
        """The words of a spoken query.

        Raises:
            ConfigError: if there are none, beginning with ``field``.
        """
        content = self.media.recording(field, sound)
        text = self.transcribe(field, content, VOICE_SECONDS)[0].text.strip()
        if not text:
            raise ConfigError(f"{field}: nothing is said in it; record the query again")
        return text

    def transcribe(
        self, field: str, sound: bytes, most_seconds: float, language: str | None = None
    ) -> tuple[Transcript, float]:
        """The transcript of a recording, and its seconds.

        Args:
            most_seconds: that it may be long.
            language: its code; None to find it out.

        Raises:
            ConfigError: if it cannot be read or is too long, beginning with ``field``.
        """
        speech = self._speech(field)
        _check_language(speech, language)
        recording = _decoded(field, sound, most_seconds)
        seconds = sum(window.seconds for window in recording)
        if all(window.silent for window in recording):
            return Transcript("", language or "", ()), seconds
        return speech.transcribe(recording, language=language), seconds

    def _vector(self, attached: Attachments, words: str) -> np.ndarray:
        field = attached.pictures[0][0]
        if self.search is None:
            raise ConfigError(
                f"{field}: no pictures are read here; start the service with --search-index"
            )
        pictures = [self.media.picture(field, place) for field, place in attached.pictures]
        return self.search.embed(pictures, words)

    def open_speech(self) -> None:
        """Open the speech model, where there is one, so that no request waits for it.

        Raises:
            ConfigError: if it cannot be loaded, or cannot transcribe.
        """
        if self._speech_model is not None:
            self._open_speech.with_decoder()

    def _speech(self, field: str) -> SpeechEncoder:
        if self._speech_model is None:
            raise ConfigError(
                f"{field}: no speech is read here; start the service with --speech-model "
                "whisper-base"
            )
        return self._open_speech

    @cached_property
    def _open_speech(self) -> SpeechEncoder:
        assert self._speech_model is not None
        return SpeechEncoder(self._speech_model)


def _decoded(field: str, sound: bytes, most_seconds: float) -> list[AudioWindow]:
    try:
        found = list(windows(sound, max_seconds=most_seconds + 1))
    except MediaError as error:
        raise ConfigError(f"{field}: {error}") from None
    if sum(window.seconds for window in found) > most_seconds:
        raise ConfigError(f"{field}: is longer than the {most_seconds:g} s that are read")
    return found


def _check_language(speech: SpeechEncoder, language: str | None) -> None:
    from whisper.tokenizer import LANGUAGES

    if language is None:
        return
    known = LANGUAGES if speech.with_decoder().is_multilingual else {"en": "english"}
    if language not in known:
        raise ConfigError(
            f"language: {language[:20]!r} is not known to {speech.model}; give a code"
        )
