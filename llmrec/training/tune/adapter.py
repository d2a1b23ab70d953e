"""What a method trains: an adapter on the projections, the rows of new tokens, or everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmrec.errors import ConfigError, require
from llmrec.training.tune.settings import TuneConfig

TRAINED = "default"  # the name that trainers expect of the trained adapter


def with_adapter(model: Any, config: TuneConfig) -> Any:
    """The model with a fresh LoRA adapter on its targets; only that is trained.

    Raises:
        ConfigError: if a target names no linear layer of the model, or it has fewer blocks.
    """
    peft = require("peft", "tune")
    check_targets(model, config.targets)
    count = int(model.config.num_hidden_layers)
    if config.blocks > count:
        raise ConfigError(f"blocks: the base has {count}, not {config.blocks}")
    last = list(range(count - config.blocks, count)) if config.blocks else None
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=list(config.targets),
            layers_to_transform=last,
            task_type="CAUSAL_LM",
        ),
        autocast_adapter_dtype=config.loop.precision != "bf16-true",
    )


def with_earlier_adapter(model: Any, folder: Path, base: Path) -> Any:
    """The model with an adapter that was trained before; only that is trained further.

    Args:
        folder: of the adapter.
        base: folder of the model.

    Raises:
        ArtifactError: if the adapter does not fit the model.
    """
    from llmrec.llm.adapters import attach

    wrapped = attach(model, TRAINED, folder)
    kept = wrapped.peft_config[TRAINED]
    # with the name of the folder alone, peft cannot look at the base when it writes a checkpoint
    kept.inference_mode, kept.base_model_name_or_path = False, str(base)
    wrapped.set_adapter(TRAINED)
    for name, parameter in wrapped.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return wrapped


def check_earlier_adapter(
    config: TuneConfig, folder: Path, base: Path, *, items: bool = True
) -> None:
    """Check that an adapter is of a base, and of the shape that the settings name.

    Raises:
        ArtifactError: if it cannot be used, or is of another base.
        ConfigError: naming the setting that differs.
    """
    from llmrec.llm.adapters import CONFIG, check_adapters, read_adapter, read_json

    if config.method == "full":
        raise ConfigError("--adapter: method: full trains no adapter; merge it into the base first")
    check_adapters(base, [folder], items=items)
    info, shape = read_adapter(folder), read_json(folder / CONFIG)
    for name, has in (("rank", info.rank), ("alpha", info.alpha)):
        if getattr(config, name) != has:
            raise ConfigError(f"{name}: the adapter of {folder} has {has}; set the same")
    targets = sorted(shape["target_modules"])
    if sorted(config.targets) != targets:
        known = ", ".join(targets)
        raise ConfigError(f"targets: the adapter of {folder} has [{known}]; set the same")


def check_targets(model: Any, targets: list[str]) -> None:
    """Every target must name a linear layer.

    Raises:
        ConfigError: naming the first that does not, and what there is.
    """
    from torch import nn

    embeddings = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in embeddings
    ]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
            raise ConfigError(f"targets: no linear layer of the base is named {target!r}; {known}")


def with_token_rows(model: Any, tokens: range) -> Any:
    """The model with the rows of some tokens trained and everything else frozen.

    Input and output rows are trained as one where they are tied, and each for itself elsewhere.
    """
    peft = require("peft", "tune")
    from peft.utils.constants import DUMMY_TARGET_MODULES

    indices = list(tokens)
    tied = bool(model.config.tie_word_embeddings)
    wrapped = peft.get_peft_model(
        model,
        peft.LoraConfig(
            target_modules=DUMMY_TARGET_MODULES,  # no matrices beside the rows
            trainable_token_indices=(
                indices if tied else {"embed_tokens": indices, "lm_head": indices}
            ),
            task_type="CAUSAL_LM",
        ),
    )
    head = wrapped.get_base_model().get_output_embeddings()
    if "bias" not in dir(head):
        # trl reads the head's weight and bias; peft passes on the weight only
        head.bias = head.original_module.bias
    return wrapped


def write_adapter(
    model: Any, config: TuneConfig, run: Path, task: str, base: str | Path, *, items: bool = True
) -> dict[str, int]:
    """Write a run's adapter into its folder; its size is for the manifest.

    Args:
        model: a peft model.
        task: what it was trained for.
        base: folder of the model that it belongs to.
        items: whether that knows items.
    """
    from llmrec.llm.adapters import WEIGHTS, save_adapter

    folder = save_adapter(
        model,
        run / "adapter",
        name=config.name,
        version=config.version,
        task=task,
        base=base,
        items=items,
    )
    return {"adapter_bytes": (folder / WEIGHTS).stat().st_size}


def trained_parameters(model: Any) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
