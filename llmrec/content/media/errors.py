"""Why one file cannot be used.

::

    MediaError               its text is the reason, short enough for one line of a report
    ├── SourceError          the file cannot be had: missing, refused, or the server failed
    ├── TooLargeError        more bytes or pixels than allowed
    ├── UndecodableError     not what it should be, or damaged
    └── EmptyMediaError      whole, but nothing in it: no frame, no sound, silence

A stage over many files counts and skips these; anything else is a defect and ends it.
"""

from __future__ import annotations

from llmrec.errors import DataError

_REASON_CHARS = 200


class MediaError(DataError):
    """One picture, video or recording cannot be used."""


class SourceError(MediaError):
    """The file cannot be had."""


class TooLargeError(MediaError):
    """The file has more bytes or pixels than allowed."""


class UndecodableError(MediaError):
    """The file is damaged, or of a kind that is not read."""


class EmptyMediaError(MediaError):
    """There is nothing in the file."""


def one_line(error: BaseException) -> str:
    """A library's error as a reason: one line, bounded, never empty."""
    message = getattr(error, "strerror", None) or str(error)  # without the number and the file
    text = " ".join(message.split()) or type(error).__name__
    return text[:_REASON_CHARS]
