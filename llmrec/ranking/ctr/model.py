"""What ``llmrec ctr`` wrote, opened: from a moment and items to probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from llmrec.config import as_dict, build
from llmrec.errors import ArtifactError, LlmrecError
from llmrec.ranking.calibration.calibrator import Calibrator, load_calibrator
from llmrec.ranking.ctr.features import Assembler, Inputs, Signals
from llmrec.ranking.ctr.moments import ContextIds, Moments
from llmrec.ranking.ctr.settings import CtrConfig
from llmrec.ranking.ctr.shelf import Shelf
from llmrec.ranking.retrieval.snapshot import Snapshot
from llmrec.stage import read_manifest

if TYPE_CHECKING:
    from llmrec.ranking.ctr.network import Head

STAGE = "ctr"
MODEL, CALIBRATOR, REFERENCE, SNAPSHOT = (
    "model.json",
    "calibrator.json",
    "reference.json",
    "snapshot",
)
CATEGORY, POSITION = "category", "position"  # fields that calibration may go by


@dataclass(frozen=True)
class Card:
    """What a click model says of itself beside its arrays: ``model.json``.

    Attributes:
        config: the stage's settings, ``combine.llm`` as it was chosen.
        context: values by name.
        rates: of all items, see :class:`~llmrec.ranking.ctr.features.Assembler`.
        sources: names, the language model's first where there is one.
        tasks: what the head says, in order.
        copies: networks that are averaged.
    """

    config: dict[str, Any]
    context: dict[str, list[str]]
    rates: tuple[float, ...]
    sources: tuple[str, ...]
    tasks: tuple[str, ...]
    copies: int

    def write(self, folder: Path) -> None:
        text = json.dumps(as_dict(self), ensure_ascii=False, indent=1, default=str)
        (folder / MODEL).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Card:
        """Read what :meth:`write` wrote.

        Raises:
            ArtifactError: if it is missing or damaged.
        """
        path = folder / MODEL
        try:
            return build(cls, json.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError, LlmrecError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); run llmrec ctr again") from None


class ClickModel:
    """A head with everything that it reads.

    Attributes:
        config: settings of the stage.
        card: what the folder says of itself.
        shelf, context, snapshot, assembler: what its inputs are made of.
        calibrator: turns logits of a click into probabilities.
        calibrated: False where the folder has no calibrator.
    """

    def __init__(self, folder: Path, card: Card, heads: Any) -> None:
        self.folder, self.card, self.heads = folder, card, heads
        self.config = build(CtrConfig, card.config, f"{folder / MODEL}: config")
        self.past, self.retrieval = self.config.past, self.config.retrieval
        self.shelf = Shelf.load(folder)
        self.context = ContextIds.of(card.context)
        self.snapshot = Snapshot.load(folder / SNAPSHOT)
        self.calibrated = (folder / CALIBRATOR).is_file()
        self.calibrator = (
            load_calibrator(folder / CALIBRATOR) if self.calibrated else Calibrator.identity()
        )
        click, purchase, back, stars = card.rates
        self.assembler = Assembler(
            self.shelf,
            self.past,
            self.context,
            (click, purchase, back, stars),
            self.config.holidays,
        )

    @classmethod
    def load(
        cls, folder: str | Path, *, engine: Literal["onnx", "torch"] = "onnx", threads: int = 1
    ) -> Self:
        """Open what the stage wrote.

        Args:
            engine: what runs the head.
            threads: of ONNX Runtime.

        Raises:
            ArtifactError: if a part is missing or damaged.
            MissingExtraError: if ONNX Runtime is not installed.
        """
        folder = Path(folder)
        read_manifest(folder, STAGE)
        card = Card.read(folder)
        if engine == "onnx":
            from llmrec.ranking.ctr.onnx_heads import OnnxHeads

            heads: Any = OnnxHeads(folder, threads)
        else:
            heads = TorchHeads([_head(folder, number) for number in range(card.copies)])
        opened = cls(folder, card, heads)
        heads.set_shelf(opened.shelf)
        return opened

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the head says, ``click`` first."""
        return self.card.tasks

    def inputs(
        self, moments: Moments, items: np.ndarray, position: np.ndarray, signals: Signals
    ) -> Inputs:
        """What the head reads, of one moment or more."""
        return self.assembler(moments, items, position, signals)

    def logits(
        self, moments: Moments, items: np.ndarray, position: np.ndarray, signals: Signals
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the head says of the items of one moment.

        Args:
            items: int ``[1, c]``; position: int ``[1, c]``, -1 unknown.

        Returns:
            float64 ``[1, c, tasks]``, what its place adds included for known positions, and
            ``[1, places]``, what each place adds to the logit of a click.
        """
        found, added = self.heads.run(self.inputs(moments, items, position, signals))
        found[..., 0] += np.where(position >= 0, at_place(added, position), 0.0)
        return found, added

    def probabilities(
        self, logits: np.ndarray, fields: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Calibrated probabilities of a click, float64 in (0, 1).

        Args:
            logits: float ``[c]``, places included.
            fields: int ``[c]`` by name: ``category`` (the shelf's codes) and ``position``.
        """
        return self.calibrator.apply(logits, fields)

    def value(self, p_click: np.ndarray, logits: np.ndarray, llm: np.ndarray | None) -> np.ndarray:
        """What items are ranked by; see :class:`~llmrec.ranking.ctr.settings.Combine`.

        Args:
            p_click: float ``[c]``.
            logits: float ``[c, tasks]``.
            llm: float ``[c]``, log-likelihood as the language model has it; NaN or None: none.
        """
        combine, tasks = self.config.combine, self.tasks
        found = np.log(np.clip(p_click, 1e-12, 1.0))
        if combine.purchase and "purchase" in tasks:
            found = found - combine.purchase * np.logaddexp(0, -logits[:, tasks.index("purchase")])
        if combine.rating and "rating" in tasks:
            found = found + combine.rating * logits[:, tasks.index("rating")]
        return combined(found, llm, combine.llm or 0.0)


def combined(score: np.ndarray, llm: np.ndarray | None, weight: float) -> np.ndarray:
    """A score with a language model's log-likelihood; what it does not know has its lowest.

    Args:
        score, llm: float ``[..., c]``.
    """
    if llm is None or not weight:
        return score
    known = np.isfinite(llm)
    lowest = np.where(known, llm, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
    lowest = np.where(np.isfinite(lowest), lowest, 0.0)
    return score + weight * np.where(known, llm, lowest)


def at_place(added: np.ndarray, position: np.ndarray) -> np.ndarray:
    """What its place adds to each item; the last one's further down. ``[m, p]``, ``[m, c]``."""
    return np.take_along_axis(added, np.clip(position, 0, added.shape[1] - 1).astype(np.int64), 1)


class TorchHeads:
    """Networks on torch.

    Args:
        heads: one or more, whose logits are averaged.
    """

    def __init__(self, heads: list[Head]) -> None:
        self.heads = heads

    def set_shelf(self, shelf: Shelf) -> None:
        """Remember what stands for every item."""
        import torch

        from llmrec.ranking.ctr.fit import ItemTensors

        with torch.inference_mode():
            self.vectors = [
                ItemTensors(shelf, head.config).vectors(head, torch.arange(shelf.n_items))
                for head in self.heads
            ]

    def run(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Logits ``[m, c, tasks]`` without places, and what places add ``[m, places]``, float64."""
        import torch

        parts = [
            torch.from_numpy(np.ascontiguousarray(array))
            for array in (
                inputs.past_kinds.astype(np.int64),
                inputs.past_ages,
                inputs.past_ratings,
                inputs.pair,
                inputs.whole,
                inputs.categories.astype(np.int64),
            )
        ]
        items = torch.from_numpy(np.maximum(inputs.items, 0).astype(np.int64))
        past = torch.from_numpy(np.maximum(inputs.past_items, 0).astype(np.int64))
        with torch.inference_mode():
            said = [
                head.score(vectors[items], vectors[past], *parts)
                for head, vectors in zip(self.heads, self.vectors, strict=True)
            ]
        logits, added = zip(*said, strict=True)
        return (
            torch.stack(logits).double().mean(0).numpy(),
            torch.stack(added).double().mean(0).numpy(),
        )


def head_file(number: int) -> str:
    """Name of a network's file."""
    return f"head-{number}.safetensors"


def _head(folder: Path, number: int) -> Head:
    from llmrec.ranking.ctr.network import Head

    return Head.load(folder / head_file(number))
