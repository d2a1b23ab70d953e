"""``/v1/embeddings`` and ``/v1/rerank``: the models of texts and pictures, for other programs."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from llmrec.errors import ConfigError
from llmrec.serving.answer_schemas import EMBEDDINGS, RERANKED
from llmrec.serving.body_schema import close
from llmrec.serving.limits import MAX_TEXT
from llmrec.serving.request import check_text
from llmrec.serving.service import ALIASES, Service, UnknownModelError
from llmrec.serving.side_models import IMAGE, TEXT, SideModels

Json = dict[str, Any]
R = TypeVar("R")
MAX_INPUTS = 256  # texts and pictures of a request
MAX_DOCUMENTS = 1000


def _document(schema: Json, body: type[StrictBody]) -> None:
    close(schema)
    schema["examples"] = [body.example]


class StrictBody(BaseModel):
    """A body whose further fields are refused."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_document)

    example: ClassVar[Json] = {}


class InputPart(BaseModel):
    """A text or a picture, as Jina has them."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = Field(None, max_length=MAX_TEXT)
    image: str | None = Field(None, description="a data: URL, or one of an allowed host")


class EmbeddingsBody(StrictBody):
    """Body of ``/v1/embeddings``."""

    example: ClassVar[Json] = {"model": TEXT, "input": ["a red mug", "warm gloves"]}

    model: str = ""
    input: str | list[str | InputPart] = Field(
        description="texts; pictures as data: URLs or {'image': URL}"
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, description="that the vectors have, and no other number")

    def parts(self) -> list[InputPart]:
        """What is to be embedded.

        Raises:
            ConfigError: if it cannot be, beginning with its field.
        """
        given = [self.input] if isinstance(self.input, str) else self.input
        if not 0 < len(given) <= MAX_INPUTS:
            raise ConfigError(f"input: has {len(given)} entries; 1 to {MAX_INPUTS} are read")
        return [_part(one, f"input[{number}]") for number, one in enumerate(given)]


class Document(BaseModel):
    """A text, as Cohere has it."""

    model_config = ConfigDict(extra="forbid")

    text: str


class RerankBody(StrictBody):
    """Body of ``/v1/rerank``."""

    example: ClassVar[Json] = {"query": "warm", "documents": ["a mug", "gloves"], "top_n": 1}

    model: str = ""
    query: str = Field(min_length=1, max_length=MAX_TEXT)
    documents: list[str | Document] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    top_n: int | None = Field(None, ge=1, strict=True)
    return_documents: bool | None = None

    def texts(self) -> list[str]:
        """The documents.

        Raises:
            ConfigError: for one that is no text or too long, beginning with its field.
        """
        texts = [one if isinstance(one, str) else one.text for one in self.documents]
        for number, text in enumerate(texts):
            _check(text, f"documents[{number}]")
        check_text("query", self.query)
        return texts


def embeddings_router(service: Service) -> APIRouter:
    """The routes."""
    router, side = APIRouter(tags=["Models"]), service.side

    async def run(http: Request, function: Callable[[], R]) -> R:
        return await side.run(function, service.seconds(http))

    @router.post("/v1/embeddings", responses=EMBEDDINGS)
    async def embeddings(http: Request, body: EmbeddingsBody) -> JSONResponse:
        parts = body.parts()
        model = _model(side, body.model, has_pictures=any(one.image for one in parts))
        vectors, tokens = await run(http, lambda: embed(side, model, parts))
        if body.dimensions not in (None, vectors.shape[1]):
            raise ConfigError(f"dimensions: vectors have {vectors.shape[1]} numbers; leave it out")
        in_base64 = body.encoding_format == "base64"
        shown = [_base64(one) for one in vectors] if in_base64 else vectors.tolist()
        data = [
            {"object": "embedding", "index": number, "embedding": vector}
            for number, vector in enumerate(shown)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": model, "usage": usage})

    @router.post("/v1/rerank", responses=RERANKED)
    @router.post("/v2/rerank", include_in_schema=False)  # where Cohere's client looks for it
    async def rerank(http: Request, body: RerankBody) -> JSONResponse:
        texts = body.texts()
        model = _model(side, body.model, has_pictures=False)
        scores, tokens = await run(http, lambda: relevance(side, model, body.query, texts))
        order = np.argsort(-scores, kind="stable")[: body.top_n]
        results: list[Json] = [
            {"index": row, "relevance_score": float(scores[row])} for row in order.tolist()
        ]
        for result in results if body.return_documents else ():
            result["document"] = {"text": texts[result["index"]]}
        return JSONResponse(
            {
                "id": f"rerank-{uuid.uuid4().hex}",
                "object": "list",
                "created": int(time.time()),
                "model": model,
                "results": results,
                "usage": {"total_tokens": tokens},
            }
        )

    return router


def embed(side: SideModels, model: str, parts: list[InputPart]) -> tuple[np.ndarray, int]:
    """Vectors of texts and pictures, float32 ``[parts, dim]`` of length 1, and the texts' tokens.

    Raises:
        ConfigError: for a picture that cannot be read, beginning with its field.
    """
    if model == TEXT:
        texts = [one.text or "" for one in parts]
        return side.bundle.encode_texts("input", texts, as_items=False)
    assert side.search is not None
    return side.search.embed_each(
        [
            side.media.picture(f"input[{number}]", one.image) if one.image else str(one.text)
            for number, one in enumerate(parts)
        ]
    )


def relevance(side: SideModels, model: str, query: str, texts: list[str]) -> tuple[np.ndarray, int]:
    """How close texts are to a query, float32 ``[texts]`` in [0, 1], and their tokens."""
    if model == TEXT:
        asked, asked_tokens = side.bundle.encode_texts("query", [query], as_items=False)
        found, tokens = side.bundle.encode_texts("documents", texts, as_items=True)
    else:
        assert side.search is not None
        asked, asked_tokens = side.search.embed_each([query])
        found, tokens = side.search.embed_each(texts)
    cosines = found @ asked[0]
    return np.clip((1 + cosines) / 2, 0, 1), asked_tokens + tokens


def _model(side: SideModels, name: str, has_pictures: bool) -> str:
    """The model that a request names, or the one that fits it.

    Raises:
        UnknownModelError: if there is none.
        ConfigError: if it reads no pictures.
    """
    there = [one for one in (TEXT, IMAGE) if one in side.cards]
    if name in ALIASES:
        name = IMAGE if has_pictures or TEXT not in there else TEXT
    if name not in there:
        known = ", ".join(map(repr, there)) or "none"
        raise UnknownModelError(f"model: {name[:100]!r} is not served here; there is {known}")
    if has_pictures and name == TEXT:
        raise ConfigError(f"model: {TEXT} reads no pictures")
    return name


def _part(given: str | InputPart, field: str) -> InputPart:
    if isinstance(given, str):
        is_picture = given.startswith("data:image/")
        picture, text = (given, None) if is_picture else (None, given)
        given = InputPart.model_construct(image=picture, text=text)  # its length is checked below
    if (given.text is None) == (given.image is None):
        raise ConfigError(f"{field}: is a text or an image, one of them")
    if given.text is not None:
        _check(given.text, field)
    return given


def _check(text: str, field: str) -> None:
    check_text(field, text)
    if not text.strip():
        raise ConfigError(f"{field}: is empty")
    if len(text) > MAX_TEXT:
        raise ConfigError(f"{field}: has {len(text)} characters; at most {MAX_TEXT} are read")


def _base64(vector: np.ndarray) -> str:
    """Little-endian float32, as OpenAI's client takes it apart."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
