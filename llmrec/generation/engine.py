"""The torch engine: prefill and decode steps of a causal LM, its KV cache shared by all beams.

The arithmetic is the model's own modules', so adapters and quantised layers keep working; only
what stands between them is ours:

* Prompts are read once and their keys shared by all beams (:mod:`llmrec.generation.kv_cache`).
* Prompts are padded on the right while they are read. Causal attention then needs no mask,
  and the last layer works on the last position only: nothing else of its output is used.

Works for the LLaMA family as transformers names its parts: grouped-query attention, biases,
query and key norms, tied heads. A model that has these parts but joins them in another way
is found out when the engine is made, by comparing it with the model's own forward pass.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from llmrec.errors import ConfigError, one_line
from llmrec.generation.kv_cache import DecodeState, PrefillState
from llmrec.generation.layer import additive_mask, run_layer
from llmrec.llm.vocabulary import Vocabulary

PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "scaling", "head_dim")


class TorchEngine:
    """Runs a LLaMA-family model for :func:`~llmrec.generation.beam_search.beam_search`.

    Args:
        model: a causal LM with the expanded vocabulary.
        vocabulary: where its item tokens are.

    Attributes:
        max_tokens: most tokens a prompt and an item ID may have together.

    Raises:
        ConfigError: if the model is not built like a LLaMA, or has no rows for the item tokens.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary) -> None:
        self.model, self.vocabulary = model, vocabulary
        layers = getattr(getattr(model, "model", None), "layers", None)
        attention = getattr(layers[0], "self_attn", None) if layers else None
        missing = [part for part in PARTS if not hasattr(attention, part)]
        if missing:
            raise ConfigError(
                f"base: {type(model).__name__} is not of the LLaMA family "
                f"(its attention has no {missing[0]})"
            )
        rows = model.get_output_embeddings().weight.shape[0]
        if rows < vocabulary.size:
            raise ConfigError(
                f"base: the model has rows for {rows} tokens, its item IDs need "
                f"{vocabulary.size}; it was not expanded with the item tokens"
            )
        self.max_tokens = context_of(model.config)
        self._check_forward()

    def with_vocabulary(self, vocabulary: Vocabulary) -> TorchEngine:
        """The same with more, or fewer, of the item tokens in use that the model has rows for."""
        changed = copy.copy(self)
        changed.vocabulary = vocabulary
        return changed

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.get_output_embeddings().weight.device
        return device

    @torch.inference_mode()
    def prefill(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        *,
        slots: int = 0,
        past: PrefillState | None = None,
        keep: bool = True,
    ) -> PrefillState:
        """Run the model over prompts, or over what follows a cached beginning of them.

        Args:
            tokens, mask: int64 and bool ``[users, length]``; where the mask is false there is no
                token, and padding may stand on either side. At least one token a user.
            slots: places to keep free for tokens that beams generate.
            past: the KV cache of what the same users' prompts begin with; where it has enough free
                places, they are filled, so it must not be continued twice.
            keep: False when only the last hidden state is wanted: no keys are kept.
        """
        order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
        tokens, lengths = tokens.gather(1, order), mask.sum(1)  # padding behind all tokens
        body = self.model.model
        batch = _PrefillBatch(tokens, lengths, past, slots)
        states = body.embed_tokens(tokens)
        rotation = body.rotary_emb(states, batch.positions)
        additive = additive_mask(batch.mask(), states.dtype)
        keys, values = [], []
        for index, layer in enumerate(body.layers):

            def update_cache(
                key: torch.Tensor, value: torch.Tensor, index: int = index
            ) -> tuple[torch.Tensor, torch.Tensor]:
                key = batch.stored(key, index, "keys")
                value = batch.stored(value, index, "values")
                if keep:
                    keys.append(key)
                    values.append(value)
                return key[:, :, : batch.width], value[:, :, : batch.width]

            last = index == len(body.layers) - 1
            states = run_layer(
                layer,
                states,
                rotation,
                update_cache,
                additive_mask(batch.present[:, None], states.dtype) if last else additive,
                only=lengths - 1 if last else None,
            )
        hidden = body.norm(states)[:, 0]
        return PrefillState(keys, values, batch.total, hidden, batch.present, batch.width)

    def prefill_prompts(
        self, prompts: list[np.ndarray], slots: int, multiple: int = 1
    ) -> PrefillState:
        """:meth:`prefill` of token ids, one row a user.

        Args:
            slots: places to keep free for tokens that beams generate; with 0 no keys are kept.
            multiple: that the padded width is rounded up to.
        """
        tokens, mask = right_pad(prompts, multiple)
        device = self.device
        return self.prefill(tokens.to(device), mask.to(device), slots=slots, keep=slots > 0)

    @torch.inference_mode()
    def extend(
        self, codes: torch.Tensor, level: int, parents: torch.Tensor, state: DecodeState
    ) -> DecodeState:
        """One decode step: append one code to each beam.

        Args:
            codes: int64 ``[users, beams]``, codes of ``level``.
            parents: int64 ``[users, beams]``, the beam of ``state`` that each one continues.

        The prefix must have slots for ``beams`` more tokens.
        """
        users, beams = codes.shape
        prefix, body = state.prefix, self.model.model
        before = prefix.width + state.ancestors.shape[2]
        own = torch.eye(beams, dtype=torch.bool, device=codes.device).expand(users, -1, -1)
        inherited = state.ancestors.gather(
            1, parents[..., None].expand(-1, -1, state.ancestors.shape[2])
        )
        ancestors = torch.cat([inherited, own], 2)
        visible = torch.cat([prefix.present[:, None].expand(users, beams, -1), ancestors], 2)

        states = body.embed_tokens(codes + self.vocabulary.level_tokens(level).start)
        rotation = body.rotary_emb(states, (prefix.lengths + state.steps)[:, None])
        mask = additive_mask(visible, states.dtype)
        for index, layer in enumerate(body.layers):

            def update_cache(
                key: torch.Tensor, value: torch.Tensor, index: int = index
            ) -> tuple[torch.Tensor, torch.Tensor]:
                end = before + beams
                prefix.keys[index][:, :, before:end] = key
                prefix.values[index][:, :, before:end] = value
                return prefix.keys[index][:, :, :end], prefix.values[index][:, :, :end]

            states = run_layer(layer, states, rotation, update_cache, mask)
        return DecodeState(prefix, body.norm(states), ancestors, state.steps + 1)

    def logits(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """float32 ``[..., codes]`` over the codes of a level that items can have today."""
        tokens = self.vocabulary.level_tokens(level)
        head = self.model.get_output_embeddings()
        bias = getattr(head, "bias", None)
        if bias is not None:
            bias = bias[tokens]
        return F.linear(hidden, head.weight[tokens], bias).float()

    @torch.inference_mode()
    def _check_forward(self) -> None:
        """Compare with the model's own forward pass on a few tokens.

        Raises:
            ConfigError: if they differ.
        """
        size = self.vocabulary.size
        tokens = torch.arange(1, 5, device=self.device)[None] * 7919 % size
        name = f"base: {type(self.model).__name__}"
        try:
            found = self.prefill(tokens, torch.ones_like(tokens, dtype=torch.bool), keep=False)
        except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise ConfigError(
                f"{name} is not built like a LLaMA ({one_line(error)}); it cannot be used here"
            ) from error
        expected = self.model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
        own = self.model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[:, -1]
        # The logits as well: some families scale or cap them after the last hidden state.
        difference = max(
            _difference(expected, found.hidden),
            _difference(own[:, self.vocabulary.level_tokens(0)], self.logits(found.hidden, 0)),
        )
        tolerance = 1e-3 if expected.dtype == torch.float32 else 5e-2
        if difference > tolerance:
            raise ConfigError(
                f"{name} joins its parts in another way than a LLaMA "
                f"(its own forward pass differs by {difference:.2g}); it cannot be used here"
            )


class _PrefillBatch:
    """Positions and attention masks of one :meth:`TorchEngine.prefill`."""

    def __init__(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: PrefillState | None, slots: int
    ) -> None:
        self.past, self.slots, self.lengths = past, slots, lengths
        self.new = tokens.shape[1]
        self.before = 0 if past is None else past.width
        self.width = self.before + self.new
        steps = torch.arange(self.new, device=tokens.device)
        own = steps < lengths[:, None]
        self.positions = steps.expand_as(tokens)
        self.total = lengths
        if past is None:
            self.present = own
        else:
            self.positions = self.positions + past.lengths[:, None]
            self.total = lengths + past.lengths
            self.present = torch.cat([past.present, own], 1)

    def mask(self) -> torch.Tensor | None:
        """bool ``[users, new, width]``; None where plain causal attention does.

        Padding stands behind all tokens, so without a past no token can look at it.
        """
        if self.past is None:
            return None
        causal = torch.ones(self.new, self.new, dtype=torch.bool, device=self.lengths.device).tril()
        older = self.present[:, None, : self.before].expand(-1, self.new, -1)
        return torch.cat([older, causal.expand(len(older), -1, -1)], 2)

    def stored(self, new: torch.Tensor, layer: int, what: str) -> torch.Tensor:
        """Keys or values ``[users, kv heads, width + slots, head width]`` with the new ones."""
        if self.past is None and self.slots == 0:
            return new
        users, heads, _, head_width = new.shape
        places = self.width + self.slots
        old = None if self.past is None else getattr(self.past, what)[layer]
        if old is not None and old.shape[2] >= places:
            whole = old[:, :, :places]
        else:
            whole = new.new_empty(users, heads, places, head_width)
            if old is not None:
                whole[:, :, : self.before] = old[:, :, : self.before]
        whole[:, :, self.before : self.width] = new
        return whole


def _difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    """How far two vectors are apart, relative to the first.

    0 where they are not finite: damaged weights are reported where they are used.
    """
    if not (torch.isfinite(expected).all() and torch.isfinite(found).all()):
        return 0.0
    return float((expected - found).float().norm() / expected.float().norm().clamp(min=1e-30))


def right_pad(rows: list[np.ndarray], multiple: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded int64 ``[rows, width]`` and where it holds real values, bool.

    The width is the longest row's, rounded up to a multiple.
    """
    lengths = torch.tensor([len(row) for row in rows])
    width = -(-int(lengths.max()) // multiple) * multiple
    values = torch.zeros(len(rows), width, dtype=torch.int64)
    for index, row in enumerate(rows):
        values[index, : len(row)] = torch.from_numpy(np.asarray(row, dtype=np.int64))
    return values, torch.arange(values.shape[1]) < lengths[:, None]


def context_of(config: Any) -> int:
    """Tokens a model can read: its positions, or its sliding window if that is smaller."""
    names = ("max_position_embeddings", "sliding_window")
    limits = [getattr(config, name, None) for name in names]
    return min((int(limit) for limit in limits if limit), default=2**31)
