"""A multimodal LLaMA's folder, in the layout that transformers and vLLM both load.

transformers 5.17 names the tower's weights ``vision_tower.embeddings...``; vLLM 0.31 looks for
``vision_tower.vision_model.embeddings...``, the name of older releases, which transformers still
reads. The files are renamed one by one, so that no more than one is held in memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOWER, OLDER = "vision_tower.", "vision_tower.vision_model."
INDEX = "model.safetensors.index.json"


def save_multimodal(model: Any, processor: Any, folder: str | Path) -> Path:
    """Write a model and its processor where transformers and vLLM find them.

    Args:
        model: a LLaVA or LLaVA-NeXT-Video of transformers.
        processor: its processor, with its tokenizer and chat template.
        folder: made if it is not there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in sorted(folder.glob("model*.safetensors")):
        _rename_tensors(path)
    index = folder / INDEX
    if index.is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        places = content["weight_map"]
        content["weight_map"] = {vllm_name(name): file for name, file in places.items()}
        index.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return folder


def vllm_name(tensor: str) -> str:
    """The name that transformers and vLLM both read.

    >>> vllm_name("vision_tower.encoder.layers.0.mlp.fc1.bias")
    'vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias'
    >>> vllm_name("language_model.model.norm.weight")
    'language_model.model.norm.weight'
    """
    plain = tensor.removeprefix("model.")
    if plain.startswith(TOWER) and not plain.startswith(OLDER):
        return OLDER + plain.removeprefix(TOWER)
    return tensor


def _rename_tensors(path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        tensors = {vllm_name(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    unfinished = path.with_suffix(".part")
    save_file(tensors, unfinished, metadata=metadata)
    unfinished.replace(path)
