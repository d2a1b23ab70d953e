"""A small network over the evidence of a candidate: when to believe whom.

How much likelihood, graph and content count depends on each other, on how popular the item is and
on how much is known of the user. The network is learned from validation users
(:mod:`llmrec.ranking.hybrid.fit`); features beyond what it has seen are held at the nearest that it
has, so that far outside the bonus alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.data.item_graph import FIX
from llmrec.errors import ArtifactError, one_line, require
from llmrec.ranking.hybrid.evidence import N_FEATURES


@dataclass(frozen=True)
class Correction:
    """A network of two hidden layers with ReLU.

    Attributes:
        mean, scale: float32 ``[features]``, which standardise them.
        low, high: float32 ``[features]``, bounds of the standardised features.
        weights: float32 ``[features, width]``, ``[width, width]``, ``[width, 1]``.
        biases: float32 ``[width]``, ``[width]``, ``[1]``.
    """

    mean: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """The network's input of features ``[..., features]``."""
        return np.clip((features - self.mean) / self.scale, self.low, self.high)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """What to add to a candidate's score, float32 ``[...]`` of features ``[..., features]``."""
        states = self.standardised(features)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            states = np.maximum(states @ weight + bias, 0)
        correction: np.ndarray = (states @ self.weights[-1] + self.biases[-1])[..., 0]
        return correction

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        save_file = require("safetensors.numpy", "train").save_file
        tensors = {"mean": self.mean, "scale": self.scale, "low": self.low, "high": self.high}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            tensors |= {f"weight.{layer}": weight, f"bias.{layer}": bias}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Correction:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: if it is missing or damaged.
        """
        safetensors = require("safetensors", "train")
        try:
            values = require("safetensors.numpy", "train").load_file(path)
            weights, biases = ([values[f"{n}.{i}"] for i in range(3)] for n in ("weight", "bias"))
            bounds = {name: values[name] for name in ("mean", "scale", "low", "high")}
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise ArtifactError(f"{path}: {one_line(error)}; {FIX}") from None
        if weights[0].shape[:1] != (N_FEATURES,):
            raise ArtifactError(f"{path}: is not over {N_FEATURES} features; {FIX}")
        return cls(**bounds, weights=tuple(weights), biases=tuple(biases))
