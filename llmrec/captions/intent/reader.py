"""A chat model that reads texts into closed fields: no other value can be written.

Decoding is greedy under the schema's grammar, as captions are written
(:mod:`llmrec.captions.transformers_engine`); the probability of a value is that of its tokens among
those that the grammar leaves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmrec.captions.engine import ResponseFormat
from llmrec.captions.intent.texts import CustomerText, prompt_of
from llmrec.captions.responses import field_probabilities, read_fields
from llmrec.captions.transformers_engine import GreedyRecorder, compile_schema
from llmrec.content.features.models import check_layers, pick_device
from llmrec.content.schema import Schema
from llmrec.errors import ArtifactError, ConfigError, one_line, require
from llmrec.llm.adapters import attach
from llmrec.llm.tokenizer import load_tokenizer
from llmrec.weights.locate import locate

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

    Raises:
        ConfigError: if the model has no chat template, or reads too few tokens.
        ArtifactError: if the model or adapter cannot be loaded.
        MissingExtraError: without xgrammar.
    """

    def __init__(
        self,
        model: str,
        schema: Schema,
        adapter: Path | None = None,
        *,
        device: str = "auto",
        batch_size: int = 16,
    ) -> None:
        require("xgrammar", "media")
        self.schema, self.batch_size = schema, batch_size
        self.tokenizer = load_tokenizer(model)
        if not self.tokenizer.chat_template:
            raise ConfigError(
                f"--model: the tokenizer of {model} has no chat template; give an "
                "instruction-tuned model, such as smollm2-135m"
            )
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.device = pick_device(device)
        loaded = _load(model)
        context = int(loaded.config.max_position_embeddings)
        if context < LEAST_CONTEXT:
            raise ConfigError(
                f"--model: {model} reads {context} tokens, fewer than the {LEAST_CONTEXT} of a "
                "long text and its fields; give a model that reads more"
            )
        if adapter is not None:
            loaded = attach(loaded, "intent", adapter)
        self.model = loaded.to(self.device).eval()

    @cached_property
    def _vocabulary(self) -> Any:
        xgrammar = require("xgrammar", "media")
        size = self.model.config.vocab_size
        return xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=size)

    @cached_property
    def _grammar(self) -> Any:
        schema = json.dumps(self.schema.json_schema(), ensure_ascii=False)
        return compile_schema(self._vocabulary, schema)

    @cached_property
    def _bytes(self) -> list[bytes]:
        """Each token's bytes; nothing for those that are no text."""
        found = list(self._vocabulary.decoded_vocab)
        for token in (*self._vocabulary.special_token_ids, *self._vocabulary.stop_token_ids):
            found[token] = b""
        return found

    def read(self, texts: Sequence[CustomerText]) -> list[Intent]:
        """What each text means, in order."""
        found: list[Intent] = []
        for start in range(0, len(texts), self.batch_size):
            found += self._read(texts[start : start + self.batch_size])
        return found

    def _read(self, texts: Sequence[CustomerText]) -> list[Intent]:
        import torch

        prompts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt_of(text, self.schema)}],
                add_generation_prompt=True,
                tokenize=False,
            )
            for text in texts
        ]
        tensors = self.tokenizer(
            prompts, padding=True, return_tensors="pt", add_special_tokens=False
        ).to(self.device)
        tensors.pop("token_type_ids", None)
        recorder = GreedyRecorder(self._grammar, len(texts))
        stops = sorted(self._vocabulary.stop_token_ids)
        with torch.inference_mode():
            written = self.model.generate(
                **tensors,
                max_new_tokens=ResponseFormat(self.schema, 1, 1).max_tokens("attributes"),
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=[recorder],
            )
        new = written[:, tensors["input_ids"].shape[1] :].tolist()
        return [
            self._intent(tokens, [step[row] for step in recorder.logprobs])
            for row, tokens in enumerate(new)
        ]

    def _intent(self, tokens: list[int], logprobs: list[float]) -> Intent:
        stops = set(self._vocabulary.stop_token_ids)
        length = next((n for n, token in enumerate(tokens) if token in stops), len(tokens))
        pieces = [self._bytes[token] for token in tokens[:length]]
        fields = read_fields(b"".join(pieces).decode(errors="ignore"), self.schema)
        return Intent(fields, field_probabilities(pieces, logprobs[:length], self.schema))


def _load(model: str) -> Any:
    """A causal LM in float32.

    Raises:
        ArtifactError: if there is none.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    located = locate(model, "language model", "model")
    check_layers(located)
    try:
        return AutoModelForCausalLM.from_pretrained(
            located,
            dtype="float32",
            local_files_only=Path(located).is_dir(),
            trust_remote_code=False,
        )
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        reason = one_line(error)[:300]
        raise ArtifactError(f"{model}: no language model that can be read ({reason})") from None
