"""A vLLM server that ``llmrec vllm`` started, asked over HTTP for the next tokens of items."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import ConfigError, LlmrecError, one_line, require
from llmrec.generation.vllm_tokens import ITEM_PREFIX, NextTokens, TokenLogprobs
from llmrec.llm.vocabulary import Vocabulary
from llmrec.stage import folder_hash

LOG = logging.getLogger(__name__)
START_SECONDS = 600.0  # that a server which is starting is waited for
PROMPTS = 64  # of one request
CONNECTIONS = 4  # requests at once
_SECONDS = 120.0  # that a request may take
_NO_CHANCE = -9000.0  # what JSON has for -inf is below
_TOKEN = "token_id:"


class VllmServerError(LlmrecError):
    """The vLLM server does not answer, or not as it should."""


def served_name(model: Path) -> str:
    """What a server calls a bundle's model: the name says which one it is."""
    return f"llmrec-{folder_hash(model)[:8]}"


class ServerTokens:
    """A :class:`~llmrec.generation.vllm_tokens.NextTokens` behind an address.

    Args:
        url: of the server, such as ``http://127.0.0.1:8001``.
        model: what it calls the base.
        adapters: names that it must know.
        start_seconds: how long a server that is starting is waited for.

    Raises:
        ConfigError: if no server is there, or it serves another model.
    """

    def __init__(
        self,
        url: str,
        model: str,
        adapters: Iterable[str] = (),
        start_seconds: float = START_SECONDS,
    ) -> None:
        httpx = require("httpx", "serve")
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--vllm-url: {url!r} is no address such as http://127.0.0.1:8001")
        self.url, self.model = url.rstrip("/").removesuffix("/v1"), model
        limits = httpx.Limits(max_connections=CONNECTIONS)
        # the server is the shop's own: no proxy stands between
        self._client = httpx.Client(timeout=_SECONDS, limits=limits, trust_env=False)
        self._errors = (httpx.HTTPError, httpx.InvalidURL)
        self._pool = ThreadPoolExecutor(CONNECTIONS, "llmrec-vllm")
        try:
            self._check((model, *adapters), self._served(time.monotonic() + start_seconds))
        except ConfigError:
            self.close()
            raise

    def likeliest(
        self,
        prompts: Sequence[Sequence[int]],
        prefix: int,
        most: int,
        adapters: Sequence[str | None],
    ) -> list[TokenLogprobs]:
        """See :meth:`~llmrec.generation.vllm_tokens.NextTokens.likeliest`.

        Raises:
            VllmServerError: if the server does not answer.
        """
        rows = sorted(range(len(prompts)), key=lambda row: adapters[row] or "")
        parts = [
            group[start : start + PROMPTS]
            for _, same in groupby(rows, key=lambda row: adapters[row])
            for group in [list(same)]
            for start in range(0, len(group), PROMPTS)
        ]

        def ask(part: list[int]) -> list[TokenLogprobs]:
            body = {
                "model": adapters[part[0]] or self.model,
                "prompt": [list(prompts[row]) for row in part],
                "max_tokens": 1,
                "temperature": 0,
                "ignore_eos": True,
                "logprobs": most,
                "return_tokens_as_token_ids": True,
                "vllm_xargs": {ITEM_PREFIX: prefix},
            }
            choices = self._post("/v1/completions", body)["choices"]
            choices.sort(key=lambda choice: choice["index"])
            return [_token_logprobs(choice["logprobs"]["top_logprobs"][0]) for choice in choices]

        answers: dict[int, TokenLogprobs] = {}
        for part, found in zip(parts, self._pool.map(ask, parts), strict=True):
            answers |= zip(part, found, strict=True)
        return [answers[row] for row in range(len(prompts))]

    def close(self) -> None:
        """Close the connections; the server goes on."""
        self._pool.shutdown()
        self._client.close()

    def _check(self, wanted: Sequence[str], served: Sequence[str]) -> None:
        missing = [name for name in wanted if name not in served]
        if missing:
            raise ConfigError(
                f"--vllm-url: {self.url} serves {', '.join(served)}, not {missing[0]}; start it "
                "with  llmrec vllm BUNDLE  on this bundle"
            )

    def _served(self, until: float) -> list[str]:
        """Names of the models that are served, once the server has started."""
        told = False
        while True:
            try:
                answer = self._client.get(f"{self.url}/v1/models")
                answer.raise_for_status()
                return [one["id"] for one in answer.json()["data"]]
            except (*self._errors, ValueError, KeyError) as error:
                if time.monotonic() > until:
                    raise ConfigError(
                        f"--vllm-url: no vLLM answers at {self.url} ({one_line(error)}); start it "
                        "with  llmrec vllm BUNDLE"
                    ) from None
            if not told:
                LOG.warning("llmrec: waiting for vLLM at %s", self.url)
                told = True
            time.sleep(0.5)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            answer = self._client.post(f"{self.url}{path}", json=body)
            answer.raise_for_status()
            return answer.json()
        except (*self._errors, ValueError) as error:
            raise VllmServerError(f"vLLM at {self.url}: {one_line(error)}") from error


def check_constraint(tokens: NextTokens, vocabulary: Vocabulary, codes: np.ndarray) -> None:
    """Check that a vLLM keeps to the catalogue, and gives log-probabilities of what it keeps.

    After a whole item its end alone may come, so that its probability is one.

    Args:
        codes: int ``[levels]`` of any item.

    Raises:
        ConfigError: if it does not.
    """
    item = [
        vocabulary.level_tokens(level).start + int(code)
        for level, code in enumerate(codes.tolist())
    ]
    ((found, logprobs),) = tokens.likeliest([[*item, *item]], len(item), 5, [None])
    # vLLM names the token that it took a second time among the likeliest
    there = {token: p for token, p in zip(found, logprobs, strict=True) if p > -np.inf}
    if len(there) != 1 or abs(float(*there.values())) > 1e-3:
        raise ConfigError(
            "--vllm-url: this vLLM does not keep to the catalogue; start it with  llmrec vllm "
            "BUNDLE, or give it --logits-processors, --logprobs-mode and --max-logprobs as "
            "llmrec vllm BUNDLE --print does"
        )


def _token_logprobs(found: Mapping[str, float]) -> TokenLogprobs:
    tokens = np.array([int(name.removeprefix(_TOKEN)) for name in found], dtype=np.int64)
    logprobs = np.array(list(found.values()), dtype=np.float64)
    return tokens, np.where(logprobs < _NO_CHANCE, -np.inf, logprobs)
