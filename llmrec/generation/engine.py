"""The torch engine: a causal LM of transformers, its history read once and shared by all beams.

Reading and saying run on the model's own modules, so adapters and quantised layers keep
working; only what stands between them is ours:

* The keys and values of a prompt are held once per user. What the beams say since is kept
  as a tree beside them: a beam's token attends to the prompt and to its own ancestors, which
  a small mask names, so nothing is copied when beams fork or end.
* Prompts are padded on the right while they are read. Causal attention then needs no mask,
  and the last layer works on the last position only: nothing else of its output is used.

Works for the LLaMA family as transformers names its parts: grouped-query attention, biases,
query and key norms, tied heads. A model that has these parts but joins them in another way
is found out when the engine is made, by comparing it with the model's own forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from llmrec.errors import ConfigError
from llmrec.generation.layer import additive_mask, run_layer
from llmrec.llm.vocabulary import Vocabulary

PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "scaling", "head_dim")


@dataclass(frozen=True)
class Prefix:
    """What the model remembers of a batch of prompts.

    Attributes:
        keys, values: per layer ``[users, kv heads, width + room, head width]``; the first
            ``width`` places are the prompts', the others are free for what beams say.
        lengths: int64 ``[users]``, tokens read.
        hidden: ``[users, model width]``, the final hidden state after the last token.
        present: bool ``[users, width]``, which places hold a token.
        width: places the prompts take.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    lengths: torch.Tensor
    hidden: torch.Tensor
    present: torch.Tensor
    width: int

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, users: torch.Tensor, room: int) -> Prefix:
        """Some of the users (int64 indices), with free places for ``room`` more tokens."""

        def moved(old: torch.Tensor) -> torch.Tensor:
            new = old.new_empty(len(users), old.shape[1], self.width + room, old.shape[3])
            new[:, :, : self.width] = old[users, :, : self.width]
            return new

        return Prefix(
            [moved(keys) for keys in self.keys],
            [moved(values) for values in self.values],
            self.lengths[users],
            self.hidden[users],
            self.present[users],
            self.width,
        )


@dataclass(frozen=True)
class Said:
    """What beams have said since a prefix, as a tree whose keys fill the prefix's free places.

    Attributes:
        prefix: the prompts.
        hidden: ``[users, beams, model width]``, after each beam's last token.
        ancestors: bool ``[users, beams, tokens said]``, whose keys each beam reads, its own
            last one included.
        steps: tokens each beam has said.
    """

    prefix: Prefix
    hidden: torch.Tensor
    ancestors: torch.Tensor
    steps: int

    @classmethod
    def nothing(cls, prefix: Prefix) -> Said:
        """One beam a user, before its first token."""
        none = torch.zeros(len(prefix), 1, 0, dtype=torch.bool, device=prefix.lengths.device)
        return cls(prefix, prefix.hidden[:, None], none, 0)


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
        room: int = 0,
        past: Prefix | None = None,
        keep: bool = True,
    ) -> Prefix:
        """Read prompts, or go on reading them.

        Args:
            tokens, mask: int64 and bool ``[users, length]``; where the mask is false there is no
                token, and padding may stand on either side. At least one token a user.
            room: places to keep free for what will be said.
            past: what the same users' prompts began with; where it has enough free places, they are
                filled, so it must not be gone on from twice.
            keep: False when only the last hidden state is wanted: no keys are kept.
        """
        tokens, lengths = _right_padded(tokens, mask)
        body = self.model.model
        reading = _Reading(tokens, lengths, past, room)
        states = body.embed_tokens(tokens)
        rotation = body.rotary_emb(states, reading.positions)
        additive = additive_mask(reading.mask(), states.dtype)
        keys, values = [], []
        for index, layer in enumerate(body.layers):

            def remember(
                key: torch.Tensor, value: torch.Tensor, index: int = index
            ) -> tuple[torch.Tensor, torch.Tensor]:
                key = reading.stored(key, index, "keys")
                value = reading.stored(value, index, "values")
                if keep:
                    keys.append(key)
                    values.append(value)
                return key[:, :, : reading.width], value[:, :, : reading.width]

            last = index == len(body.layers) - 1
            states = run_layer(
                layer,
                states,
                rotation,
                remember,
                additive_mask(reading.last_mask(), states.dtype) if last else additive,
                only=lengths - 1 if last else None,
            )
        hidden = body.norm(states)[:, 0]
        return Prefix(keys, values, reading.total, hidden, reading.present, reading.width)

    @torch.inference_mode()
    def extend(self, codes: torch.Tensor, level: int, parents: torch.Tensor, said: Said) -> Said:
        """Say one more code a beam.

        Args:
            codes: int64 ``[users, beams]``, codes of ``level``.
            parents: int64 ``[users, beams]``, the beam of ``said`` that each one goes on from.

        The prefix must have room for ``beams`` more tokens.
        """
        users, beams = codes.shape
        prefix, body = said.prefix, self.model.model
        before = prefix.width + said.ancestors.shape[2]
        own = torch.eye(beams, dtype=torch.bool, device=codes.device).expand(users, -1, -1)
        inherited = said.ancestors.gather(
            1, parents[..., None].expand(-1, -1, said.ancestors.shape[2])
        )
        ancestors = torch.cat([inherited, own], 2)
        seen = torch.cat([prefix.present[:, None].expand(users, beams, -1), ancestors], 2)

        start, _ = self.vocabulary.level_range(level)
        states = body.embed_tokens(codes + self.vocabulary.item_offset + start)
        rotation = body.rotary_emb(states, (prefix.lengths + said.steps)[:, None])
        mask = additive_mask(seen, states.dtype)
        for index, layer in enumerate(body.layers):

            def remember(
                key: torch.Tensor, value: torch.Tensor, index: int = index
            ) -> tuple[torch.Tensor, torch.Tensor]:
                end = before + beams
                prefix.keys[index][:, :, before:end] = key
                prefix.values[index][:, :, before:end] = value
                return prefix.keys[index][:, :, :end], prefix.values[index][:, :, :end]

            states = run_layer(layer, states, rotation, remember, mask)
        return Said(prefix, body.norm(states), ancestors, said.steps + 1)

    def logits(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """float32 ``[..., codes]`` over the codes of a level that items can have."""
        start, end = self.vocabulary.level_range(level)
        offset = self.vocabulary.item_offset
        head = self.model.get_output_embeddings()
        bias = getattr(head, "bias", None)
        if bias is not None:
            bias = bias[offset + start : offset + end]
        return F.linear(hidden, head.weight[offset + start : offset + end], bias).float()

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
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{name} is not built like a LLaMA ({reason}); it cannot be used here"
            ) from error
        expected = self.model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
        own = self.model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[:, -1]
        start, end = (
            self.vocabulary.item_offset + place for place in self.vocabulary.level_range(0)
        )
        # The logits as well: some families scale or cap them after the last hidden state.
        difference = max(
            _difference(expected, found.hidden),
            _difference(own[:, start:end], self.logits(found.hidden, 0)),
        )
        tolerance = 1e-3 if expected.dtype == torch.float32 else 5e-2
        if difference > tolerance:
            raise ConfigError(
                f"{name} joins its parts in another way than a LLaMA "
                f"(its own forward pass differs by {difference:.2g}); it cannot be used here"
            )


class _Reading:
    """Where the tokens of one :meth:`TorchEngine.prefill` stand, and who may attend to whom."""

    def __init__(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: Prefix | None, room: int
    ) -> None:
        self.past, self.room, self.lengths = past, room, lengths
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

    def last_mask(self) -> torch.Tensor:
        """bool ``[users, 1, width]``: what each user's last token attends to, all that is there."""
        return self.present[:, None]

    def stored(self, new: torch.Tensor, layer: int, what: str) -> torch.Tensor:
        """Keys or values ``[users, kv heads, width + room, head width]`` with the new ones."""
        if self.past is None and self.room == 0:
            return new
        users, heads, _, head_width = new.shape
        places = self.width + self.room
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


def _right_padded(tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same tokens with padding behind them, and how many there are."""
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return tokens.gather(1, order), mask.sum(1)


def context_of(config: Any) -> int:
    """Tokens a model can read: its positions, or its sliding window if that is smaller."""
    limits = [
        getattr(config, "max_position_embeddings", None),
        getattr(config, "sliding_window", None),
    ]
    return min((int(limit) for limit in limits if limit), default=2**31)
