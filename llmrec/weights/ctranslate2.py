"""A Whisper in CTranslate2's format as the checkpoint that openai-whisper saves and loads.

The file, little-endian: version (uint32), name of the specification, its revision (uint32), number
of variables (uint32); each variable: name, number of axes (uint8), axes (uint32), type (uint8),
bytes (uint32), data; then aliases as pairs of names. A name is its length (uint16) with a closing
zero that counts. Source: ``ModelSpec`` of CTranslate2's Python package, binary version 6.

Queries, keys and values of an attention are stored below each other; the keys' bias, which
openai-whisper does not have, is zero.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import ArtifactError, require

_VERSION = 6
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_RENAMED = (
    (r"layer_(\d+)/", r"blocks.\1."),
    (r"self_attention/layer_norm/", "attn_ln."),
    (r"attention/layer_norm/", "cross_attn_ln."),
    (r"ffn/layer_norm/", "mlp_ln."),
    (r"ffn/linear_0/", "mlp.0."),
    (r"ffn/linear_1/", "mlp.2."),
    (r"^encoder/layer_norm/", "encoder.ln_post."),
    (r"^decoder/layer_norm/", "decoder.ln."),
    (r"^decoder/embeddings/", "decoder.token_embedding."),
    (r"position_encodings/encodings", "positional_embedding"),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
    ("/", "."),
)
# parts of a stacked linear layer, by what it is called after the renaming
_STACKED = {
    "self_attention.linear_0": ("attn.query", "attn.key", "attn.value"),
    "self_attention.linear_1": ("attn.out",),
    "attention.linear_0": ("cross_attn.query",),
    "attention.linear_1": ("cross_attn.key", "cross_attn.value"),
    "attention.linear_2": ("cross_attn.out",),
}


def convert_whisper(sources: Sequence[Path], folder: Path) -> None:
    """Write ``model.pt``, which ``whisper.load_model`` takes, in the precision of the source.

    Args:
        sources: the file, or its parts in order.
        folder: to write into.

    Raises:
        ArtifactError: if it is no such file, cut short, or of another model.
        MissingExtraError: without openai-whisper.
    """
    torch = require("torch", "media")
    library = require("whisper.model", "media")
    place = sources[0]
    variables = read_variables(b"".join(path.read_bytes() for path in sources), place)
    try:
        state = {name: torch.from_numpy(array.copy()) for name, array in renamed(variables).items()}
        sizes = dimensions(variables)
        library.Whisper(library.ModelDimensions(**sizes)).load_state_dict(state)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{place}: not a Whisper of CTranslate2 ({reason})") from None
    torch.save({"dims": sizes, "model_state_dict": state}, folder / "model.pt")


def read_variables(data: bytes, place: Path) -> dict[str, np.ndarray]:
    """The variables of a file of CTranslate2, by name; aliases are left out.

    Args:
        data: all of the file.
        place: its path, for messages.

    Raises:
        ArtifactError: if it is of another version or specification, or cut short.
    """
    reader = _Reader(data, place)
    version, kind, _revision = reader.number(4), reader.name(), reader.number(4)
    if version != _VERSION or kind != "WhisperSpec":
        raise ArtifactError(
            f"{place}: holds {kind[:40]!r} in version {version} of CTranslate2's format, not a "
            f"Whisper in version {_VERSION}"
        )
    variables = dict(reader.variable() for _ in range(reader.number(4)))
    for _ in range(reader.number(4)):
        reader.name(), reader.name()
    if reader.at != len(data):
        raise ArtifactError(f"{place}: {len(data) - reader.at:,} bytes follow the last variable")
    return variables


class _Reader:
    """Reads values one after the other, and says where the file ends too early."""

    def __init__(self, data: bytes, place: Path) -> None:
        self.data, self.place, self.at = data, place, 0

    def take(self, count: int) -> memoryview:
        if self.at + count > len(self.data):
            raise ArtifactError(
                f"{self.place}: ends after {len(self.data):,} bytes, within a variable; it is no "
                "whole file of CTranslate2"
            )
        self.at += count
        return memoryview(self.data)[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def name(self) -> str:
        return bytes(self.take(self.number(2))).rstrip(b"\0").decode(errors="replace")

    def variable(self) -> tuple[str, np.ndarray]:
        name = self.name()
        shape = [self.number(4) for _ in range(self.number(1))]
        kind = self.number(1)
        data = self.take(self.number(4))
        try:
            return name, np.frombuffer(data, _TYPES[kind]).reshape(shape)
        except (KeyError, ValueError) as error:
            raise ArtifactError(
                f"{self.place}: the variable {name[:80]!r} is damaged ({error})"
            ) from None


def renamed(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """openai-whisper's tensors by name, from CTranslate2's."""
    state = {}
    for name, array in variables.items():
        if not array.ndim:  # a setting, such as the number of heads
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        block, _, kind = name.rpartition(".")
        stacked = re.search(r"(?:self_)?attention\.linear_\d$", block)
        if stacked is None:
            state[name] = array
            continue
        parts = _STACKED[stacked[0]]
        rows = np.split(array, len(parts))
        for part, values in zip(parts, rows, strict=True):
            if part.endswith("key") and kind == "bias":
                if values.any():
                    raise ValueError(f"{name} has biases of keys, which openai-whisper lacks")
                continue
            state[f"{block[: stacked.start()]}{part}.{kind}"] = values
    return state


def dimensions(variables: dict[str, np.ndarray]) -> dict[str, Any]:
    """``ModelDimensions`` of openai-whisper, from the shapes."""

    def layers(part: str) -> int:
        found = [re.match(rf"{part}/layer_(\d+)/", name) for name in variables]
        return 1 + max(int(match[1]) for match in found if match)

    audio, text = (variables[f"{part}/position_encodings/encodings"] for part in _PARTS)
    return {
        "n_mels": variables["encoder/conv1/weight"].shape[1],
        "n_audio_ctx": audio.shape[0],
        "n_audio_state": audio.shape[1],
        "n_audio_head": int(variables["encoder/num_heads"]),
        "n_audio_layer": layers("encoder"),
        "n_vocab": variables["decoder/embeddings/weight"].shape[0],
        "n_text_ctx": text.shape[0],
        "n_text_state": text.shape[1],
        "n_text_head": int(variables["decoder/num_heads"]),
        "n_text_layer": layers("decoder"),
    }


_PARTS = ("encoder", "decoder")
