"""Responses by ``transformers``: batches padded on the left, constrained token by token.

xgrammar compiles a JSON schema to a mask over the vocabulary; vLLM does the same with the same
library, so both engines leave a model the same choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmrec.captions.engine import CaptionQuery, Generation, MultimodalModel, ResponseFormat
from llmrec.captions.inputs import processor_media
from llmrec.captions.prompting import TASKS, ModelInput, Task, has_bos
from llmrec.captions.training.llava import load_multimodal
from llmrec.errors import require

if TYPE_CHECKING:
    import torch

ALL_ALLOWED = -1  # 32 set bits


class TransformersCaptionEngine:
    """An :class:`~llmrec.captions.engine.CaptionEngine` on ``transformers``.

    Args:
        model: that generates.
        formats: of its responses.
        device: a torch device.
        dtype: ``float32`` or ``bfloat16``.
        batch_size: queries of one forward pass.
    """

    name = "transformers"

    def __init__(
        self,
        model: MultimodalModel,
        formats: ResponseFormat,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 16,
    ) -> None:
        import torch
        from transformers import GenerationConfig

        self.model, self.formats = model, formats
        self.device, self.batch_size = device, batch_size
        self._dtype = getattr(torch, dtype)
        loaded, _ = load_multimodal(model.base, dtype=self._dtype)
        self._loaded: Any = loaded.to(device).eval()
        # the folder's own settings may sample, or punish what is repeated
        self._loaded.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=sorted(model.end_tokens),
            pad_token_id=model.tokenizer.pad_token_id or min(model.end_tokens),
        )
        self._grammars = {
            task: compile_schema(model.vocabulary, schema)
            for task in TASKS
            if (schema := formats.json_schema(task)) is not None
        }

    def generate(self, queries: Sequence[CaptionQuery]) -> list[Generation]:
        """One response a query, in order; only queries of one task share a batch."""
        found: dict[int, Generation] = {}
        alike: dict[tuple[Task, int], list[int]] = {}
        for place, query in enumerate(queries):
            alike.setdefault((query.task, query.given.n_frames), []).append(place)
        for (task, _), places in alike.items():
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                generated = self._generate(task, [queries[place].given for place in batch])
                found.update(zip(batch, generated, strict=True))
        return [found[place] for place in range(len(queries))]

    def close(self) -> None:
        """Free the weights."""
        self._loaded = None

    def _generate(self, task: Task, inputs: list[ModelInput]) -> list[Generation]:
        import torch

        recorder = GreedyRecorder(self._grammars.get(task), len(inputs))
        tensors = self._tensors(task, inputs)
        with torch.inference_mode():
            out = self._loaded.generate(
                **tensors,
                max_new_tokens=self.formats.max_tokens(task),
                logits_processor=[recorder],
            )
        new = out[:, tensors["input_ids"].shape[1] :].tolist()
        return [self._cut(tokens, row, recorder.logprobs) for row, tokens in enumerate(new)]

    def _tensors(self, task: Task, inputs: list[ModelInput]) -> Any:
        prompts = [self.model.prompt(task, given, self.formats.schema) for given in inputs]
        media: dict[str, list[Any]] = {}
        for given in inputs:
            for name, files in processor_media(given).items():
                media.setdefault(name, []).extend(files)
        tensors = self.model.processor(
            text=prompts,
            padding=True,
            return_tensors="pt",
            add_special_tokens=not has_bos(self.model.processor, prompts[0]),
            **media,
        )
        return tensors.to(self.device, self._dtype)  # whole numbers keep their type

    def _cut(self, tokens: list[int], row: int, logprobs: list[list[float]]) -> Generation:
        ends = [place for place, token in enumerate(tokens) if token in self.model.end_tokens]
        length = ends[0] if ends else len(tokens)
        return Generation(
            tokens[:length], [logprobs[step][row] for step in range(length)], ended=bool(ends)
        )


def compile_schema(vocabulary: Any, json_schema: str) -> Any:
    """xgrammar's grammar of a JSON schema, written as ``json.dumps`` does: ``", "`` and ``": "``.

    Raises:
        MissingExtraError: if xgrammar is not installed.
    """
    xgrammar = require("xgrammar", "media")
    compiler = xgrammar.GrammarCompiler(vocabulary, max_threads=2)
    return compiler.compile_json_schema(json_schema, any_whitespace=False)


class GreedyRecorder:
    """A logits processor for one greedy call of ``generate``: masks, and keeps probabilities.

    Args:
        grammar: of :func:`compile_schema`, or None to leave every token free.
        rows: prompts of the batch.

    Attributes:
        logprobs: log-probability of the best token left, one list a step, each ``[rows]``; without
            meaning after a row's end.
    """

    def __init__(self, grammar: Any, rows: int) -> None:
        self.logprobs: list[list[float]] = []
        self._matchers: list[Any] = []
        if grammar is not None:
            self._xgrammar = require("xgrammar", "media")
            self._matchers = [self._xgrammar.GrammarMatcher(grammar) for _ in range(rows)]
            size = grammar.tokenizer_info.vocab_size
            self._mask = self._xgrammar.allocate_token_bitmask(rows, size)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores float ``[rows, vocabulary]``, -inf for tokens that are not allowed."""
        scores = scores.float()
        if self._matchers:
            if self.logprobs:  # all but the first call: what was chosen last
                self._accept(input_ids[:, -1].tolist())
            for row, matcher in enumerate(self._matchers):
                if matcher.is_terminated():
                    self._mask[row] = ALL_ALLOWED
                else:
                    matcher.fill_next_token_bitmask(self._mask, row)
            scores = scores.clone()
            self._xgrammar.apply_token_bitmask_inplace(scores, self._mask.to(scores.device))
        self.logprobs.append(scores.log_softmax(-1).amax(-1).tolist())
        return scores

    def _accept(self, tokens: list[int]) -> None:
        for matcher, token in zip(self._matchers, tokens, strict=True):
            if not matcher.is_terminated() and not matcher.accept_token(token):
                raise AssertionError(f"token {token} was chosen although it was masked")
