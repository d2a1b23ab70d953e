"""vLLM as what gives the likeliest item tokens after prompts, in this process or as a server."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ITEM_PREFIX = "llmrec_item_prefix"  # how many of a prompt's last tokens begin an item ID
TokenLogprobs = tuple[np.ndarray, np.ndarray]  # int64 token ids and their log-probabilities


class NextTokens(Protocol):
    """A vLLM with the item constraint and processed log-probabilities."""

    def likeliest(
        self,
        prompts: Sequence[Sequence[int]],
        prefix: int,
        most: int,
        adapters: Sequence[str | None],
    ) -> list[TokenLogprobs]:
        """Tokens that go on to an item, at least the likeliest; -inf for those that do not.

        Args:
            prompts: token ids.
            prefix: how many of each prompt's last tokens begin an item ID.
            most: how many tokens of each.
            adapters: name of each prompt's adapter, None for the base.
        """

    def close(self) -> None:
        """End vLLM where it was started here."""


class EngineTokens:
    """A ``vllm.LLM`` of this process. Threads may use it at once: it answers one after the other.

    Args:
        llm: with the item constraint.
        adapters: folder of each adapter by name.
    """

    def __init__(self, llm: Any, adapters: Mapping[str, Path]) -> None:
        from vllm.lora.request import LoRARequest

        self._llm, self._lock = llm, threading.Lock()
        self._lora: dict[str | None, Any] = {None: None}
        for number, (name, folder) in enumerate(adapters.items(), start=1):
            self._lora[name] = LoRARequest(name, number, str(folder))

    def likeliest(
        self,
        prompts: Sequence[Sequence[int]],
        prefix: int,
        most: int,
        adapters: Sequence[str | None],
    ) -> list[TokenLogprobs]:
        """See :meth:`NextTokens.likeliest`."""
        from vllm import SamplingParams

        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprobs=most,
            flat_logprobs=True,
            detokenize=False,
            ignore_eos=True,
            extra_args={ITEM_PREFIX: prefix},
        )
        with self._lock:
            answers = self._llm.generate(
                [{"prompt_token_ids": list(prompt)} for prompt in prompts],
                params,
                lora_request=[self._lora[name] for name in adapters],
                use_tqdm=False,
            )
        found = [answer.outputs[0].logprobs for answer in answers]
        return [(np.asarray(one.token_ids), np.asarray(one.logprobs)) for one in found]

    def close(self) -> None:
        """End vLLM's process."""
        self._llm.llm_engine.engine_core.shutdown()
