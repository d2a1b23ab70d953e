"""The engines that ``llmrec bench decode`` compares: token ids in, item indices out.

* ``llmrec``: the trie's beam search over one prefix.
* ``llmrec-prefill``: the same without the search.
* ``prefill``: transformers reads the prompts, as ``generate`` does, and nothing more. No way
  that reads each prompt once on its modules can be much faster.
* ``transformers``: ``generate`` with ``num_beams`` and ``prefix_allowed_tokens_fn``.
* ``vllm``: ``LLM.beam_search``, which knows no constraint of so many tokens: some of what it
  finds is no item.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from llmrec.bench.decode_config import DecodeBenchConfig
from llmrec.bench.reference_scores import token_trie
from llmrec.bench.workload import Workload, load_model
from llmrec.generation.beam_search import (
    SearchOptions,
    SearchResult,
    beam_search,
    check_scores,
    decode_slots,
)
from llmrec.generation.constraints import Constraints, LeafConstraints
from llmrec.generation.cuda_graph import CudaGraphSearch
from llmrec.generation.engine import TorchEngine
from llmrec.generation.trie import ItemTrie
from llmrec.types import Ranking

NO_BEAM = -1e8  # transformers scores beams it has not yet begun with -1e9


class BenchEngine(ABC):
    """One way to answer.

    Attributes:
        options: what it runs with, beside the benchmark's own settings.
    """

    def __init__(self, config: DecodeBenchConfig, workload: Workload) -> None:
        self.config, self.workload = config, workload
        self.options: dict[str, Any] = {}

    @abstractmethod
    def answer(self, prompts: list[np.ndarray]) -> Ranking | None:
        """The best items for each prompt; None from an engine that only reads."""

    def forget(self) -> None:  # noqa: B027
        """Drop what one batch has left for the next."""

    def close(self) -> None:  # noqa: B027
        """End what it has started."""


class _TorchBased(BenchEngine):
    """An engine within this process.

    Args:
        model: the workload's, where it is loaded already.
    """

    def __init__(self, config: DecodeBenchConfig, workload: Workload, model: Any = None) -> None:
        super().__init__(config, workload)
        self.model = model or load_model(workload.model, config.device, config.dtype)


class LlmrecEngine(_TorchBased):
    """Ours; on a GPU with the search captured as a CUDA graph, as it serves."""

    def __init__(self, config: DecodeBenchConfig, workload: Workload, model: Any = None) -> None:
        super().__init__(config, workload, model)
        self.engine = TorchEngine(self.model, workload.vocabulary)
        self.trie = ItemTrie(workload.ids.codes).to(config.device)
        self.search = SearchOptions(beams=config.beams, normalise=config.normalise)
        self.graphed = None
        if config.device == "cuda":
            self.graphed = CudaGraphSearch(self.engine, self.trie)

    def answer(self, prompts: list[np.ndarray]) -> Ranking | None:
        found = self.find(prompts, self._search)
        check_scores(found.scores)
        return Ranking(found.items.cpu().numpy(), found.scores.cpu().numpy())

    def _search(self, engine: TorchEngine, trie: ItemTrie, *request: Any) -> SearchResult:
        if self.graphed is None:
            return beam_search(engine, trie, *request)
        return self.graphed(*request)

    def find(self, prompts: list[np.ndarray], search: Callable[..., SearchResult]) -> SearchResult:
        """Read the prompts and search by :func:`beam_search` or one that takes the same."""
        prefix = self.engine.prefill_prompts(prompts, decode_slots(self.trie, self.config.beams))
        limits = LeafConstraints(self.trie, [Constraints()] * len(prompts))
        return search(self.engine, self.trie, prefix, limits, self.config.n, self.search)


class LlmrecPrefillEngine(LlmrecEngine):
    """Ours, reading the prompts and nothing more."""

    def answer(self, prompts: list[np.ndarray]) -> None:
        self.engine.prefill_prompts(prompts, decode_slots(self.trie, self.config.beams))


class PrefillEngine(_TorchBased):
    """transformers reading the prompts."""

    @torch.inference_mode()
    def answer(self, prompts: list[np.ndarray]) -> None:
        tokens, mask = left_pad(prompts, self.config.device)
        self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )


class TransformersEngine(_TorchBased):
    """``generate`` under a dictionary from each prefix to what may follow.

    Scored as llmrec scores. ``children``: ``renormalize_logits`` makes what the constraint leaves
    add up to one. ``level``: a forward hook masks the logits of all tokens but the level's, so that
    these add up to one before the constraint is applied.
    """

    def __init__(self, config: DecodeBenchConfig, workload: Workload, model: Any = None) -> None:
        super().__init__(config, workload, model)
        self.width = 0
        self.item_of, self.allowed = token_trie(workload.ids, workload.vocabulary.item_offset)
        self.pad = self.model.config.pad_token_id or 0
        self.model.generation_config.eos_token_id = None
        if config.normalise == "level":
            self.model.register_forward_hook(self._mask_other_levels)

    def answer(self, prompts: list[np.ndarray]) -> Ranking:
        tokens, mask = left_pad(prompts, self.config.device)
        self.width = tokens.shape[1]
        generated = self.model.generate(
            input_ids=tokens,
            attention_mask=mask,
            num_beams=self.config.beams,
            num_return_sequences=self.config.n,
            max_new_tokens=self.workload.ids.levels,
            prefix_allowed_tokens_fn=self._next,
            do_sample=False,
            length_penalty=0.0,
            early_stopping=False,
            renormalize_logits=self.config.normalise == "children",
            pad_token_id=self.pad,
            return_dict_in_generate=True,
            output_scores=True,
        )
        shape = (len(prompts), self.config.n)
        scores = generated.sequences_scores.float().cpu().numpy().reshape(shape)
        sequences = generated.sequences[:, self.width :].tolist()
        items = np.array([self.item_of.get(tuple(s), -1) for s in sequences]).reshape(shape)
        missing = (scores < NO_BEAM) | (items < 0)
        return Ranking(np.where(missing, -1, items), np.where(missing, -np.inf, scores))

    def _next(self, _batch: int, sequence: torch.Tensor) -> list[int]:
        # A beam that never began may stand anywhere; its score stays what it is.
        return self.allowed.get(tuple(sequence[self.width :].tolist()), [self.pad])

    def _mask_other_levels(self, _module: Any, _inputs: Any, output: Any) -> Any:
        level = output.past_key_values.get_seq_length() - self.width
        tokens = self.workload.vocabulary.level_tokens(level)
        output.logits[..., : tokens.start] = -torch.inf
        output.logits[..., tokens.stop :] = -torch.inf
        return output


class VllmEngine(BenchEngine):
    """``LLM.beam_search``: unconstrained, and normalised over the whole vocabulary.

    With its best config: every beam of every user is decoded at once, all prompts are read in
    one step, and the model is compiled where that works. Its prefix cache is emptied between
    batches: every user is new to every engine.

    Args:
        llm: an engine that has been started; None to start one.
    """

    def __init__(self, config: DecodeBenchConfig, workload: Workload, llm: Any = None) -> None:
        for name, value in {
            "VLLM_CPU_KVCACHE_SPACE": "4",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the same threads as every other engine
            "VLLM_LOGGING_LEVEL": "ERROR",
        }.items():
            os.environ.setdefault(name, value)
        from vllm.sampling_params import BeamSearchParams

        super().__init__(config, workload)
        self.item_of, _ = token_trie(workload.ids, workload.vocabulary.item_offset)
        self.levels = workload.ids.levels
        longest = max(len(p) for p in workload.prompts) + self.levels + 1
        self.options = {
            "block_size": config.vllm_block_size,
            "max_num_seqs": config.batch * config.beams,
            "max_num_batched_tokens": max(8192, config.batch * longest),
            "max_model_len": longest,
            "enforce_eager": False,
        }
        if config.device == "cuda":  # the other engines are there as well
            self.options["gpu_memory_utilization"] = 0.2
        self.llm = llm or self._open(workload.model)
        self.params = BeamSearchParams(
            beam_width=config.beams, max_tokens=self.levels, ignore_eos=True
        )

    def _open(self, model: Path) -> Any:
        """The engine, compiled, or where the compiler fails as it is."""
        from vllm import LLM

        fixed = {
            "model": str(model),
            "dtype": self.config.dtype,
            "generation_config": "vllm",
            "max_logprobs": 2 * self.config.beams,
        }
        try:
            return LLM(trust_remote_code=False, **fixed, **self.options)
        except Exception as error:  # of any part of a compiler
            print(f"vllm: not compiled ({type(error).__name__})", flush=True)
            self.options["enforce_eager"] = True
            return LLM(trust_remote_code=False, **fixed, **self.options)

    def answer(self, prompts: list[np.ndarray]) -> Ranking:
        requests = [{"prompt_token_ids": prompt.tolist()} for prompt in prompts]
        shape = (len(prompts), self.config.n)
        items, scores = np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, np.float32)
        for user, output in enumerate(self.llm.beam_search(requests, self.params)):
            for place, beam in enumerate(output.sequences[: self.config.n]):
                items[user, place] = self.item_of.get(tuple(beam.tokens[-self.levels :]), -1)
                scores[user, place] = beam.cum_logprob
        return Ranking(items, scores)

    def forget(self) -> None:
        self.llm.reset_prefix_cache()

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()


MAKERS: dict[str, Callable[..., BenchEngine]] = {
    "llmrec": LlmrecEngine,
    "llmrec-prefill": LlmrecPrefillEngine,
    "prefill": PrefillEngine,
    "transformers": TransformersEngine,
    "vllm": VllmEngine,
}


def left_pad(prompts: list[np.ndarray], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded int64 ``[users, longest]`` and an attention mask of the same kind."""
    rows = [torch.from_numpy(prompt).long() for prompt in prompts]
    tokens, mask = (
        pad_sequence(part, batch_first=True, padding_side="left").to(device)
        for part in (rows, [torch.ones_like(row) for row in rows])
    )
    return tokens, mask
