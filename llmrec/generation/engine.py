"""The torch engine: a causal LM of transformers, its history read once and shared by all beams.

The keys and values of a prompt are held once per user. Beams differ only in the few tokens of
the item ID they are saying, so each carries just that short tail; a step attends to the
shared prefix with one matrix product for all beams of a user, and to the tails with another.
Copying the prefix per beam, as a general-purpose cache does, would move it ``beams`` times a
step. Works for the LLaMA family as transformers names its parts: grouped-query attention,
biases, query and key norms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from llmrec.errors import ConfigError
from llmrec.models.vocabulary import Vocabulary


@dataclass
class SharedPrefix:
    """What the model remembers of a batch of prompts and of what each beam said since.

    Attributes:
        keys, values: per layer ``[users, kv heads, length, head width]``.
        bias: 0 or -inf ``[users, 1, 1, 1, length]``; -inf on padding.
        position: int64 ``[users, 1]``, where the next token stands.
        tails: per layer the beams' own keys and values, each
            ``[users, beams, tokens said, kv heads, head width]``.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    bias: torch.Tensor
    position: torch.Tensor
    tails: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)


class TorchEngine:
    """Runs a LLaMA-family model for :func:`~llmrec.generation.beam_search.beam_search`.

    Args:
        model: a causal LM with the expanded vocabulary.
        vocabulary: where its item tokens are.

    Raises:
        ConfigError: if the model is not built like a LLaMA.
    """

    def __init__(self, model: Any, vocabulary: Vocabulary) -> None:
        self.model, self.vocabulary = model, vocabulary
        attention = model.model.layers[0].self_attn
        parts = ("q_proj", "k_proj", "v_proj", "o_proj", "scaling", "head_dim")
        missing = [part for part in parts if not hasattr(attention, part)]
        if missing:
            raise ConfigError(
                f"base: {type(model).__name__} is not of the LLaMA family "
                f"(its attention has no {missing[0]})"
            )

    def prefill(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Any]:
        window = getattr(self.model.config, "sliding_window", None)
        if window and tokens.shape[1] > window:
            raise ConfigError(
                f"a prompt of {tokens.shape[1]} tokens does not fit the model's sliding window "
                f"of {window}; lower max_items"
            )
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        output = self.model.model(
            input_ids=tokens, attention_mask=mask.long(), position_ids=positions, use_cache=True
        )
        layers = output.past_key_values.layers
        dtype = output.last_hidden_state.dtype
        bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        state = SharedPrefix(
            keys=[layer.keys for layer in layers],
            values=[layer.values for layer in layers],
            bias=bias.masked_fill(~mask, float("-inf"))[:, None, None, None],
            position=mask.long().sum(1, keepdim=True),
        )
        return output.last_hidden_state[:, -1], state

    def extend(
        self, codes: torch.Tensor, level: int, parents: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, Any]:
        """Hidden states ``[users, beams, width]`` after one more code a beam."""
        body = self.model.model
        start, _ = self.vocabulary.level_range(level)
        states = body.embed_tokens(codes + self.vocabulary.item_offset + start)
        cos, sin = body.rotary_emb(states, cache.position)
        rotation = (cos[:, :, None], sin[:, :, None])  # [users, 1, 1, head width]
        tails = []
        for index, layer in enumerate(body.layers):
            tail = cache.tails[index] if cache.tails else None
            attended, tail = _attend(
                layer.self_attn,
                layer.input_layernorm(states),
                rotation,
                (cache.keys[index], cache.values[index], cache.bias),
                tail,
                parents,
            )
            tails.append(tail)
            states = states + attended
            states = states + layer.mlp(layer.post_attention_layernorm(states))
        said = SharedPrefix(cache.keys, cache.values, cache.bias, cache.position + 1, tails)
        return body.norm(states), said

    def log_probs(self, hidden: torch.Tensor, level: int) -> torch.Tensor:
        """float32 ``[..., level size]``."""
        start, end = self.vocabulary.level_range(level)
        offset = self.vocabulary.item_offset
        head = self.model.get_output_embeddings().weight[offset + start : offset + end]
        return (hidden @ head.T).float().log_softmax(-1)

    def last_hidden(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Hidden state at the end of right-padded prompts, ``[users, width]``."""
        output = self.model.model(input_ids=tokens, use_cache=False).last_hidden_state
        hidden: torch.Tensor = output[torch.arange(len(tokens), device=tokens.device), lengths - 1]
        return hidden


def _attend(
    attention: Any,
    states: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    prefix: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    tail: tuple[torch.Tensor, torch.Tensor] | None,
    parents: torch.Tensor,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """One layer's attention for one token a beam.

    Shapes are written u users, b beams, h key-value heads, g query heads each, l prefix
    length, t tail length, d head width.

    Returns:
        (output ``[u, b, width]``, the tail with this token's key and value).
    """
    users, beams, _ = states.shape
    prefix_keys, prefix_values, bias = prefix
    heads, width = prefix_keys.shape[1], attention.head_dim
    query = attention.q_proj(states).view(users, beams, -1, width)
    key = attention.k_proj(states).view(users, beams, heads, width)
    value = attention.v_proj(states).view(users, beams, heads, width)
    if hasattr(attention, "q_norm"):
        query, key = attention.q_norm(query), attention.k_norm(key)
    query, key = _rotate(query, *rotation), _rotate(key, *rotation)
    tail_keys, tail_values = _longer(tail, key, value, parents)

    grouped = query.view(users, beams, heads, -1, width).transpose(1, 2)  # u h b g d
    shape = grouped.shape
    over_prefix = grouped.reshape(users, heads, -1, width) @ prefix_keys.transpose(2, 3)
    over_prefix = over_prefix.view(*shape[:-1], -1) * attention.scaling + bias
    over_tail = torch.einsum("uhbgd,ubthd->uhbgt", grouped, tail_keys) * attention.scaling
    weights = torch.cat([over_prefix, over_tail], -1).softmax(-1, dtype=torch.float32)
    weights = weights.to(states.dtype)
    length = prefix_keys.shape[2]
    shared = weights[..., :length].reshape(users, heads, -1, length) @ prefix_values
    own = torch.einsum("uhbgt,ubthd->uhbgd", weights[..., length:], tail_values)
    mixed = (shared.view(shape) + own).transpose(1, 2).reshape(users, beams, -1)
    return attention.o_proj(mixed), (tail_keys, tail_values)


def _longer(
    tail: tuple[torch.Tensor, torch.Tensor] | None,
    key: torch.Tensor,
    value: torch.Tensor,
    parents: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each beam's parent's tail with the beam's own key and value at its end."""
    if tail is None:
        return key[:, :, None], value[:, :, None]
    rows = torch.arange(len(parents), device=parents.device)[:, None]
    return (
        torch.cat([tail[0][rows, parents], key[:, :, None]], 2),
        torch.cat([tail[1][rows, parents], value[:, :, None]], 2),
    )


def _rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of ``[users, beams, heads, head width]``."""
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin
