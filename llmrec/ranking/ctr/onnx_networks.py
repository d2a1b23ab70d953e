"""The networks of a click model on ONNX Runtime, without torch; made by
:mod:`llmrec.ranking.ctr.export`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.errors import ArtifactError, one_line, require

if TYPE_CHECKING:
    from llmrec.ranking.ctr.features import ClickFeatures
    from llmrec.ranking.ctr.item_features import ItemFeatures

REQUEST, ITEMS = "request.onnx", "items.onnx"
REQUEST_INPUTS = (
    "vectors",
    "history",
    "types",
    "ages",
    "ratings",
    "candidate",
    "request",
    "categories",
)
ITEM_INPUTS = ("ids", "fields", "tokens", "fused")
MOST_THREADS = 16  # requests that are scored side by side
_AT_ONCE = 8192  # items whose vectors are made at once


class OnnxNetworks:
    """One or more networks whose logits are averaged.

    Args:
        folder: holds ``request.onnx`` and ``items.onnx``.
        threads: of ONNX Runtime.

    Raises:
        ArtifactError: if a file is missing or damaged.
        MissingExtraError: if ONNX Runtime is not installed.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        folder = Path(folder)
        self._request = open_session(folder / REQUEST, threads)
        self._items = open_session(folder / ITEMS, threads)
        self._read = {one.name for one in self._request.get_inputs()}
        about = self._items.get_modelmeta().custom_metadata_map
        try:
            self.n_items, self.copies = int(about["n_items"]), int(about["copies"])
        except (KeyError, ValueError):
            raise ArtifactError(
                f"{folder / ITEMS}: does not say its size; run llmrec ctr again"
            ) from None

    def set_items(self, items: ItemFeatures) -> None:
        """Compute every item's vector; items that came after training have no ID of their own."""
        self.vectors = self._vectors_of(items, np.arange(items.n_items))

    def with_items(self, items: ItemFeatures, rows: np.ndarray) -> OnnxNetworks:
        """The same for items of which some have changed.

        Args:
            rows: int64, those that have, and all that are new.
        """
        changed = copy.copy(self)
        more = items.n_items - self.vectors.shape[1]
        changed.vectors = np.pad(self.vectors, ((0, 0), (0, more), (0, 0)))
        changed.vectors[:, rows] = self._vectors_of(items, rows)
        return changed

    def _vectors_of(self, items: ItemFeatures, rows: np.ndarray) -> np.ndarray:
        """float32 ``[copies, rows, dim]``."""
        if not len(rows):
            return self.vectors[:, :0]
        width = {one.name: one.shape[1] for one in self._items.get_inputs() if len(one.shape) > 1}
        given = {
            "ids": np.where(rows < self.n_items, rows + 1, 0),
            "fields": items.fields[rows, : width.get("fields", 0)].astype(np.int64),
            "tokens": items.padded_tokens()[rows].astype(np.int64),
            "fused": items.fused[rows].astype(np.float32),
        }
        names = [one.name for one in self._items.get_inputs()]
        parts = [
            self._items.run(None, {n: given[n][start : start + _AT_ONCE] for n in names})[0]
            for start in range(0, len(rows), _AT_ONCE)
        ]
        return np.concatenate(parts, axis=1)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "llmrec-onnx")

    def run(self, inputs: ClickFeatures) -> tuple[np.ndarray, np.ndarray]:
        """Logits ``[m, c, tasks]`` without position bias, and that bias ``[m, positions]``,
        float64."""
        logits, bias = zip(*self.each(inputs), strict=True)
        return np.stack(logits), np.stack(bias)

    def each(self, inputs: ClickFeatures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same of one request after the other. Those of several are begun at once, on all
        cores, and go on whatever the caller does meanwhile."""
        given: dict[str, Any] = {
            "types": inputs.history_types.astype(np.int64),
            "ages": inputs.history_ages,
            "ratings": inputs.history_ratings,
            "candidate": inputs.candidate,
            "request": inputs.request,
            "categories": inputs.categories.astype(np.int64),
        }

        def of_row(row: int) -> list[np.ndarray]:
            one = {name: values[row : row + 1] for name, values in given.items()}
            one["vectors"] = self.vectors[:, np.maximum(inputs.items[row], 0)]
            one["history"] = self.vectors[:, np.maximum(inputs.history_items[row], 0)]
            found: list[np.ndarray] = self._request.run(None, {n: one[n] for n in self._read})
            return found

        outputs = (self._threads.map if len(inputs) > 1 else map)(of_row, range(len(inputs)))
        return (
            (logits[0].astype(np.float64), bias[0].astype(np.float64)) for logits, bias in outputs
        )


def open_session(path: Path, threads: int) -> Any:
    """A file, ready to run on the CPU.

    Raises:
        ArtifactError: if it is missing or damaged.
        MissingExtraError: if ONNX Runtime is not installed.
    """
    runtime = require("onnxruntime", "ctr")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    if not path.is_file():
        raise ArtifactError(f"{path}: not found; run llmrec ctr again with --verify")
    broken = require("onnxruntime.capi.onnxruntime_pybind11_state", "ctr")
    damaged = (broken.Fail, broken.InvalidArgument, broken.InvalidGraph, broken.InvalidProtobuf)
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (*damaged, broken.NotImplemented, RuntimeError) as error:
        raise ArtifactError(
            f"{path}: cannot be opened ({one_line(error)}); run llmrec ctr again with --verify"
        ) from None
