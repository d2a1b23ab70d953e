"""Which LoRA adapters can be served on a base that others share, by our engine and by vLLM.

An adapter changes linear layers inside the blocks and nothing else. The vocabulary belongs to the
base (:mod:`llmrec.training.next_item.expand`), since vLLM serves no adapter with rows of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from llmrec.errors import ConfigError

MATRICES = (".lora_A.weight", ".lora_B.weight")  # all that plain LoRA holds
VOCABULARY = ("embed_tokens", "lm_head")
# Extras of peft that vLLM refuses, or overlooks so that its answers would be others.
EXTRAS = (
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "use_dora",
    "use_qalora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "alora_invocation_tokens",
)
# The other named ways to begin change the base's own weights, which all adapters share.
INITS = (True, False, "gaussian", "orthogonal")


def why_not_plain(config: Mapping[str, Any], tensors: Iterable[str]) -> str | None:
    """Why an adapter cannot be served over a shared base; None if it can."""
    remedy = "train a LoRA of the linear layers alone, or merge it into its base"
    if config.get("peft_type") != "LORA":
        return f"it is {config.get('peft_type')}, not LoRA; {remedy}"
    for tensor in tensors:
        if any(part in tensor for part in VOCABULARY):
            return f"it changes the base's vocabulary ({tensor}), which vLLM cannot serve; {remedy}"
        if not tensor.endswith(MATRICES):
            return f"it holds more than LoRA matrices ({tensor}), which vLLM cannot serve; {remedy}"
    extras = [name for name in EXTRAS if config.get(name)]
    if config.get("bias", "none") != "none":
        extras.append("bias")
    if extras:
        return f"it uses {extras[0]}, which vLLM cannot serve; {remedy}"
    if config.get("init_lora_weights", True) not in INITS:
        return (
            f"it began with {config['init_lora_weights']!r}, which changes the base's weights; "
            "use one of true, gaussian, orthogonal"
        )
    return None


def check_name(name: str) -> None:
    """Check that an adapter can have a name.

    Raises:
        ConfigError: if peft or a path could not keep it.
    """
    plain = name.replace("-", "").isalnum() and name.isascii() and name[0].isalpha()
    # peft keeps adapters in module dictionaries, where some words are taken
    if not plain or hasattr(torch.nn.ModuleDict(), name):
        raise ConfigError(
            f"adapter: {name!r} cannot be its name; take letters, digits and hyphens, a letter "
            "first, and no name of a method such as 'items' or 'train'"
        )
