"""The next page of the same list: a cursor that says what was shown, and when the first page was.

A page is the list of the same request, as of the time of the first page, longer by the items that
were shown, and without these. So pages one after the other are one long list, whatever happens
meanwhile no item comes twice, and any service over the bundle can continue what another began.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from llmrec.errors import ConfigError
from llmrec.serving.request import RecommendRequest, RecommendResponse

MOST_SHOWN = 500  # items of all pages of a list
MAX_CURSOR = 4096  # characters
_HEAD = struct.Struct("<B8sd")
_FORMAT = 1
_WRONG = "cursor: is none that a list here ended with; ask for the first page again"
_OTHER = "cursor: is of another request, or of another bundle; ask for the first page again"


@dataclass(frozen=True, eq=False)
class Page:
    """Where a page begins.

    Attributes:
        shown: int64, item indices of the pages before.
        began: when the first page was made, seconds since 1970 UTC.
    """

    shown: np.ndarray
    began: float

    def widened(self, request: RecommendRequest) -> RecommendRequest:
        """The request of the long list that the page is the end of."""
        n = min(request.n + len(self.shown), MOST_SHOWN)
        return replace(request, n=n, cursor=None, before=self.began)

    def cut(
        self, request: RecommendRequest, response: RecommendResponse, index: dict[str, int], of: str
    ) -> RecommendResponse:
        """The page out of the long list, with the cursor of the next one.

        Args:
            request: of the page.
            index: item index by identifier.
            of: the bundle.
        """
        before = set(self.shown.tolist())
        rest = [one for one in response.recommendations if index[one.item_id] not in before]
        page = [
            one if one.rank == rank else replace(one, rank=rank)
            for rank, one in enumerate(rest[: request.n], start=len(before) + 1)
        ]
        shown = [*self.shown.tolist(), *(index[one.item_id] for one in page)]
        ended = len(page) < request.n or len(shown) >= MOST_SHOWN
        cursor = None if ended else write_cursor(request, shown, self.began, of)
        return replace(response, recommendations=page, cursor=cursor)


def write_cursor(request: RecommendRequest, shown: Sequence[int], began: float, of: str) -> str:
    """What the next page of a list is asked for with.

    Args:
        shown: item indices of this page and those before.
        of: the bundle.
    """
    head = _HEAD.pack(_FORMAT, _digest(request, of), began)
    items = zlib.compress(np.asarray(shown, dtype="<u4").tobytes(), 9)
    return base64.urlsafe_b64encode(head + items).rstrip(b"=").decode("ascii")


def read_cursor(request: RecommendRequest, cursor: str, n_items: int, of: str) -> Page:
    """The page that a request asks for.

    Args:
        cursor: of the page before.
        n_items: of the catalogue.
        of: the bundle.

    Raises:
        ConfigError: if it is none, or of another request.
    """
    if not cursor.isascii() or len(cursor) > MAX_CURSOR:
        raise ConfigError(_WRONG)
    try:
        read = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        kind, digest, began = _HEAD.unpack_from(read)
        unpacker = zlib.decompressobj()
        items = unpacker.decompress(read[_HEAD.size :], 4 * MOST_SHOWN)
        shown = np.frombuffer(items, dtype="<u4").astype(np.int64)
    except (binascii.Error, struct.error, zlib.error, ValueError):
        raise ConfigError(_WRONG) from None
    if kind != _FORMAT or not np.isfinite(began) or not len(shown):
        raise ConfigError(_WRONG)
    if digest != _digest(request, of) or (shown >= n_items).any():
        raise ConfigError(_OTHER)
    return Page(shown, began)


def _digest(request: RecommendRequest, of: str) -> bytes:
    """What pages of one list have in common; how long each is may differ."""
    named: list[Any] = [
        (one.name, getattr(request, one.name))
        for one in fields(request)
        if one.name not in ("n", "cursor", "before", "_")
    ]
    return hashlib.blake2b(repr((of, named)).encode(errors="replace"), digest_size=8).digest()
