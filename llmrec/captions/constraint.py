"""A JSON schema held over every token that a model may say next, for ``transformers``.

xgrammar compiles the schema to a mask over the vocabulary; vLLM does the same with the same
library, so both engines leave a model the same choices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmrec.errors import require

if TYPE_CHECKING:
    import torch

ALL_ALLOWED = -1  # 32 set bits


def compile_schema(vocabulary: Any, json_schema: str) -> Any:
    """What xgrammar makes of a JSON schema, written as ``json.dumps`` does: ``", "`` and ``": "``.

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
        logprobs: log-probability of the best token left, one list a step, each ``[rows]``. What a
            row says after its end is without meaning.
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
        """Scores float ``[rows, vocabulary]``, -inf for what may not be said."""
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
