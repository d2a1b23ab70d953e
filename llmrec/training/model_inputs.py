"""What a run depends on of the model it starts from."""

from __future__ import annotations

from pathlib import Path

from llmrec.files import file_hash
from llmrec.llm.layout import LAYOUT
from llmrec.weights.known import WEIGHTS

_SUFFIXES = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")


def is_earlier_model(base: str | Path) -> bool:
    """Whether a base is a folder whose vocabulary holds items already."""
    return str(base) not in WEIGHTS and (Path(base) / LAYOUT).is_file()


def model_hashes(folder: Path, name: str = "base") -> dict[str, str]:
    """Hashes of a model's or adapter's files, item IDs included, for a manifest's inputs.

    A short name has that of its weights; nothing for a folder that is not there, such as a hub id.
    """
    if str(folder) in WEIGHTS:
        return {name: WEIGHTS[str(folder)].identity}
    paths = sorted([*folder.glob("*"), *folder.glob("item_ids/*")])
    return {
        f"{name}/{path.relative_to(folder)}": file_hash(path)
        for path in paths
        if path.suffix in _SUFFIXES
    }
