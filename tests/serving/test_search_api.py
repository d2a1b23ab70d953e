"""Search by words, a photo and voice; pictures and speech in chat."""

import base64
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from media_server import Server, serving
from PIL import Image
from searchable_shop import data_url, picture

from llmrec.errors import ConfigError
from llmrec.serving.bundle import Bundle
from llmrec.serving.media_inputs import MediaReader

KNOWN = 33  # row of an item whose picture is sent


def search(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/search", json=body, timeout=120)


def found(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [one["item_id"] for one in response.json()["recommendations"]]


def refused(response: httpx.Response) -> tuple[str, str]:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    return error["message"], error["param"]


def test_words(url: str, atomic: Bundle) -> None:
    answer = search(url, query=atomic.titles[KNOWN], n=5)
    assert len(found(answer)) == 5
    first = answer.json()["recommendations"][0]
    assert first["title"] == atomic.titles[KNOWN]
    assert first["reason"] == f"close in meaning to {atomic.titles[KNOWN]!r}"
    stock = search(url, query="a gift", where={"in_stock": True}, n=100)
    assert all(atomic.items.facts(item)["in_stock"] for item in found(stock))


def test_a_photo(media_url: str, atomic: Bundle) -> None:
    answer = search(media_url, image=data_url(picture(KNOWN)), n=5)
    assert found(answer)[0] == atomic.item_ids[KNOWN]
    first = answer.json()["recommendations"][0]
    assert first["score"] == pytest.approx(1, abs=1e-3)
    assert (first["reason"], answer.json()["transcript"]) == ("close to the picture", None)
    fewer = search(media_url, image=data_url(picture(KNOWN)), allow=atomic.item_ids[40:44])
    assert set(found(fewer)) == set(atomic.item_ids[40:44])
    both = search(media_url, image=data_url(picture(KNOWN)), query="in red", n=5).json()
    assert both["recommendations"][0]["reason"] == "close to the picture and 'in red'"
    assert both["recommendations"][0]["score"] < 0.99


def test_a_photo_with_a_history_is_ranked_by_the_model(media_url: str, atomic: Bundle) -> None:
    body = {"image": data_url(picture(KNOWN)), "n": 20}
    alone = search(media_url, **body)
    read = search(media_url, **body, history=atomic.item_ids[:3])
    assert found(alone) != found(read)
    assert read.json()["usage"]["prompt_tokens"] > 0


def test_a_product_photo_in_chat(media_client: openai.OpenAI, atomic: Bundle) -> None:
    parts: Any = [
        {"type": "image_url", "image_url": {"url": data_url(picture(KNOWN)), "detail": "auto"}}
    ]
    answer: Any = media_client.chat.completions.create(
        model="llmrec", messages=[{"role": "user", "content": parts}]
    )
    assert answer.recommendations[0]["item_id"] == atomic.item_ids[KNOWN]


def test_voice(media_url: str, media_client: openai.OpenAI, atomic: Bundle, spoken: Path) -> None:
    said = base64.b64encode(spoken.read_bytes()).decode()
    answer = search(media_url, audio=said)
    transcript = answer.json()["transcript"]
    assert transcript.lower().startswith("mend the coat")
    assert found(answer) == found(search(media_url, query=transcript))
    part: Any = {"type": "input_audio", "input_audio": {"data": said, "format": "wav"}}
    chat: Any = media_client.chat.completions.create(
        model="llmrec", messages=[{"role": "user", "content": [part]}]
    )
    assert chat.transcript == transcript
    assert [one["item_id"] for one in chat.recommendations] == found(answer)


def broken() -> str:
    return data_url(Image.new("RGB", (8, 8)))[:-60]


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({}, "query: is empty; say it, or send an image or audio", "query"),
        ({"image": "https://shop.example/1.png"}, "image: URLs of 'shop.example' are not", "image"),
        ({"image": "http://169.254.169.254/x"}, "image: URLs of '169.254.169.254'", "image"),
        ({"image": "file:///etc/passwd"}, "image: is neither a data: URL nor", "image"),
        ({"image": "data:image/png,abc"}, "image: is no data: URL with base64", "image"),
        ({"image": "data:image/png;base64,!!"}, "image: is no base64", "image"),
        ({"image": "data:image/png;base64,"}, "image: has 0 bytes", "image"),
        ({"image": broken()}, "image: ", "image"),
        ({"audio": "YWJj"}, "audio: ", "audio"),
        ({"image": data_url(picture(1)), "candidates": ["a"]}, "candidates: are", "candidates"),
        ({"querry": "a"}, "querry: is no field of a request; did you mean 'query'?", "querry"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    media_url: str, body: dict[str, Any], message: str, param: str
) -> None:
    said, field = refused(search(media_url, **body))
    assert said.startswith(message)
    assert field == param


def test_a_picture_of_an_allowed_host() -> None:
    with Server() as server, serving(server):
        place = f"http://127.0.0.1:{server.server_port}"
        near = MediaReader(["127.0.0.1"], networks=("127.0.0.1/32",))
        assert near.picture("image", f"{place}/picture").size > (1, 1)
        with pytest.raises(ConfigError, match=r"^image: .* is not a public address"):
            MediaReader(["127.0.0.1"]).picture("image", f"{place}/picture")
        with pytest.raises(ConfigError, match=r"^image: "):  # it might lead anywhere
            near.picture("image", f"{place}/to//picture")
        with pytest.raises(ConfigError, match="URLs of 'localhost' are not read here"):
            near.picture("image", place.replace("127.0.0.1", "localhost"))
        assert server.asked == ["/picture", "/to//picture"]


def test_long_words_are_not_sent_back_whole(url: str) -> None:
    long = search(url, query="gift " * 1900, n=50)
    assert len(found(long)) == 50 and len(long.content) < 50_000
    wrong = search(url, query="a", where={"brands": ["x" * 100_000]})
    assert len(refused(wrong)[0]) < 600


def test_a_service_without_these_models_says_so(url: str) -> None:
    said, field = refused(search(url, image=data_url(picture(1))))
    assert said.endswith("start the service with --search-index") and field == "image"
    said, field = refused(search(url, audio="YWJj"))
    assert "--speech-model whisper-base" in said and field == "audio"


def test_too_many_pictures(media_url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url(picture(1))}}
    body = {"messages": [{"role": "user", "content": [part] * 5}]}
    said, field = refused(httpx.post(f"{media_url}/v1/chat/completions", json=body, timeout=60))
    assert said == "messages[0].content: has 5 pictures; at most 4 are read"
    assert field == "messages[0].content"
