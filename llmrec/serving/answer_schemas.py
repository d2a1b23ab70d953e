"""Answers as the document describes them; further fields may be there."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class RecommendedItem(BaseModel):
    """One item of a list; the last ones where a click model ranks."""

    item_id: str
    title: str
    rank: int = Field(ge=1)
    score: float
    reason: str
    p_click: float | None = None
    p_purchase: float | None = None
    expected_rating: float | None = None
    llm_logp: float | None = None
    sources: list[str] = []


class ListAnswer(BaseModel):
    """A ranked list."""

    model: str
    catalog_version: str
    recommendation_id: str | None = Field(description="null where the service keeps no lists")
    variant: str = Field(description="who ranked, or the variant of an experiment")
    recommendations: list[RecommendedItem]
    history_given: int
    history_read: int
    notes: list[str]
    usage: dict[str, int]
    timings_ms: dict[str, float]
    cursor: str | None = Field(None, description="for the next page of the list")


class SearchAnswer(ListAnswer):
    """A ranked list of what was found."""

    transcript: str | None = Field(description="of a recording")


class CompletionAnswer(ListAnswer):
    """A ranked list with a text, as OpenAI has it."""

    id: str
    object: str
    created: int
    choices: list[dict[str, Any]]


class ResponseAnswer(BaseModel):
    """A ranked list with a text, as OpenAI's responses have it."""

    id: str
    object: str
    created_at: int
    model: str
    status: str
    output: list[dict[str, Any]]
    usage: dict[str, Any]
    catalog_version: str
    recommendation_id: str | None
    recommendations: list[RecommendedItem]
    notes: list[str]


class Embedding(BaseModel):
    """A vector, of numbers or as base64 of little-endian float32."""

    object: str
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(BaseModel):
    """Vectors in the order of the inputs."""

    object: str
    model: str
    data: list[Embedding]
    usage: dict[str, int]


class Reranked(BaseModel):
    """A document, by its place in the request."""

    index: int
    relevance_score: float = Field(ge=0, le=1)
    document: dict[str, str] | None = None


class RerankAnswer(BaseModel):
    """Documents, the most relevant first."""

    id: str
    object: str
    created: int
    model: str
    results: list[Reranked]
    usage: dict[str, int]


TEXT = {"type": "string"}
EVENT = {"type": "object", "required": ["data"], "properties": {"data": TEXT, "event": TEXT}}
EVENT_STREAM = {"text/event-stream": {"schema": EVENT}}
LIST: dict[int | str, Any] = {200: {"model": ListAnswer}}
EMBEDDINGS: dict[int | str, Any] = {200: {"model": EmbeddingsAnswer}}
RERANKED: dict[int | str, Any] = {200: {"model": RerankAnswer}}
SEARCH: dict[int | str, Any] = {200: {"model": SearchAnswer}}
COMPLETION: dict[int | str, Any] = {200: {"model": CompletionAnswer, "content": EVENT_STREAM}}
RESPONSE: dict[int | str, Any] = {200: {"model": ResponseAnswer, "content": EVENT_STREAM}}
