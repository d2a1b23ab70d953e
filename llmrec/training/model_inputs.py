"""What a run depends on of the model it starts from."""

from __future__ import annotations

from pathlib import Path

from llmrec.stage import file_hash

_SUFFIXES = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")


def model_hashes(folder: Path, name: str = "base") -> dict[str, str]:
    """Hashes of a model's or adapter's files, item IDs included, for a manifest's inputs.

    Nothing for a folder that is not there, such as a hub id.
    """
    paths = sorted([*folder.glob("*"), *folder.glob("item_ids/*")])
    return {
        f"{name}/{path.relative_to(folder)}": file_hash(path)
        for path in paths
        if path.suffix in _SUFFIXES
    }
