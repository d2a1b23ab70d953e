"""Pictures and recordings that come with a request: in the request, or at a URL of an allowed host.

A URL of a request is a stranger's: it is read of the hosts that the service was told alone, which
must have a public address, and no redirect is followed.
"""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmrec.content.media.download import MediaLimits
from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.media.source import MediaSource
from llmrec.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 40_000_000  # of a picture
MAX_PICTURES = 4  # of a request
_DATA = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*?;base64,", re.ASCII)
_TIMEOUT, _DEADLINE = 5.0, 10.0  # seconds for an answer of a host, and for a whole picture


@dataclass(frozen=True)
class MediaReader:
    """Reads what requests bring.

    Attributes:
        hosts: names of hosts that pictures may be fetched from.
        max_bytes: of one file.
        networks: networks of these hosts that may be reached although they are not public.
    """

    hosts: Sequence[str] = ()
    max_bytes: int = 1 << 23
    networks: tuple[str, ...] = ()

    def picture(self, field: str, place: str) -> Image:
        """A decoded picture.

        Args:
            field: of the request, for messages.
            place: a ``data:`` URL, or one of an allowed host.

        Raises:
            ConfigError: if it cannot be had or decoded, beginning with ``field``.
        """
        try:
            return decode_image(self._read(field, place), max_pixels=MAX_PIXELS)
        except MediaError as error:
            raise ConfigError(f"{field}: {error}") from None

    def recording(self, field: str, text: str) -> bytes:
        """The bytes of a recording that is in the request, as base64 or a ``data:`` URL.

        Raises:
            ConfigError: if it is neither, beginning with ``field``.
        """
        return self._decoded(field, text)

    def _read(self, field: str, place: str) -> bytes:
        if not re.match("https?://", place, re.IGNORECASE):
            if not place.startswith("data:"):
                raise ConfigError(f"{field}: is neither a data: URL nor one of http or https")
            return self._decoded(field, place)
        try:
            host = urlsplit(place).hostname or ""
        except ValueError:
            raise ConfigError(f"{field}: is no URL") from None
        if host not in self.hosts:
            raise ConfigError(
                f"{field}: URLs of {host[:100]!r} are not read here; send the picture as a data: "
                "URL, or start the service with --media-hosts"
            )
        limits = MediaLimits(self.max_bytes, _TIMEOUT, _DEADLINE, 0, self.networks)
        with tempfile.TemporaryDirectory() as cache:
            found = MediaSource(cache=Path(cache), limits=limits).read(place)
            return found if isinstance(found, bytes) else found.read_bytes()

    def _decoded(self, field: str, text: str) -> bytes:
        head = _DATA.match(text[:200])
        if text.startswith("data:") and head is None:
            raise ConfigError(f"{field}: is no data: URL with base64")
        try:
            found = base64.b64decode(text[head.end() if head else 0 :], validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{field}: is no base64") from None
        if not 0 < len(found) <= self.max_bytes:
            raise ConfigError(
                f"{field}: has {len(found):,} bytes; 1 to {self.max_bytes:,} are read"
            )
        return found
