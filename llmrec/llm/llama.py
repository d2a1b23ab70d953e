"""The language model: a size, a folder, a hub id or a short name, and what training adds to it.

A size name gives a LLaMA of that shape with fresh weights, so that everything runs with no
hub. Whatever the source, the result is an ordinary ``transformers`` causal LM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from llmrec.content.features.models import check_layers
from llmrec.errors import ConfigError, one_line
from llmrec.llm.dropout import dropout
from llmrec.weights.locate import locate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Size:
    """Shape of a LLaMA trained from scratch."""

    layers: int
    width: int
    heads: int
    feed_forward: int


SIZES = {
    "nano": Size(layers=1, width=64, heads=1, feed_forward=256),
    "micro": Size(layers=2, width=128, heads=2, feed_forward=512),
    "mini": Size(layers=3, width=192, heads=3, feed_forward=768),
    "small": Size(layers=4, width=256, heads=4, feed_forward=1024),
    "medium": Size(layers=12, width=768, heads=12, feed_forward=2048),
}


def llama_config(size: Size, vocab_size: int, max_tokens: int, tokens: dict[str, int]) -> Any:
    """The ``LlamaConfig`` of a shape; arguments as of :func:`from_size`."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=max_tokens,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
        **tokens,
    )


def from_size(name: str, vocab_size: int, max_tokens: int, tokens: dict[str, int]) -> Any:
    """A fresh LLaMA of a named size.

    Args:
        name: a key of :data:`SIZES`.
        vocab_size: rows of the expanded vocabulary.
        max_tokens: longest sequence it must accept.
        tokens: ``bos_token_id``, ``eos_token_id``, ``pad_token_id`` of its tokenizer.

    Raises:
        ConfigError: for an unknown size.
    """
    from transformers import LlamaForCausalLM

    if name not in SIZES:
        raise ConfigError(f"base: unknown size {name!r}; known sizes: {', '.join(SIZES)}")
    return LlamaForCausalLM(llama_config(SIZES[name], vocab_size, max(256, max_tokens), tokens))


def from_folder(base: str, vocab_size: int, dtype: torch.dtype) -> Any:
    """A causal LM from a folder, hub id or short name, with ``vocab_size`` rows.

    Raises:
        ConfigError: if it cannot be loaded, or is not built like a LLaMA.
    """
    from transformers import AutoModelForCausalLM

    located = locate(base, "language model", "base")
    check_layers(located)
    try:
        model = AutoModelForCausalLM.from_pretrained(located, dtype=dtype, trust_remote_code=False)
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        reason = one_line(error)[:300]
        raise ConfigError(
            f"base: {base!r} is neither a size ({', '.join(SIZES)}) nor a causal LM that "
            f"transformers can load from a folder or a hub ({reason})"
        ) from None
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None or not hasattr(layers[0], "self_attn"):
        raise ConfigError(f"base: {type(model).__name__} is not of the LLaMA family")
    model.resize_token_embeddings(vocab_size, mean_resizing=False)
    return model


def add_dropout(model: PreTrainedModel, rate: float) -> None:
    """Dropout on what every attention and feed-forward block adds to the residual stream.

    LLaMA has none of its own. Done with forward hooks, so the saved model stays ordinary.
    """
    if rate == 0:
        return

    def drop(module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (dropout(output[0], rate, module.training), *output[1:])
        return dropout(output, rate, module.training)

    for layer in model.model.layers:
        layer.self_attn.attention_dropout = rate
        layer.self_attn.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)
