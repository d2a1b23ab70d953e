"""A chat model that reads texts into closed fields: no other value can be written.

The probability of a value is that of its tokens among those that can lead to a value of its field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmrec.captions.chat_model import ChatModel, Written
from llmrec.captions.engine import ResponseFormat
from llmrec.captions.intent.closed_fields import choose_fields, field_layouts
from llmrec.captions.intent.texts import CustomerText, prompt_of
from llmrec.captions.responses import field_probabilities, read_fields
from llmrec.content.schema import Schema
from llmrec.errors import require
from llmrec.loop.precision import Precision, choose_precision

LEAST_CONTEXT = 1024  # tokens: MAX_CHARS of a text, the prompt around it, the answer


@dataclass(frozen=True)
class Intent:
    """What one text means.

    Attributes:
        fields: a value of the schema for each field.
        probabilities: of these, by field.
    """

    fields: dict[str, str]
    probabilities: dict[str, float]


class IntentReader:
    """Reads texts with a causal language model.

    Args:
        model: folder, hub id or short name of a chat model.
        schema: resolved.
        adapter: folder of a LoRA adapter of the model, or None.
        device: auto or a torch device.
        batch_size: texts that are read at once.
        precision: of weights and products.

    Raises:
        ArtifactError, ConfigError, MissingExtraError: see
            :class:`~llmrec.captions.chat_model.ChatModel`.
    """

    def __init__(
        self,
        model: str,
        schema: Schema,
        adapter: Path | None = None,
        *,
        device: str = "auto",
        batch_size: int = 16,
        precision: Precision = "float32",
    ) -> None:
        self.schema, self.batch_size = schema, batch_size
        self.model = ChatModel(model, adapter, "intent", least_context=LEAST_CONTEXT, device=device)

        chosen = choose_precision(self.model.device.type, precision)
        if chosen != "float32":
            self.model.model.to(getattr(require("torch", "train"), chosen))
        self._layouts = field_layouts(self.model.tokenizer, schema)

    @cached_property
    def _grammar(self) -> Any:
        return self.model.grammar(json.dumps(self.schema.json_schema(), ensure_ascii=False))

    def read(
        self, texts: Sequence[CustomerText], report: Callable[[int, int], None] | None = None
    ) -> list[Intent]:
        """What each text means, in order; texts that say the same are read once.

        Args:
            report: is told how many different ones are read, and of how many.
        """
        prompts = [prompt_of(text, self.schema) for text in texts]
        distinct = sorted(set(prompts), key=lambda prompt: (len(prompt), prompt))  # little padding
        found: dict[str, Intent] = {}
        for start in range(0, len(distinct), self.batch_size):
            batch = distinct[start : start + self.batch_size]
            found |= zip(batch, self._read(batch), strict=True)
            if report is not None:
                report(len(found), len(distinct))
        return [found[prompt] for prompt in prompts]

    def _read(self, prompts: Sequence[str]) -> list[Intent]:
        if self._layouts is None:  # tokens that are partly of a value: written one by one
            limit = ResponseFormat(self.schema, 1, 1).max_tokens("attributes")
            return [self._intent(one) for one in self.model.write(prompts, self._grammar, limit)]
        tokens = self.model.prompt_tokens(prompts)
        chosen = choose_fields(self.model.model, self._layouts, tokens)
        names = self.schema.names
        return [
            Intent(
                {n: self.schema.values(n)[c.value] for n, c in zip(names, row, strict=True)},
                {n: math.exp(c.logprob) for n, c in zip(names, row, strict=True)},
            )
            for row in chosen
        ]

    def _intent(self, written: Written) -> Intent:
        fields = read_fields(written.text, self.schema)
        return Intent(fields, field_probabilities(written.pieces, written.logprobs, self.schema))
