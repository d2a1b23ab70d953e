"""Which weights of a multimodal LLaMA a phase trains, and LoRA on its language model."""

from __future__ import annotations

from typing import Any

from torch import nn

from llmrec.captions.training.settings import FinetuneConfig
from llmrec.errors import require

# The linear layers of a LLaMA's blocks; the tower's have some of the same names.
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
PROJECTOR, TOWER, LANGUAGE = "multi_modal_projector", "vision_tower", ("language_model", "lm_head")


def prepare_finetune(model: Any, config: FinetuneConfig) -> Any:
    """Freeze everything that the fine-tuning does not train.

    Args:
        config: resolved.

    Returns:
        the model, inside a peft model where LoRA is trained; :func:`merged` takes it out again.

    Raises:
        MissingExtraError: if LoRA is asked for and peft is not installed.
    """
    parts = [PROJECTOR] + [TOWER] * bool(config.tower)
    if config.train == "lora":
        peft = require("peft", "tune")
        lora = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=LORA_TARGETS)
        wrapped = peft.get_peft_model(model, lora)
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name or any(part in name for part in parts):
                parameter.requires_grad_(True)
        return wrapped
    freeze_all_but(model, *parts, *(LANGUAGE if config.train == "full" else ()))
    return model


def merged(model: Any) -> Any:
    """The plain model, LoRA merged into its weights."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    return model.requires_grad_(False).eval()


def trainable_parameters(model: nn.Module) -> nn.ParameterList:
    """The weights that are trained, once each, in the model's order."""
    return nn.ParameterList([p for p in model.parameters() if p.requires_grad])


def trains_language(model: nn.Module) -> bool:
    """Whether anything of the language model is trained."""
    return any(
        parameter.requires_grad and any(part in name for part in LANGUAGE)
        for name, parameter in model.named_parameters()
    )


def freeze_all_but(model: Any, *parts: str) -> None:
    """Freeze everything but the parts of these names."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
