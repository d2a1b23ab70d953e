"""Opens a chat model: a causal LM whose tokenizer has a chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmrec.content.features.models import check_layers
from llmrec.errors import ArtifactError, ConfigError, one_line, require
from llmrec.llm.tokenizer import load_tokenizer
from llmrec.weights.locate import locate


def load_chat_model(name: str, option: str) -> tuple[Any, Any]:
    """A chat model in float32, and its tokenizer.

    Args:
        name: folder, hub id or short name.
        option: that named it, for messages.

    Raises:
        ConfigError: if the tokenizer has no chat template.
        ArtifactError: if there is no such model, or it cannot be read.
        MissingExtraError: without transformers.
    """
    require("transformers", "train")
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    located = locate(name, "language model", option.lstrip("-"))
    tokenizer = load_tokenizer(located)
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{option}: the tokenizer of {name} has no chat template; give an instruction-tuned "
            "model, such as smollm2-135m"
        )
    disable_progress_bar()
    check_layers(located)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            located,
            dtype="float32",
            local_files_only=Path(located).is_dir(),
            trust_remote_code=False,
        )
    # transformers raises nearly anything for files that are damaged, or of another kind
    except Exception as error:
        reason = one_line(error)[:300]
        raise ArtifactError(f"{name}: no language model that can be read ({reason})") from None
    return model, tokenizer
