"""One transformer layer of the LLaMA family, run on the model's own modules.

What transformers does in its layer's forward pass, with two differences: keys and values go into
the caller's KV cache, and where only one token's output is wanted no other is worked on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

CPU_TOKENS = 1024  # that go through a feed-forward part at once on a CPU


def run_layer(
    layer: Any,
    states: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    update_cache: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    mask: torch.Tensor | None,
    only: torch.Tensor | None = None,
) -> torch.Tensor:
    """One transformer layer.

    Args:
        states: ``[users, tokens, model width]``.
        rotation: cosines and sines ``[users, tokens or 1, head width]``.
        update_cache: takes the new keys and values ``[users, kv heads, tokens, head width]``,
            returns all that may be attended to.
        mask: additive ``[users, tokens, attended]``; None for causal attention.
        only: int64 ``[users]``, the one token of each user whose output is wanted.

    Returns:
        ``[users, tokens, model width]``, or one token each with ``only``.
    """
    attention = layer.self_attn
    width = attention.head_dim
    cos, sin = rotation
    normed = _norm(layer.input_layernorm, states)
    key = attention.k_proj(normed).unflatten(2, (-1, width))
    value = attention.v_proj(normed).unflatten(2, (-1, width))
    if hasattr(attention, "k_norm"):
        key = attention.k_norm(key)
    keys, values = update_cache(_rotate(key, cos, sin).transpose(1, 2), value.transpose(1, 2))
    if only is not None:
        rows = torch.arange(len(states), device=states.device)
        states, normed = states[rows, only, None], normed[rows, only, None]
        cos, sin = (part.expand(len(states), -1, -1)[rows, only, None] for part in rotation)
    query = attention.q_proj(normed).unflatten(2, (-1, width))
    if hasattr(attention, "q_norm"):
        query = attention.q_norm(query)
    query = _rotate(query, cos, sin).transpose(1, 2)
    mixed = _attend(query, keys, values, mask, attention.scaling)
    states = states + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return states + _feed_forward(layer.mlp, _norm(layer.post_attention_layernorm, states))


def _norm(norm: Any, states: torch.Tensor) -> torch.Tensor:
    """A layer's RMS norm, in two passes over memory instead of five where float32 allows it."""
    epsilon = getattr(norm, "variance_epsilon", None)
    if epsilon is None or states.dtype != torch.float32:
        normed: torch.Tensor = norm(states)
        return normed
    length = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    return (states * length.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()).mul_(
        norm.weight
    )


def _feed_forward(mlp: Any, states: torch.Tensor) -> torch.Tensor:
    """A layer's gated feed-forward part.

    On a CPU its wide middle is worked on in place and for some tokens at a time: fresh memory,
    which a large middle is each time anew, costs more there than the arithmetic done in it.
    """
    output: torch.Tensor
    if "SiLU" not in type(getattr(mlp, "act_fn", None)).__name__ or not hasattr(mlp, "gate_proj"):
        output = mlp(states)
        return output
    parts = states.flatten(0, -2).split(CPU_TOKENS) if states.device.type == "cpu" else [states]
    outputs = []
    for part in parts:
        gate = F.silu(mlp.gate_proj(part), inplace=True)
        outputs.append(mlp.down_proj(gate.mul_(mlp.up_proj(part))))
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return output.view_as(states)


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """Attention of ``[users, heads, tokens, width]``; causal without a mask."""
    users, heads, tokens, width = query.shape
    groups = heads // keys.shape[1]
    if mask is None:
        return F.scaled_dot_product_attention(
            query, keys, values, is_causal=True, scale=scale, enable_gqa=groups > 1
        )
    # Query heads that share keys become more tokens of one head: keys are read once for all.
    folded = query.reshape(users, keys.shape[1], groups * tokens, width)
    mask = mask[:, None].repeat(1, 1, groups, 1) if groups > 1 and tokens > 1 else mask[:, None]
    mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scale)
    return mixed.reshape(query.shape)


def _rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of ``[users, tokens, heads, head width]``."""
    half = states.shape[-1] // 2
    cos, sin = cos[:, :, None, :half], sin[:, :, None, :half]
    first, second = states[..., :half], states[..., half:]
    rotated = torch.empty_like(states)
    torch.mul(first, cos, out=rotated[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=rotated[..., half:]).addcmul_(first, sin)
    return rotated


def additive_mask(visible: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """0 where attention may look, -inf elsewhere."""
    if visible is None:
        return None
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(
        ~visible, float("-inf")
    )
