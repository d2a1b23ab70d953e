"""vLLM in a process of its own, for captions and for item generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from llmrec.errors import ArtifactError, one_line


def open_vllm(model: str | Path, config: Any, **options: Any) -> Any:
    """A ``vllm.LLM`` that keeps the keys of shared prefixes.

    Args:
        model: folder or hub id.
        config: the model's, of ``transformers``.
        options: further ones of ``vllm.LLM``.

    Raises:
        ArtifactError: if vLLM cannot serve the model.
    """
    from vllm import LLM

    on_gpu = torch.cuda.is_available()
    check_model(model, config)
    try:
        return LLM(
            model=str(model),
            enforce_eager=not on_gpu,
            generation_config="vllm",  # the folder's own settings may sample, or cut beams off
            enable_prefix_caching=True,
            trust_remote_code=False,
            **options,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise ArtifactError(f"{model}: vLLM cannot serve it ({one_line(error)})") from error


def check_model(model: str | Path, config: Any) -> None:
    """On a CPU, vLLM starts with any model and dies of some with the first request.

    Args:
        config: the model's, of ``transformers``.

    Raises:
        ArtifactError: for one of those.
    """
    if torch.cuda.is_available():
        return
    config = config.get_text_config()
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    known = CPUAttentionBackend.get_supported_head_sizes()
    if width not in known:
        raise ArtifactError(
            f"{model}: its attention heads are {width} wide; on a CPU vLLM serves "
            f"{', '.join(map(str, known))}; take the other engine"
        )
