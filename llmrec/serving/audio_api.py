"""``POST /v1/audio/transcriptions``: speech as text, by Whisper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import FormData, UploadFile

from llmrec.content.features.speech_encoder import Segment, Transcript
from llmrec.errors import ConfigError
from llmrec.serving.limits import MAX_NAME
from llmrec.serving.openai_fields import UnknownFieldError
from llmrec.serving.service import ALIASES, Service, UnknownModelError
from llmrec.serving.side_models import SPEECH

Json = dict[str, Any]
MAX_SECONDS = 600.0  # of a recording
OPENAIS_NAME = "whisper-1"  # which clients send by themselves
FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
# parameters that change nothing here, with the values that ask for nothing
_HARMLESS = {
    "temperature": ("0", "0.0"),
    "prompt": ("",),
    "stream": ("false",),
    "timestamp_granularities[]": ("segment",),
    "chunking_strategy": ("auto",),
}
_FIELDS = ("file", "model", "language", "response_format", *_HARMLESS)
_FORM = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "of any audio format"},
        "model": {"type": "string"},
        "language": {"type": "string", "description": "its code, such as en"},
        "response_format": {"enum": list(FORMATS)},
        **{name: {"enum": list(values)} for name, values in _HARMLESS.items()},
    },
}
_BODY = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
_ANSWER: dict[int | str, Any] = {
    200: {
        "description": "The transcript.",
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["text"]}},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
}


def audio_router(service: Service) -> APIRouter:
    """The route."""
    router, side = APIRouter(tags=["Models"]), service.side

    @router.post(
        "/v1/audio/transcriptions", responses=_ANSWER, openapi_extra={"requestBody": _BODY}
    )
    async def transcriptions(http: Request) -> Response:
        seconds = service.seconds(http)
        if not http.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ConfigError("body: is no multipart/form-data with a file")
        async with http.form(max_files=1, max_fields=len(_FIELDS)) as form:
            sound, said = await _file(form), _fields(form)
        if said["model"] not in (*ALIASES, OPENAIS_NAME, SPEECH) or SPEECH not in side.cards:
            known = ", ".join(name for name in side.cards if name == SPEECH) or "none"
            raise UnknownModelError(
                f"model: {said['model'][:MAX_NAME]!r} is not served here; there is {known}"
            )
        language = said["language"] or None
        found, length = await side.run(
            lambda: side.transcribe("file", sound, MAX_SECONDS, language), seconds
        )
        return _ANSWERS[said["response_format"]](found, length)

    return router


def clock(seconds: float, mark: str) -> str:
    """A time of subtitles.

    >>> clock(3723.5, ",")
    '01:02:03,500'
    """
    whole, rest = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{rest:03}"


async def _file(form: FormData) -> bytes:
    found = form.get("file")
    if not isinstance(found, UploadFile):
        raise ConfigError("file: is missing; send the recording as a file of the form")
    content = await found.read()
    if not content:
        raise ConfigError("file: is empty")
    return content


def _fields(form: FormData) -> dict[str, str]:
    """The other fields of a form, each a text; "" for one that is not there.

    Raises:
        UnknownFieldError, ConfigError: for one that is not known, given twice or not done here.
    """
    said = {"model": "", "language": "", "response_format": "json"}
    for name, value in form.multi_items():
        if name not in _FIELDS:
            raise UnknownFieldError(f"{name[:MAX_NAME]}: is no field of a transcription")
        if len(form.getlist(name)) > 1:
            raise UnknownFieldError(f"{name}: is there twice")
        if name == "file":
            continue
        if not isinstance(value, str):
            raise UnknownFieldError(f"{name}: is a file, and no text")
        if name in said:
            said[name] = value
        elif value not in _HARMLESS[name]:
            may = " or ".join(map(repr, _HARMLESS[name]))
            raise UnknownFieldError(f"{name}: is not done here; leave it out, or give {may}")
    if said["response_format"] not in FORMATS:
        raise UnknownFieldError(f"response_format: is not one of {', '.join(FORMATS)}")
    return said


def _json(found: Transcript, seconds: float) -> Response:
    usage = {"type": "duration", "seconds": math.ceil(seconds)}
    return JSONResponse({"text": found.text, "usage": usage})


def _verbose(found: Transcript, seconds: float) -> Response:
    segments = [{"id": number, **vars(one)} for number, one in enumerate(found.segments)]
    return JSONResponse(
        {
            "task": "transcribe",
            "language": found.language,
            "duration": round(seconds, 2),
            "text": found.text,
            "segments": segments,
            "usage": {"type": "duration", "seconds": math.ceil(seconds)},
        }
    )


def _lines(segments: tuple[Segment, ...], mark: str) -> str:
    return "\n".join(
        f"{number}\n{clock(one.start, mark)} --> {clock(one.end, mark)}\n{one.text}\n"
        for number, one in enumerate(segments, start=1)
    )


_ANSWERS: dict[str, Callable[[Transcript, float], Response]] = {
    "json": _json,
    "verbose_json": _verbose,
    "text": lambda found, _: PlainTextResponse(f"{found.text}\n"),
    "srt": lambda found, _: PlainTextResponse(_lines(found.segments, ",")),
    "vtt": lambda found, _: PlainTextResponse(f"WEBVTT\n\n{_lines(found.segments, '.')}"),
}
