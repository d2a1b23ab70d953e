"""Constrained greedy decoding of tool calls on vLLM: the same grammar, the same answers.

vLLM has one grammar a request, so the tools of a turn are in one here, and the name of the tool
comes with the whole call. Keys of what all prompts begin with stay in vLLM's prefix cache.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmrec.errors import require
from llmrec.llm.adapters import read_adapter
from llmrec.llm.tokenizer import load_tokenizer
from llmrec.llm.vllm_process import open_vllm
from llmrec.weights.locate import locate

Json = dict[str, Any]
CONTEXT = 1024  # tokens of a prompt and its answer
MAX_TOKENS = 160


class VllmCallDecoder:
    """Writes the tool call that a chat model answers with.

    Args:
        base: short name, folder or hub id of the chat model.
        adapter: its folder, or None.
        dtype: ``float32`` or ``bfloat16``.
        memory_gib: for keys and values.

    Raises:
        ArtifactError: if vLLM cannot serve the model, or the adapter is damaged.
        MissingExtraError: if vLLM is not installed.
    """

    def __init__(
        self,
        base: str,
        adapter: Path | None,
        *,
        dtype: str = "float32",
        memory_gib: float = 0.5,
    ) -> None:
        require("vllm", "vllm")
        from transformers import AutoConfig
        from vllm.lora.request import LoRARequest

        located = locate(base, "language model", "assistant")
        self.tokenizer, self._lock, self._lora = load_tokenizer(located), threading.Lock(), None
        options: Json = {}
        if adapter is not None:
            rank = max(8, read_adapter(adapter).rank)
            # one place more than there are adapters: see llmrec.generation.vllm_start
            options = {"enable_lora": True, "max_loras": 2, "max_lora_rank": rank}
            self._lora = LoRARequest("assistant", 1, str(adapter))
        self.llm = open_vllm(
            located,
            AutoConfig.from_pretrained(located, local_files_only=True, trust_remote_code=False),
            dtype=dtype,
            max_model_len=CONTEXT,
            max_num_seqs=16,
            block_size=32,
            kv_cache_memory_bytes=int(memory_gib * 2**30),
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
            **options,
        )

    def close(self) -> None:
        """End vLLM's process."""
        self.llm.llm_engine.engine_core.shutdown()

    def decode(
        self,
        messages: Sequence[dict[str, str]],
        names: Sequence[str],
        grammar: Callable[[Sequence[str]], str],
    ) -> Iterator[str]:
        """See :meth:`llmrec.serving.assistant.decoder.CallDecoder.decode`."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        text = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        tokens = self.tokenizer.encode(text, add_special_tokens=False)
        params = SamplingParams(
            temperature=0,
            max_tokens=MAX_TOKENS,
            structured_outputs=StructuredOutputsParams(grammar=grammar(names)),
        )
        with self._lock:
            (done,) = self.llm.generate(
                [{"prompt_token_ids": tokens}], params, lora_request=self._lora, use_tqdm=False
            )
        written: str = done.outputs[0].text
        yield json.loads(written)["name"]
        yield written
