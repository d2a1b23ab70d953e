"""Load openai-whisper by name or path, also from a folder that holds only the audio encoder.

* a short name of :mod:`llmrec.weights` (``whisper-tiny.en``, ``whisper-base``), from packages;
* a name that ``whisper.available_models()`` lists (``tiny``, ``base.en``, ...), downloaded;
* a ``.pt`` file as openai-whisper saves it (tensors only: nothing is unpickled into code);
* a folder with one ``*.npz`` of encoder weights and one ``*.cfg`` (JSON) of its sizes, as the ports
  to frameworks that store linear weights input-first keep it. It embeds; it cannot transcribe.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import ConfigError, LlmrecError, one_line, require
from llmrec.jsonl import read_json
from llmrec.weights.known import WEIGHTS
from llmrec.weights.locate import locate

_SIZES = ("n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer")
# parts of a port's names -> openai-whisper's
_RENAMED = (
    (r"^block_(\d+)/", r"blocks.\1."),
    (r"mlp/mlp1/", "mlp.0."),
    (r"mlp/mlp2/", "mlp.2."),
    ("/", "."),
)


@dataclass(frozen=True, eq=False)
class LoadedWhisper:
    """An audio encoder, and the whole model where there is a decoder too.

    Attributes:
        encoder: openai-whisper's ``AudioEncoder``.
        n_mels: bands of the spectrogram it reads.
        model: openai-whisper's ``Whisper``, or None.
    """

    encoder: Any
    n_mels: int
    model: Any | None


def load_whisper(model: str, device: Any) -> LoadedWhisper:
    """Load ``model`` onto a torch device.

    Raises:
        ConfigError: if it is no name, file or folder of a Whisper, or damaged.
        MissingExtraError: if openai-whisper is not installed.
    """
    whisper = require("whisper", "media")
    located = locate(model, "speech model", "speech_model")
    path = Path(located).expanduser()
    try:
        if path.is_dir():
            encoder, n_mels = _encoder_of(path)
            return LoadedWhisper(encoder.to(device).eval().requires_grad_(False), n_mels, None)
        if not path.is_file() and model not in whisper.available_models():
            raise ConfigError(
                f"speech_model: {model!r} is neither a file, a folder nor a name; names are "
                f"{', '.join((*_short_names(), *whisper.available_models()))}"
            )
        loaded = whisper.load_model(str(path) if path.is_file() else model, device=device)
    except LlmrecError:
        raise
    # a damaged file or a download that fails raises many kinds
    except Exception as error:
        reason = one_line(error)[:200]
        raise ConfigError(
            f"speech_model: {model!r} cannot be loaded ({reason}); without a network there is "
            f"{' and '.join(_short_names())}"
        ) from error
    _load_tokenizer(loaded)
    loaded = loaded.eval().requires_grad_(False)
    return LoadedWhisper(loaded.encoder, loaded.dims.n_mels, loaded)


def _short_names() -> list[str]:
    return [name for name, weights in WEIGHTS.items() if weights.kind == "speech model"]


def _load_tokenizer(model: Any) -> None:
    """Read the tokenizer, which openai-whisper keeps: it leaves the file open, and Python warns."""
    tokenizer = require("whisper.tokenizer", "media")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        tokenizer.get_tokenizer(model.is_multilingual, num_languages=model.num_languages)


def _encoder_of(folder: Path) -> tuple[Any, int]:
    library = require("whisper.model", "media")
    torch = require("torch", "media")
    sizes = read_json(_only(folder, "*.cfg"))["audio_encoder_config"]
    with np.load(_only(folder, "*.npz"), allow_pickle=False) as stored:
        tensors = {_renamed(name): _turned(name, stored[name]) for name in stored.files}
    layers = int(sizes["n_audio_layer"])
    if layers > len(tensors):  # all of them would be built first
        raise ConfigError(
            f"speech_model: {folder} claims {layers:,} layers and has {len(tensors)} tensors"
        )
    encoder = library.AudioEncoder(*(int(sizes[name]) for name in _SIZES))
    encoder.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    return encoder, int(sizes["n_mels"])


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ConfigError(f"speech_model: {folder} must hold one {pattern}, has {len(found)}")
    return found[0]


def _renamed(name: str) -> str:
    """A port's name of a tensor as openai-whisper's.

    >>> _renamed("block_0/mlp/mlp1/weight"), _renamed("conv1/bias")
    ('blocks.0.mlp.0.weight', 'conv1.bias')
    """
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    """float32; linear weights (two axes, in a block) from input-first to output-first."""
    linear = name.startswith("block_") and array.ndim == 2
    return np.ascontiguousarray(array.T if linear else array, dtype=np.float32)
