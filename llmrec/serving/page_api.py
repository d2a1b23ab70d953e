"""``/ui``: a page on which a person sees what the service knows, and why.

It is a client like any other: what it shows comes from the routes that everybody calls, so a click
on it is an event, and the feed after it is the next recommendation. No request of it leaves the
service that it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from llmrec.serving.bundle import Bundle
from llmrec.stage import reading

Json = dict[str, Any]
PAGE = "/ui"
# What may be known of without a key: the page itself, and the pictures of what is for sale.
OPEN = (f"{PAGE}/pictures/",)
PEOPLE = f"{PAGE}/people"
NAMED_PEOPLE = 50  # that the page offers
_FOLDER = Path(__file__).with_name("page")
_FILES = {
    "": ("index.html", "text/html"),
    "style.css": ("style.css", "text/css"),
    "app.js": ("app.js", "text/javascript"),
    "api.js": ("api.js", "text/javascript"),
}
_PICTURES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def is_open(path: str) -> bool:
    """Whether a path is served without a key.

    >>> [is_open(path) for path in ("/ui/app.js", "/ui/pictures/sku-1", "/ui/people")]
    [True, True, False]
    """
    return path.startswith(OPEN) or path in {PAGE, *(f"{PAGE}/{name}" for name in _FILES)}


class Pictures:
    """Files of the catalogue's pictures.

    Args:
        bundle: whose catalogue names them.
        root: the folder that they are in; None for no pictures.
    """

    def __init__(self, bundle: Bundle, root: Path | None) -> None:
        self._path = bundle.folder / "items.parquet"
        self._root = None if root is None else root.resolve()

    def find(self, item_id: str) -> Path | None:
        """The file of an item's picture, of a kind that a browser shows; None without one."""
        named = self._names.get(item_id) if self._root is not None else None
        if named is None or self._root is None:
            return None
        path = (self._root / named).resolve()
        shown = path.suffix.lower() in _PICTURES and path.is_relative_to(self._root)
        return path if shown and path.is_file() else None

    @cached_property
    def _names(self) -> dict[str, str]:
        with reading(self._path, "llmrec bundle"):
            if "image" not in pq.read_schema(self._path).names:
                return {}
            table = pq.read_table(self._path, columns=["item_id", "image"])
        pairs = zip(table["item_id"].to_pylist(), table["image"].to_pylist(), strict=True)
        return {item_id: image for item_id, image in pairs if image}


def page_router(
    pictures: Pictures,
    people: Sequence[str] = (),
    experiments: Callable[[], list[Json]] = list,
) -> APIRouter:
    """The routes, none of them part of the API's document.

    Args:
        people: names that the page offers to look at.
        experiments: that run now.
    """
    router = APIRouter(prefix=PAGE, include_in_schema=False)
    files = {name: (_FOLDER / file).read_bytes() for name, (file, _) in _FILES.items()}

    @router.get("")
    def folder() -> RedirectResponse:
        return RedirectResponse("ui/")

    @router.get("/people")
    def named() -> Json:
        return {"people": list(people[:NAMED_PEOPLE])}

    @router.get("/experiments")
    def running() -> Json:
        return {"experiments": experiments()}

    @router.get("/pictures/{item_id:path}")
    def picture(item_id: str) -> FileResponse:
        path = pictures.find(item_id)
        if path is None:
            raise HTTPException(404, "there is no such picture")
        kind = _PICTURES[path.suffix.lower()]
        return FileResponse(path, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})

    @router.get("/{name:path}")
    def page(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such page")
        return Response(files[name], media_type=_FILES[name][1], headers=_HEADERS)

    return router
