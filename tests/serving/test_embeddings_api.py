"""Embeddings, reranking and transcripts."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from searchable_shop import data_url, picture

from llmrec.serving.bundle import Bundle

TEXTS = ["a red mug", "warm gloves", "a red mug"]


def post(url: str, route: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/{route}", json=body, timeout=60)


def refused(response: httpx.Response, status: int = 400) -> tuple[str, str]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    return error["message"], error["param"]


def test_texts(client: openai.OpenAI, url: str, atomic: Bundle) -> None:
    answer = client.embeddings.create(model="llmrec-text", input=TEXTS)  # sent as base64
    vectors = np.array([one.embedding for one in answer.data])
    expected, _ = atomic.encode_texts("input", TEXTS, as_items=False)
    assert vectors == pytest.approx(expected, abs=1e-5)
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert answer.usage.total_tokens == 5 + 4 + 5  # with the marks of a beginning and an end
    plain = post(url, "embeddings", input=TEXTS[0], dimensions=384).json()
    assert plain["data"][0]["embedding"] == pytest.approx(expected[0], abs=1e-5)


def test_pictures(media_client: openai.OpenAI, media_url: str) -> None:
    answer = media_client.embeddings.create(model="llmrec-image", input=data_url(picture(3)))
    parts = [{"image": data_url(picture(3))}, {"text": "a red mug"}, "a red mug"]
    mixed = post(media_url, "embeddings", input=parts).json()
    assert mixed["model"] == "llmrec-image"
    first, second, third = [one["embedding"] for one in mixed["data"]]
    assert first == pytest.approx(answer.data[0].embedding, abs=1e-5)
    assert second == third
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": []}, "input: has 0 entries"),
        ({"input": ["a", " "]}, "input[1]: is empty"),
        ({"input": [{"text": "a", "image": "b"}]}, "input[0]: is a text or an image"),
        ({"input": "a", "dimensions": 5}, "dimensions: vectors have 384 numbers"),
        ({"input": "a", "user": "anna"}, "user: Extra inputs"),
        ({"input": data_url(picture(1)), "model": "llmrec-text"}, "model: llmrec-text reads no"),
        ({"input": "a", "encoding_format": "xml"}, "encoding_format: "),
    ],
)
def test_wrong_inputs(media_url: str, body: dict[str, Any], message: str) -> None:
    said, param = refused(post(media_url, "embeddings", **body))
    assert said.startswith(message)
    assert param == message.partition(":")[0]


def test_models_that_there_are_not(url: str) -> None:
    assert refused(post(url, "embeddings", input="a", model="gpt"), 404)[1] == "model"
    assert refused(post(url, "embeddings", input=data_url(picture(1))), 404)[1] == "model"
    assert refused(post(url, "rerank", query="a", documents=["b"], model="gpt"), 404)[1] == "model"


def test_reranking(url: str) -> None:
    documents = ["a kitchen knife", {"text": "woollen gloves for winter"}, "a garden hose"]
    body = {"model": "llmrec-text", "query": "something warm for cold hands"}
    found = post(url, "rerank", **body, documents=documents, top_n=2, return_documents=True).json()
    assert found["results"][0]["index"] == 1
    assert found["results"][0]["document"] == {"text": "woollen gloves for winter"}
    first, second = [one["relevance_score"] for one in found["results"]]
    assert 1 >= first > second >= 0
    whole = post(url, "rerank", **body, documents=documents).json()["results"]
    assert len(whole) == 3 and "document" not in whole[0]
    cohere = httpx.post(f"{url}/v2/rerank", json=body | {"documents": documents}, timeout=60)
    assert cohere.json()["results"] == whole


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "documents": ["b", ""]}, "documents[1]"),
        ({"query": "", "documents": ["b"]}, "query"),
        ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ({"query": "a", "documents": ["b"], "max_tokens_per_doc": 5}, "max_tokens_per_doc"),
    ],
)
def test_wrong_documents(url: str, body: dict[str, Any], param: str) -> None:
    assert refused(post(url, "rerank", **body))[1] == param


def test_transcripts(media_client: openai.OpenAI, spoken: Path) -> None:
    def transcribed(**fields: Any) -> Any:
        create: Any = media_client.audio.transcriptions.create
        return create(model="whisper-1", file=spoken, **fields)

    answer = transcribed(language="en")
    assert answer.text.lower().startswith("mend the coat before you go out")
    assert answer.usage.seconds >= 1
    assert transcribed(response_format="text").strip() == answer.text
    whole = transcribed(response_format="verbose_json")
    assert (whole.language, whole.segments[0].text) == ("en", answer.text)
    subtitles = transcribed(response_format="srt")
    assert subtitles.startswith("1\n00:00:00,") and answer.text in subtitles
    assert transcribed(response_format="vtt").startswith("WEBVTT\n\n1\n00:00:00.")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "0.5"}, "temperature"),
        ({"prompt": "coats"}, "prompt"),
        ({"language": "xx"}, "language"),
        ({"response_format": "xml"}, "response_format"),
        ({"colour": "red"}, "colour"),
        ({}, "file"),
    ],
)
def test_wrong_recordings(media_url: str, spoken: Path, fields: dict[str, str], param: str) -> None:
    content = spoken.read_bytes() if fields else b"no sound"
    answer = httpx.post(
        f"{media_url}/v1/audio/transcriptions", data=fields, files={"file": content}, timeout=60
    )
    assert refused(answer)[1] == param


def test_no_form(url: str) -> None:
    path = f"{url}/v1/audio/transcriptions"
    assert refused(httpx.post(path, json={}))[0].startswith("body: is no multipart/form-data")
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert httpx.post(path, content=b"--x\r\nno", headers=broken).status_code == 400
    assert refused(httpx.post(path, files={"file": b"a"}), 404)[1] == "model"
