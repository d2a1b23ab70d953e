"""Responses by vLLM, for many items at once.

The three prompts about an item begin with the same pictures and words, which vLLM's prefix cache
reads once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmrec.captions.engine import CaptionQuery, Generation, MultimodalModel, ResponseFormat
from llmrec.captions.inputs import takes_video, vllm_media
from llmrec.captions.prompting import Task
from llmrec.errors import require
from llmrec.llm.vllm_process import open_vllm


class VllmCaptionEngine:
    """An :class:`~llmrec.captions.engine.CaptionEngine` on vLLM.

    Args:
        model: that generates.
        formats: of its responses.
        dtype: ``float32`` or ``bfloat16``.
        batch_size: prompts at once.
        memory_gib: for keys and values, on a CPU; a GPU gives what it has free.

    Raises:
        ArtifactError: if vLLM cannot serve the model.
        MissingExtraError: if vLLM is not installed.

    It starts a process of vLLM, which :meth:`close` ends.
    """

    name = "vllm"

    def __init__(
        self,
        model: MultimodalModel,
        formats: ResponseFormat,
        *,
        dtype: str = "float32",
        batch_size: int = 64,
        memory_gib: float = 1.0,
    ) -> None:
        require("vllm", "vllm")
        self.model, self.formats = model, formats
        self.llm = _start(model, dtype, batch_size, memory_gib)

    def close(self) -> None:
        """End vLLM's process."""
        self.llm.llm_engine.engine_core.shutdown()

    def generate(self, queries: Sequence[CaptionQuery]) -> list[Generation]:
        """One response a query, in order."""
        prompts = [self._prompt(query) for query in queries]
        params = [self._params(query.task) for query in queries]
        return [
            self._read(done.outputs[0])
            for done in self.llm.generate(prompts, params, use_tqdm=False)
        ]

    def _prompt(self, query: CaptionQuery) -> dict[str, Any]:
        text = self.model.prompt(query.task, query.given, self.formats.schema)
        prompt: dict[str, Any] = {"prompt_token_ids": self.model.prompt_tokens(text)}
        media = vllm_media(query.given)
        return prompt | ({"multi_modal_data": media} if media else {})

    def _params(self, task: Task) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        schema = self.formats.json_schema(task)
        return SamplingParams(
            temperature=0,
            max_tokens=self.formats.max_tokens(task),
            logprobs=0,  # of the chosen token alone
            detokenize=False,
            stop_token_ids=sorted(self.model.end_tokens),
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        )

    def _read(self, output: Any) -> Generation:
        tokens = list(output.token_ids)
        ended = bool(tokens) and tokens[-1] in self.model.end_tokens
        if ended:
            tokens = tokens[:-1]
        chosen = zip(tokens, output.logprobs, strict=False)  # one more for the end
        return Generation(tokens, [step[token].logprob for token, step in chosen], ended)


def _start(model: MultimodalModel, dtype: str, batch_size: int, memory_gib: float) -> Any:
    import torch

    memory: dict[str, Any] = {}
    if not torch.cuda.is_available():
        # there is no free memory of its own to fill; only whole blocks are shared by prompts
        memory = {"kv_cache_memory_bytes": int(memory_gib * 2**30), "block_size": 32}
    return open_vllm(
        model.base,
        model.config,
        dtype=dtype,
        max_num_seqs=batch_size,
        logprobs_mode="raw_logprobs",  # after the constraint's mask
        limit_mm_per_prompt={"video" if takes_video(model.processor) else "image": 1},
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        **memory,
    )
