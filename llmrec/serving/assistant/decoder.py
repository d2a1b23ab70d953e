"""Constrained greedy decoding of tool calls by a LLaMA on PyTorch, made for one answer at once.

Three things make it fast where a model writes thirty tokens of which five are decisions:

* what every prompt begins with is read once, and its keys and values are kept;
* what the grammar leaves no choice about is not decided: forced text goes into the next forward
  pass together with the token before it, so there are as many passes as choices;
* the tool's name is decoded under a grammar of its own, made once, and told at once; that of its
  arguments, another one each turn, is compiled in some milliseconds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from llmrec.errors import require
from llmrec.generation.layer import additive_mask, run_layer

Grammar = Callable[[Sequence[str]], str]
MAX_TOKENS = 160  # of an answer; forced text counts
OPENING = '{"name": "'
Message = dict[str, str]


class CallDecoder:
    """Writes the tool call that a chat model answers with.

    Args:
        model: a causal LM of the LLaMA family, with its adapter merged.
        tokenizer: with a chat template.
        beginning: messages that every prompt begins with.
    """

    def __init__(self, model: Any, tokenizer: Any, beginning: Sequence[Message]) -> None:
        xgrammar = require("xgrammar", "media")
        self.model, self.tokenizer = model.eval(), tokenizer
        size = model.config.vocab_size
        self._info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
        self._compiler = xgrammar.GrammarCompiler(self._info, max_threads=1)
        self._xgrammar = xgrammar
        self._lengths = np.array([len(text) for text in self._info.decoded_vocab])
        self._names = lru_cache(maxsize=32)(self._compile_names)
        self._lock = threading.Lock()  # of the model: two at once are no faster
        self._prefix = self._common(beginning)
        self._cache = self._read(self._prefix)

    def decode(
        self,
        messages: Sequence[Message],
        names: Sequence[str],
        grammar: Grammar,
    ) -> Iterator[str]:
        """The name of the tool as soon as it is known, then the whole call as JSON.

        Args:
            messages: the prompt, with the beginning that all have.
            names: of the tools that may be called; the first is the likeliest.
            grammar: of the calls of some tools, in xgrammar's EBNF.
        """
        with self._lock, torch.inference_mode():
            writer = _Writer(self, self._tokens(messages))
            writer.follow(self._matcher(self._names(tuple(names))))
            name = writer.text[len(OPENING) :]
        yield name
        with self._lock, torch.inference_mode():
            matcher = self._matcher(self._compiler.compile_grammar(grammar([name])))
            if not matcher.accept_string(writer.text):
                raise AssertionError(f"the grammar of {name} does not begin with {writer.text!r}")
            writer.follow(matcher)
        yield writer.text

    def _tokens(self, messages: Sequence[Message]) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _common(self, beginning: Sequence[Message]) -> list[int]:
        """The tokens that all prompts begin with, whatever the user's message is."""
        one, other = (
            self._tokens([*beginning, {"role": "user", "content": text}]) for text in ("A", "7")
        )
        same = 0
        while one[same] == other[same]:
            same += 1
        return one[:same]

    def _compile_names(self, names: tuple[str, ...]) -> Any:
        choices = " | ".join(json.dumps(name) for name in names)
        return self._compiler.compile_grammar(f"root ::= {json.dumps(OPENING)} ({choices})")

    def _matcher(self, grammar: Any) -> Any:
        return self._xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)

    def _read(self, tokens: list[int]) -> Cache:
        cache = Cache.empty(self.model, len(tokens))
        with torch.inference_mode():
            self.forward(tokens, cache)
        return cache

    def forward(self, tokens: list[int], cache: Cache) -> torch.Tensor:
        """Read tokens after those of the cache, which grows by them; logits ``[vocabulary]``."""
        body = self.model.model
        start, count = cache.length, len(tokens)
        device = body.embed_tokens.weight.device
        states = body.embed_tokens(torch.tensor([tokens], device=device))
        positions = torch.arange(start, start + count, device=device)[None]
        rotation = body.rotary_emb(states, positions)
        mask = None
        if count > 1:
            visible = torch.ones(count, start + count, dtype=torch.bool, device=device)
            mask = additive_mask(visible.tril(start)[None], states.dtype)
        elif start:
            mask = additive_mask(
                torch.ones(1, 1, start + 1, dtype=torch.bool, device=device), states.dtype
            )
        last = torch.tensor([count - 1], device=device)
        for index, layer in enumerate(body.layers):
            ends = index == len(body.layers) - 1

            def update(
                key: torch.Tensor, value: torch.Tensor, index: int = index
            ) -> tuple[torch.Tensor, torch.Tensor]:
                return cache.put(index, key, value)

            only = last if ends else None
            layer_mask = mask[:, -1:] if ends and mask is not None else mask
            states = run_layer(layer, states, rotation, update, layer_mask, only)
        cache.length = start + count
        logits: torch.Tensor = self.model.get_output_embeddings()(body.norm(states)[0, -1])
        return logits


class Cache:
    """Keys and values of what was read.

    Args:
        keys, values: ``[layers, 1, kv heads, room, head width]``.
        length: how much of the room is filled.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        self.keys, self.values, self.length = keys, values, length

    @classmethod
    def empty(cls, model: Any, room: int) -> Cache:
        """With room for so many tokens."""
        config, weight = model.config, model.get_input_embeddings().weight
        attention = model.model.layers[0].self_attn
        shape = (config.num_hidden_layers, 1, config.num_key_value_heads, room, attention.head_dim)
        keys, values = (torch.empty(shape, dtype=weight.dtype, device=weight.device) for _ in "kv")
        return cls(keys, values, 0)

    def grown(self, room: int) -> Cache:
        """A copy with so much more room."""
        shape = [*self.keys.shape]
        shape[3] = self.length + room
        copy = Cache(self.keys.new_empty(shape), self.values.new_empty(shape), self.length)
        copy.keys[:, :, :, : self.length] = self.keys[:, :, :, : self.length]
        copy.values[:, :, :, : self.length] = self.values[:, :, :, : self.length]
        return copy

    def put(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep what a layer made of new tokens; returns all that these may attend to."""
        end = self.length + key.shape[2]
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


def _forced(matcher: Any) -> str:
    """What has to come next by a grammar; empty where that is a part of a character alone."""
    try:
        return str(matcher.find_jump_forward_string())
    except UnicodeDecodeError:  # it gives bytes as text, whatever they are
        return ""


class _Writer:
    """One answer while it is written."""

    def __init__(self, decoder: CallDecoder, prompt: list[int]) -> None:
        self.decoder = decoder
        prefix = decoder._prefix
        if prompt[: len(prefix)] != prefix:
            raise AssertionError("the prompt does not begin as all prompts do")
        self.unread = prompt[len(prefix) :]
        self.cache = decoder._cache.grown(len(self.unread) + MAX_TOKENS)
        self.written: list[int] = []
        self.passes = 0

    @property
    def text(self) -> str:
        """What is written so far."""
        return str(self.decoder.tokenizer.decode(self.written))

    def follow(self, matcher: Any) -> None:
        """Write on until a grammar ends."""
        mask = self.decoder._xgrammar.allocate_token_bitmask(1, self.decoder._info.vocab_size)
        while not matcher.is_terminated() and len(self.written) < MAX_TOKENS:
            matcher.fill_next_token_bitmask(mask, 0)
            allowed = np.flatnonzero(np.unpackbits(mask.numpy().view(np.uint8), bitorder="little"))
            for token in self._next(_forced(matcher), allowed):
                self._append(matcher, token)

    def _next(self, forced: str, allowed: np.ndarray) -> list[int]:
        """The next tokens: what has to come, or the best of what may.

        The last token of what has to come is left to the model where another token holds it and
        more of what follows, as ``"}}`` holds the end of a text.
        """
        if len(allowed) == 1:
            return [int(allowed[0])]
        if not forced:
            return [self._choose(allowed)]
        *before, last = self._tokens(forced)
        if before:
            return before
        longer = allowed[self.decoder._lengths[allowed] > len(forced.encode())]
        return [self._choose(np.append(longer, last)) if len(longer) else last]

    def _tokens(self, forced: str) -> list[int]:
        """A text that follows what is written, as the tokenizer would split the whole."""
        encode = self.decoder.tokenizer.encode
        whole = encode(self.text + forced, add_special_tokens=False)
        count = len(self.written)
        if whole[:count] == self.written and len(whole) > count:
            return list(whole[count:])
        return list(encode(forced, add_special_tokens=False))

    def _choose(self, allowed: np.ndarray) -> int:
        logits = self.decoder.forward(self.unread, self.cache).float()
        self.unread, self.passes = [], self.passes + 1
        options = torch.from_numpy(allowed).to(logits.device)
        return int(options[logits[options].argmax()])

    def _append(self, matcher: Any, token: int) -> None:
        if not matcher.accept_token(token):
            raise AssertionError(f"token {token} was written although the grammar forbids it")
        self.written.append(token)
        self.unread.append(token)
