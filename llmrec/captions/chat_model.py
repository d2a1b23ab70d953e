"""A chat model that answers in JSON of a schema: nothing else can be written.

Decoding is greedy under the schema's grammar, as captions are written
(:mod:`llmrec.captions.transformers_engine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmrec.captions.transformers_engine import GreedyRecorder, compile_schema
from llmrec.content.features.models import pick_device
from llmrec.errors import ConfigError, require
from llmrec.llm.adapters import attach
from llmrec.llm.chat import load_chat_model


@dataclass(frozen=True)
class Written:
    """One answer.

    Attributes:
        pieces: the bytes of each token.
        logprobs: of each token, among those that the grammar left.
    """

    pieces: list[bytes]
    logprobs: list[float]

    @property
    def text(self) -> str:
        """The answer; cut where the limit was reached."""
        return b"".join(self.pieces).decode(errors="ignore")


class ChatModel:
    """Answers prompts with a causal language model.

    Args:
        model: folder, hub id or short name of a chat model.
        adapter: folder of a LoRA adapter of the model, or None.
        name: of the adapter.
        least_context: tokens that it must read.
        device: auto or a torch device.

    Raises:
        ConfigError: if the model has no chat template, or reads too few tokens.
        ArtifactError: if the model or adapter cannot be loaded.
        MissingExtraError: without xgrammar.
    """

    def __init__(
        self,
        model: str,
        adapter: Path | None = None,
        name: str = "",
        *,
        least_context: int,
        device: str = "auto",
    ) -> None:
        require("xgrammar", "media")
        loaded, self.tokenizer = load_chat_model(model, "--model")
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.device = pick_device(device)
        context = int(loaded.config.max_position_embeddings)
        if context < least_context:
            raise ConfigError(
                f"--model: {model} reads {context} tokens, fewer than the {least_context} of a "
                "long text and its fields; give a model that reads more"
            )
        if adapter is not None:
            loaded = attach(loaded, name, adapter)
        self.model = loaded.to(self.device).eval()

    @cached_property
    def vocabulary(self) -> Any:
        """As xgrammar has it."""
        xgrammar = require("xgrammar", "media")
        size = self.model.config.vocab_size
        return xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=size)

    @cached_property
    def _bytes(self) -> list[bytes]:
        """Each token's bytes; nothing for those that are no text."""
        found = list(self.vocabulary.decoded_vocab)
        for token in (*self.vocabulary.special_token_ids, *self.vocabulary.stop_token_ids):
            found[token] = b""
        return found

    def grammar(self, json_schema: str) -> Any:
        """What :meth:`write` holds answers to."""
        return compile_schema(self.vocabulary, json_schema)

    def prompt_tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """Each prompt as the user's turn, up to where the answer begins."""
        found: list[list[int]] = self.tokenizer(self._turns(prompts), add_special_tokens=False)[
            "input_ids"
        ]
        return found

    def _turns(self, prompts: Sequence[str]) -> list[str]:
        return [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
            )
            for prompt in prompts
        ]

    def write(self, prompts: Sequence[str], grammar: Any, max_tokens: int) -> list[Written]:
        """An answer to each prompt, in order, all of them in one batch.

        Args:
            prompts: what the user says.
            grammar: of :meth:`grammar`.
            max_tokens: of an answer.
        """
        import torch

        tensors = self.tokenizer(
            self._turns(prompts), padding=True, return_tensors="pt", add_special_tokens=False
        ).to(self.device)
        tensors.pop("token_type_ids", None)
        recorder = GreedyRecorder(grammar, len(prompts))
        stops = set(self.vocabulary.stop_token_ids)
        with torch.inference_mode():
            written = self.model.generate(
                **tensors,
                max_new_tokens=max_tokens,
                do_sample=False,
                eos_token_id=sorted(stops),
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=[recorder],
            )
        found = []
        for row, tokens in enumerate(written[:, tensors["input_ids"].shape[1] :].tolist()):
            length = next((n for n, token in enumerate(tokens) if token in stops), len(tokens))
            pieces = [self._bytes[token] for token in tokens[:length]]
            found.append(Written(pieces, [step[row] for step in recorder.logprobs[:length]]))
        return found
