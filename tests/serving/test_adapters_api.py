"""The adapters of a bundle are models of the service, chosen by each request."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from ask_bundle import recommend
from tiny_tuned import NAMES

from llmrec.serving.app import create_app
from llmrec.serving.bundle import Bundle
from llmrec.serving.recommender import Recommender


@pytest.fixture(scope="module")
def adapted_url(serve: Any, adapted: Bundle) -> Iterator[str]:
    with serve(create_app(Recommender(adapted))) as address:
        yield address


@pytest.fixture(scope="module")
def chat(adapted_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{adapted_url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def ask(client: openai.OpenAI, model: str, history: list[str], **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": ""}]
    extra = {"history": history, "n": 10}
    return client.chat.completions.create(model=model, messages=messages, extra_body=extra, **more)


def items(completion: Any) -> list[str]:
    return [found["item_id"] for found in completion.recommendations]


def test_models_are_the_bundle_and_its_adapters(chat: openai.OpenAI, adapted: Bundle) -> None:
    listed = chat.models.list().data
    assert [card.id for card in listed] == [adapted.model_name, *sorted(NAMES), "llmrec-text"]
    for card in listed[1:-1]:
        info = adapted.adapters[card.id]
        own = card.model_dump()
        assert own["parent"] == adapted.model_name
        assert (own["version"], own["task"]) == (info.version, info.task)
        assert card.created > 1.7e9
        assert chat.models.retrieve(card.id) == card
    assert chat.models.retrieve("llmrec").id == adapted.model_name


def test_the_model_of_a_request_is_who_answers(chat: openai.OpenAI, adapted: Bundle) -> None:
    history, lists = adapted.item_ids[:4], []
    for name in (adapted.model_name, *NAMES):
        completion = ask(chat, name, history)
        adapter = None if name == adapted.model_name else name
        expected = recommend(adapted, history, 10, adapter=adapter)
        assert items(completion) == [found.item_id for found in expected]
        assert completion.model == name
        lists.append(tuple(items(completion)))
    assert len(set(lists)) == 3


def test_a_stream_names_the_adapter(chat: openai.OpenAI, adapted: Bundle) -> None:
    history = adapted.item_ids[5:9]
    with ask(chat, "gifts", history, stream=True) as stream:
        chunks: list[Any] = list(stream)
    assert {chunk.model for chunk in chunks} == {"gifts"}
    assert items(chunks[-1]) == items(ask(chat, "gifts", history))


def test_an_unknown_model_is_not_found(
    chat: openai.OpenAI, adapted: Bundle, adapted_url: str
) -> None:
    for fail in (lambda: ask(chat, "gift", []), lambda: chat.models.retrieve("gift")):
        with pytest.raises(openai.NotFoundError) as caught:
            fail()
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"
    known = f"there is '{adapted.model_name}', 'gifts', 'recommend'"
    error = httpx.get(f"{adapted_url}/v1/models/gift").json()["error"]
    assert error["message"] == f"model: 'gift' is not served here; {known}"


def test_side_by_side_requests_get_their_own_adapter(chat: openai.OpenAI, adapted: Bundle) -> None:
    names = (adapted.model_name, *NAMES)

    def answer(number: int) -> list[str]:
        return items(ask(chat, names[number % 3], adapted.item_ids[number : number + 3]))

    numbers = range(24)
    alone = [answer(number) for number in numbers]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, numbers)) == alone


def test_metrics_count_what_all_adapters_remember(serve: Any, adapted: Bundle) -> None:
    remembering = Bundle(adapted.folder, cache_mib=3)
    with (
        serve(create_app(Recommender(remembering))) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client,
    ):
        for name in NAMES:
            for _ in range(2):
                ask(client, name, adapted.item_ids[:12])
        lines = httpx.get(f"{url}/metrics").text.splitlines()
    figures = dict(line.split() for line in lines if not line.startswith("#"))
    assert figures["llmrec_history_cache_hits_total"] == "2.0"
    assert figures["llmrec_history_cache_misses_total"] == "2.0"
    assert figures["llmrec_history_cache_entries"] == "2.0"
