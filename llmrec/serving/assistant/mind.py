"""The assistant's own language model: a small chat model that was taught to call a shop's tools.

    model = EmbeddedModel.load()                 # with the adapter that comes with llmrec
    *_, call = model.next_step(turn)

It makes one call a turn and writes no words: replies are made of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from llmrec.errors import ArtifactError, require
from llmrec.serving.assistant.calls import (
    SYSTEM,
    ShopVocabulary,
    ToolCall,
    TurnView,
    messages,
)
from llmrec.serving.assistant.grammar import call_grammar, sensible_tools

BASE = "smollm2-135m"
SHIPPED = Path(__file__).parent / "demo_adapter"
Json = dict[str, Any]
Message = dict[str, str]


class Turn(Protocol):
    """What a model is asked: a message, what is on the screen, and the values of the shop."""

    @property
    def message(self) -> str:
        """Of the customer."""
        ...

    @property
    def view(self) -> TurnView:
        """The screen."""
        ...

    @property
    def vocabulary(self) -> ShopVocabulary:
        """Of the shop."""
        ...


class Decoder(Protocol):
    """Writes a call under a schema, on one engine or another."""

    def decode(
        self,
        messages: Sequence[Message],
        names: Sequence[str],
        grammar: Callable[[Sequence[str]], str],
    ) -> Iterator[str]:
        """The name of the tool as soon as it is known, then the whole call as JSON.

        Args:
            messages: the prompt.
            names: of the tools that may be called; the first is the likeliest.
            grammar: of the calls of some tools, in xgrammar's EBNF.
        """
        ...


class EmbeddedModel:
    """An :class:`~llmrec.serving.assistant.protocol.AssistantModel` in this process.

    Args:
        decoder: writes the calls.

    Attributes:
        writes: False: it makes one call a turn.
    """

    writes = False

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    @classmethod
    def load(
        cls,
        adapter: Path | None = SHIPPED,
        *,
        base: str = BASE,
        dtype: str = "auto",
    ) -> EmbeddedModel:
        """Open a chat model and its adapter.

        Args:
            adapter: its folder; None for none.
            base: short name, folder or hub id of the chat model.
            dtype: ``float32``, ``bfloat16``, or ``auto`` for the latter where the machine has units
                for it.

        Raises:
            ArtifactError: if a file is missing or damaged, or the adapter is of another base.
            ConfigError: if the base has no chat template.
            MissingExtraError: without xgrammar or peft.
        """
        from llmrec.serving.assistant.decoder import CallDecoder

        model, tokenizer = load_adapted(base, adapter, dtype)
        return cls(CallDecoder(model, tokenizer, [{"role": "system", "content": SYSTEM}]))

    def next_step(self, turn: Turn) -> Iterator[str | ToolCall]:
        """The name of a tool, then the call."""
        vocabulary, message, view = turn.vocabulary, turn.message, turn.view

        def grammar(tools: Sequence[str]) -> str:
            return call_grammar(vocabulary, message, view, tools)

        prompt = messages(vocabulary, message, view)
        tools = sensible_tools(vocabulary, message, view)
        name, written = None, self.decoder.decode(prompt, tools, grammar)
        for text in written:
            if name is None:
                yield (name := text)
            else:
                yield ToolCall.of_json(text)


def load_adapted(base: str, adapter: Path | None, dtype: str = "auto") -> tuple[Any, Any]:
    """A chat model with its adapter merged into it, and its tokenizer.

    Raises:
        ArtifactError, ConfigError, MissingExtraError: as for :meth:`EmbeddedModel.load`.
    """
    import torch

    from llmrec.llm.adapters import attach, base_hash, read_adapter
    from llmrec.llm.chat import load_chat_model
    from llmrec.loop.precision import computes

    require("xgrammar", "media")
    model, tokenizer = load_chat_model(base, "assistant")
    if adapter is not None:
        info = read_adapter(adapter)
        if info.base_hash != base_hash(base, items=False):
            raise ArtifactError(
                f"{adapter}: the adapter was made for the base {info.base_name!r}, and {base} is "
                "another"
            )
        model = attach(model, info.name, adapter).merge_and_unload()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "bfloat16" if computes(device, "bfloat16") else "float32"
    return model.to(device, getattr(torch, dtype)).eval(), tokenizer
