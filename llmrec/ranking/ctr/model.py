"""A finished click model, opened: from requests and candidates to probabilities."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from llmrec.config import as_dict, build
from llmrec.jsonl import read_json
from llmrec.ranking.calibration.calibrator import Calibrator, load_calibrator
from llmrec.ranking.ctr.features import ClickFeatures, FeatureBuilder
from llmrec.ranking.ctr.item_features import ItemFeatures
from llmrec.ranking.ctr.request_context import ContextVocabulary
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.stage import read_manifest, reading

if TYPE_CHECKING:
    from llmrec.ranking.ctr.network import ClickNetwork

STAGE = "ctr"
MODEL, CALIBRATOR = "model.json", "calibrator.json"
REFERENCE, SNAPSHOT = "reference.json", "snapshot"
CATEGORY, POSITION = "category", "position"  # fields that calibration may go by


@dataclass(frozen=True)
class ModelCard:
    """What a click model needs beside its arrays: ``model.json``.

    Attributes:
        config: the stage's settings, ``combine.llm`` as it was chosen.
        context: values by name.
        rates: priors, see :class:`~llmrec.ranking.ctr.features.FeatureBuilder`.
        sources: names, the language model's first where there is one.
        tasks: of the network's logits, in order.
        copies: networks that are averaged.
    """

    config: dict[str, Any]
    context: dict[str, list[str]]
    rates: tuple[float, float, float, float]
    sources: tuple[str, ...]
    tasks: tuple[str, ...]
    copies: int

    def write(self, folder: Path) -> None:
        text = json.dumps(as_dict(self), ensure_ascii=False, indent=1, default=str)
        (folder / MODEL).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Read what :meth:`write` wrote.

        Raises:
            ArtifactError, ConfigError: if it is missing or damaged.
        """
        path = folder / MODEL
        with reading(path, "llmrec ctr"):
            return build(cls, read_json(path), str(path))


class ClickModel:
    """Click networks with everything that they read.

    Attributes:
        config: settings of the stage.
        card: what the folder holds beside arrays.
        item_features, context, snapshot, builder: what features are made of.
        calibrator: turns logits of a click into probabilities.
        calibrated: False where the folder has no calibrator.
    """

    def __init__(self, folder: Path, card: ModelCard, networks: Any) -> None:
        self.folder, self.card, self.networks = folder, card, networks
        self.config = build(CtrConfig, card.config, f"{folder / MODEL}: config")
        self.history, self.retrieval = self.config.history, self.config.retrieval
        self.item_features = ItemFeatures.load(folder)
        self.context = ContextVocabulary.of(card.context)
        self.snapshot = Snapshot.load(folder / SNAPSHOT)
        self.calibrated = (folder / CALIBRATOR).is_file()
        self.calibrator = (
            load_calibrator(folder / CALIBRATOR) if self.calibrated else Calibrator.identity()
        )
        self.builder = self._builder(self.item_features)

    @classmethod
    def load(
        cls, folder: str | Path, *, engine: Literal["onnx", "torch"] = "onnx", threads: int = 1
    ) -> Self:
        """Open what the stage wrote.

        Args:
            engine: what runs the networks.
            threads: of ONNX Runtime.

        Raises:
            ArtifactError: if a part is missing or damaged.
            MissingExtraError: if ONNX Runtime is not installed.
        """
        folder = Path(folder)
        read_manifest(folder, STAGE)
        card = ModelCard.read(folder)
        networks: Any
        if engine == "onnx":
            from llmrec.ranking.ctr.onnx_networks import OnnxNetworks

            networks = OnnxNetworks(folder, threads)
        else:
            from llmrec.ranking.ctr.network import ClickNetwork

            networks = TorchNetworks(
                [ClickNetwork.load(folder / network_file(n)) for n in range(card.copies)]
            )
        opened = cls(folder, card, networks)
        networks.set_items(opened.item_features)
        return opened

    def with_items(self, items: ItemFeatures, rows: np.ndarray) -> Self:
        """The same for items of which some have changed.

        Args:
            rows: int64, those whose vectors have, and all that are new.
        """
        changed = copy.copy(self)
        changed.item_features = items
        changed.networks = self.networks.with_items(items, rows)
        changed.builder = self._builder(items)
        return changed

    def _builder(self, items: ItemFeatures) -> FeatureBuilder:
        card, config = self.card, self.config
        return FeatureBuilder(items, self.history, self.context, card.rates, config.holidays)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is predicted, ``click`` first."""
        return self.card.tasks

    def probabilities(
        self, logits: np.ndarray, fields: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Calibrated probabilities of a click, float64 in (0, 1).

        Args:
            logits: float ``[c]``, position bias included.
            fields: int ``[c]`` by name: ``category`` (codes of the item features) and ``position``.
        """
        return self.calibrator.apply(logits, fields)

    def value(self, p_click: np.ndarray, logits: np.ndarray, llm: np.ndarray | None) -> np.ndarray:
        """What items are ranked by; see :class:`~llmrec.ranking.ctr.settings.ScoreConfig`.

        Args:
            p_click: float ``[c]``.
            logits: float ``[c, tasks]``.
            llm: float ``[c]``, log-likelihood of the language model; NaN or None: none.
        """
        combine, tasks = self.config.combine, self.tasks
        found = np.log(np.clip(p_click, 1e-12, 1.0))
        if combine.purchase and "purchase" in tasks:
            found = found - combine.purchase * np.logaddexp(0, -logits[:, tasks.index("purchase")])
        if combine.rating and "rating" in tasks:
            found = found + combine.rating * logits[:, tasks.index("rating")]
        return combined(found, llm, combine.llm or 0.0)


def combined(score: np.ndarray, llm: np.ndarray | None, weight: float) -> np.ndarray:
    """A score plus a weighted log-likelihood of the language model; its lowest where unknown.

    Args:
        score, llm: float ``[..., c]``.
    """
    if llm is None or not weight:
        return score
    known = np.isfinite(llm)
    lowest = np.where(known, llm, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
    lowest = np.where(np.isfinite(lowest), lowest, 0.0)
    return score + weight * np.where(known, llm, lowest)


def at_position(bias: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The position bias of each candidate; the last one's beyond. ``[m, p]``, ``[m, c]``."""
    return np.take_along_axis(bias, np.clip(position, 0, bias.shape[1] - 1).astype(np.int64), 1)


class TorchNetworks:
    """Networks on torch.

    Args:
        networks: one or more, whose logits are averaged.
    """

    def __init__(self, networks: list[ClickNetwork]) -> None:
        self.networks = networks

    def set_items(self, items: ItemFeatures) -> None:
        """Compute every item's vector."""
        import torch

        from llmrec.ranking.ctr.fit import ItemTensors

        with torch.inference_mode():
            self.vectors = [
                ItemTensors(items, network.config).vectors(network, torch.arange(items.n_items))
                for network in self.networks
            ]

    def with_items(self, items: ItemFeatures, rows: np.ndarray) -> TorchNetworks:
        """As :meth:`~llmrec.ranking.ctr.onnx_networks.OnnxNetworks.with_items`, all anew."""
        changed = copy.copy(self)
        changed.set_items(items)
        return changed

    def run(self, inputs: ClickFeatures) -> tuple[np.ndarray, np.ndarray]:
        """Logits ``[m, c, tasks]`` without position bias, and that bias ``[m, positions]``,
        float64."""
        import torch

        from llmrec.ranking.ctr.fit import request_tensors

        parts = request_tensors(inputs)
        items = torch.from_numpy(np.maximum(inputs.items, 0).astype(np.int64))
        history = torch.from_numpy(np.maximum(inputs.history_items, 0).astype(np.int64))
        with torch.inference_mode():
            outputs = [
                network.score(vectors[items], vectors[history], *parts)
                for network, vectors in zip(self.networks, self.vectors, strict=True)
            ]
        logits, bias = (torch.stack(output).double().mean(0).numpy()
                        for output in zip(*outputs, strict=True))  # fmt: skip
        return logits, bias

    def each(self, inputs: ClickFeatures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same of one request after the other."""
        yield from zip(*self.run(inputs), strict=True)


def network_file(number: int) -> str:
    """Name of a network's file."""
    return f"network-{number}.safetensors"
