"""Any OpenAI-compatible endpoint as the one who talks, by its URL.

It gets the tools in OpenAI's form and their results without titles; what it writes goes through
:mod:`~llmrec.serving.assistant.free_text`.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from typing import Any

from llmrec.errors import ConfigError, require
from llmrec.prompts import load_template, templates_folder
from llmrec.serving.assistant.calls import ToolCall, render_turn, tools
from llmrec.serving.assistant.protocol import ModelFailedError, Text, TurnInput

Json = dict[str, Any]
SECONDS = 20.0  # between two parts of an answer
MOST_TOKENS = 400
UNREADABLE = "unreadable"  # argument of a call whose arguments are no JSON
_PROMPT = str(templates_folder() / "assistant" / "remote.yaml")


class RemoteModel:
    """A language model behind a URL.

    Args:
        url: of its API, such as ``http://127.0.0.1:8001/v1``.
        name: of the model; the first that it lists where it is "".
        key: that it asks for; None for none.
        seconds: that it may be silent.

    Raises:
        ConfigError: for a URL that is none.
    """

    writes = True

    def __init__(
        self, url: str, name: str = "", key: str | None = None, seconds: float = SECONDS
    ) -> None:
        httpx = require("httpx", "serve")
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--assistant-url: {url!r} is no URL of http or https")
        self._name, self._failures = name, (httpx.HTTPError, httpx.InvalidURL)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # a proxy of the environment would be a stranger
        self._client = httpx.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=seconds, trust_env=False
        )
        weakref.finalize(self, self._client.close)

    def next_step(self, turn: TurnInput) -> Iterator[str | ToolCall | Text]:
        """Its words as they come, then its call, where it makes one.

        Raises:
            ModelFailedError: if it cannot be reached, ends too early, or answers with an error.
        """
        body = {
            "model": self._model(),
            "messages": _messages(turn),
            "tools": tools(turn.vocabulary, turn.view),
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
            "stream": True,
        }
        deltas = _Deltas(self._stream(body))
        first = deltas.next_words()
        if first:
            yield Text(deltas.words_from(first))
        for _ in deltas.words_from(""):
            pass
        call = deltas.call()
        if call is not None:
            yield call

    def _model(self) -> str:
        if not self._name:
            try:
                found = self._client.get("/models").raise_for_status().json()
                self._name = str(found["data"][0]["id"])
            except (*self._failures, ValueError, KeyError, IndexError, TypeError) as error:
                raise ModelFailedError(f"lists no model ({type(error).__name__})") from None
        return self._name

    def _stream(self, body: Json) -> Iterator[Json]:
        """The deltas of its answer.

        Raises:
            ModelFailedError: if it does not come to its end.
        """
        ended = False
        try:
            with self._client.stream("POST", "/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    raise ModelFailedError(f"answers with status {answer.status_code}")
                for line in answer.iter_lines():
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or not data:
                        continue
                    if data == "[DONE]":
                        return
                    choices = json.loads(data).get("choices") or [{}]
                    ended = ended or choices[0].get("finish_reason") is not None
                    yield choices[0].get("delta") or {}
        except self._failures as error:
            if not ended:
                raise ModelFailedError(f"is gone ({type(error).__name__})") from None
        except (ValueError, AttributeError, TypeError):
            raise ModelFailedError("answers with what is no JSON") from None
        if not ended:
            raise ModelFailedError("ends in the middle of its answer")


class _Deltas:
    """An answer that comes in parts: words, and one call."""

    def __init__(self, deltas: Iterator[Json]) -> None:
        self._deltas = deltas
        self._name, self._arguments = "", ""

    def next_words(self) -> str:
        """The next words; "" at the end."""
        for delta in self._deltas:
            for part in delta.get("tool_calls") or ():
                if part.get("index", 0) == 0:  # one call at a time
                    function = part.get("function") or {}
                    self._name += function.get("name") or ""
                    self._arguments += function.get("arguments") or ""
            if delta.get("content"):
                return str(delta["content"])
        return ""

    def words_from(self, first: str) -> Iterator[str]:
        """The words from here on."""
        words = first or self.next_words()
        while words:
            yield words
            words = self.next_words()

    def call(self) -> ToolCall | None:
        """The call, once all parts have come."""
        if not self._name:
            return None
        try:
            arguments = json.loads(self._arguments or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            arguments = {UNREADABLE: self._arguments[:200]}
        return ToolCall(self._name, arguments)


def _messages(turn: TurnInput) -> list[Json]:
    """The conversation as OpenAI has it, with the calls of this turn."""
    shown = render_turn(turn.vocabulary, "", turn.view).partition("Shown: ")[2]
    items = [
        {"item": place, "price": item.price, **item.fields}
        for place, item in enumerate(turn.view.shown, 1)
    ]
    screen = f"{shown.splitlines()[0]}; {json.dumps(items)}" if shown else "nothing"
    found: list[Json] = [
        {"role": "system", "content": load_template(_PROMPT).render(screen=screen)}
    ]
    found += [{"role": role, "content": words} for role, words in turn.said]
    found.append({"role": "user", "content": turn.message})
    for number, result in enumerate(turn.results):
        called = {
            "id": f"call_{number}",
            "type": "function",
            "function": {
                "name": result.call.name,
                "arguments": json.dumps(result.call.arguments),
            },
        }
        found.append({"role": "assistant", "content": None, "tool_calls": [called]})
        content = json.dumps(result.content)
        found.append({"role": "tool", "tool_call_id": called["id"], "content": content})
    return found
