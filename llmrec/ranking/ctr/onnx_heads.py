"""The heads of a click model on ONNX Runtime; see :mod:`llmrec.ranking.ctr.export`. Loads no
torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.errors import ArtifactError, require

if TYPE_CHECKING:
    from llmrec.ranking.ctr.features import Inputs
    from llmrec.ranking.ctr.shelf import Shelf

HEAD, ITEMS = "head.onnx", "items.onnx"
HEAD_INPUTS = ("vectors", "past", "kinds", "ages", "stars", "pair", "whole", "categories")
ITEM_INPUTS = ("ids", "fields", "tokens", "fused")
_AT_ONCE = 8192  # items whose vectors are made at once


class OnnxHeads:
    """One or more networks whose logits are averaged.

    Args:
        folder: holds ``head.onnx`` and ``items.onnx``.
        threads: of ONNX Runtime.

    Raises:
        ArtifactError: if a file is missing or damaged.
        MissingExtraError: if ONNX Runtime is not installed.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        folder = Path(folder)
        self._head = open_session(folder / HEAD, threads)
        self._items = open_session(folder / ITEMS, threads)
        self._read = {one.name for one in self._head.get_inputs()}
        about = self._items.get_modelmeta().custom_metadata_map
        try:
            self.n_items, self.copies = int(about["n_items"]), int(about["copies"])
        except (KeyError, ValueError):
            raise ArtifactError(
                f"{folder / ITEMS}: does not say its size; run llmrec ctr again"
            ) from None

    def set_shelf(self, shelf: Shelf) -> None:
        """Remember what stands for every item; those that came later have no ID of their own."""
        ids = np.arange(1, shelf.n_items + 1)
        ids[self.n_items :] = 0
        width = {one.name: one.shape[1] for one in self._items.get_inputs() if len(one.shape) > 1}
        given = {
            "ids": ids,
            "fields": shelf.fields[:, : width.get("fields", 0)].astype(np.int64),
            "tokens": shelf.padded_tokens().astype(np.int64),
            "fused": shelf.fused.astype(np.float32),
        }
        names = [one.name for one in self._items.get_inputs()]
        parts = [
            self._items.run(None, {n: given[n][start : start + _AT_ONCE] for n in names})[0]
            for start in range(0, shelf.n_items, _AT_ONCE)
        ]
        self.vectors = np.concatenate(parts, axis=1)

    def run(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Logits without places, float64 ``[m, c, tasks]``, and what places add ``[m, places]``."""
        said = [self._moment(inputs, row) for row in range(len(inputs))]
        logits, added = zip(*said, strict=True)
        return (
            np.concatenate(logits).astype(np.float64),
            np.concatenate(added).astype(np.float64),
        )

    def _moment(self, inputs: Inputs, row: int) -> tuple[np.ndarray, np.ndarray]:
        one = slice(row, row + 1)
        given: dict[str, Any] = {
            "vectors": self.vectors[:, np.maximum(inputs.items[row], 0)],
            "past": self.vectors[:, np.maximum(inputs.past_items[row], 0)],
            "kinds": inputs.past_kinds[one].astype(np.int64),
            "ages": inputs.past_ages[one],
            "stars": inputs.past_ratings[one],
            "pair": inputs.pair[one],
            "whole": inputs.whole[one],
            "categories": inputs.categories[one].astype(np.int64),
        }
        logits, added = self._head.run(None, {name: given[name] for name in self._read})
        return logits, added


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
        raise ArtifactError(f"{path}: not found; run llmrec ctr again")
    broken = require("onnxruntime.capi.onnxruntime_pybind11_state", "ctr")
    damaged = (broken.Fail, broken.InvalidArgument, broken.InvalidGraph, broken.InvalidProtobuf)
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (*damaged, broken.NotImplemented, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{path}: cannot be opened ({reason}); run llmrec ctr again") from None
