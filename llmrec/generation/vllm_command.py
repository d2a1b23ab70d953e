"""``llmrec vllm BUNDLE``: a vLLM server with all that ``llmrec serve --vllm-url`` needs of it.

    llmrec vllm runs/demo/models/atomic/bundle --port 8001
    llmrec serve runs/demo/models/atomic/bundle --vllm-url http://127.0.0.1:8001

It keeps requests for items to the catalogue and answers others, such as chats, as any vLLM does.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from llmrec.errors import require
from llmrec.generation.engine import context_of
from llmrec.generation.vllm_server import served_name
from llmrec.generation.vllm_start import (
    VllmSettings,
    engine_options,
    model_and_adapters,
    read_config,
    use_first_runner,
)
from llmrec.llm.adapters import check_adapters
from llmrec.llm.layout import read_layout
from llmrec.llm.vllm_process import check_model

USUAL = VllmSettings()
# not `vllm serve`: that of the CPU build looks for a package of another name and ends
SERVER = "vllm.entrypoints.openai.api_server"


def serve_vllm(
    bundle: Path,
    /,
    host: str = "127.0.0.1",
    port: int = 8001,
    settings: Annotated[VllmSettings, tyro.conf.arg(name="")] = USUAL,
    show: Annotated[bool, tyro.conf.arg(name="print")] = False,
) -> None:
    """Start a vLLM server on a bundle.

    Args:
        bundle: folder of llmrec bundle, or of a model.
        host: address to listen on.
        port: to listen on.
        settings: how vLLM is started.
        show: print the command, and do not run it.
    """
    use_first_runner()
    model, adapters = model_and_adapters(bundle, [])
    command = server_command(model, adapters, settings, host, port)
    if show:
        print(shlex.join(command))
        return
    require("vllm", "vllm")
    check_model(model, read_config(model))
    sys.stdout.flush()
    os.execv(command[0], command)


def server_command(
    model: Path, folders: Sequence[Path], settings: VllmSettings, host: str, port: int
) -> list[str]:
    """The command of such a server.

    Args:
        model, folders: of the base and its adapters.

    Raises:
        ArtifactError: for a folder that cannot be used.
    """
    adapters = check_adapters(model, folders) if folders else {}
    _, encoder = read_layout(model)
    config = read_config(model)
    longest = encoder.limited(context_of(config)).max_tokens()
    command = [sys.executable, "-m", SERVER, "--model", str(model)]
    command += ["--host", host, "--port", str(port), "--served-model-name", served_name(model)]
    command += ["--generation-config", "vllm", "--enable-prefix-caching"]
    command += [] if torch.cuda.is_available() else ["--enforce-eager"]
    for name, value in engine_options(longest, adapters, settings).items():
        command += _flag(name, value)
    if adapters:
        command += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return command


def _flag(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    values = value if isinstance(value, list) else [value]
    return [flag, *map(str, values)]
