"""What the item graph adds to the language model's log-likelihood of an item.

The two know different things: the language model what it generalised when it was trained, the graph
what happened since, event by event. An item whose score by graph and content is ``s`` gets
``weight * log(1 + s / scale)``, so one that neither leads to keeps its likelihood; and, where there
were enough validation users to learn it from, what a small network makes of likelihood, graph and
content together (:mod:`llmrec.ranking.hybrid.correction`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from llmrec.config import as_dict, build, check_ranges
from llmrec.data.item_graph import FIX, ItemGraph, read_matrix
from llmrec.errors import ArtifactError, one_line, require
from llmrec.files import read_versioned
from llmrec.ranking.hybrid.correction import Correction
from llmrec.ranking.hybrid.evidence import Evidence, features_of
from llmrec.ranking.retrieval.graph_scorer import (
    GraphScorer,
    GraphScorerConfig,
    extend_neighbours,
)

SCHEMA_VERSION = 2
_SETTINGS, _CONTENT, _GRAPH = "prior.json", "content.npz", "graph"
_CORRECTION = "correction.safetensors"


class GraphPrior:
    """A bonus of every item after a history.

    Args:
        scorer: graph and content.
        weight: of the bonus beside the log-likelihood; 0 is the language model alone.
        scale: the score at which the bonus is ``weight * log(2)``.
        correction: learned, added to the bonus; None where none was learned.

    Raises:
        ConfigError: for a weight or scale out of range.
    """

    def __init__(
        self,
        scorer: GraphScorer,
        weight: float = 1.0,
        scale: float = 0.01,
        correction: Correction | None = None,
    ) -> None:
        self.scorer, self.weight, self.scale = scorer, weight, scale
        self.correction = correction
        check_ranges(self, "[0, inf)", "weight")
        check_ranges(self, "(0, inf)", "scale")

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.scorer.n_items

    def bonus(self, evidence: Evidence) -> np.ndarray:
        """What is added to the log-likelihoods, float32 ``[users, candidates]``."""
        bonus = self.of(self.scorer.combined(list(evidence.parts)))
        if self.correction is not None:
            bonus = bonus + self.correction(features_of(evidence))
        return bonus.astype(np.float32)

    def of(self, scores: np.ndarray) -> np.ndarray:
        """The bonus of scores of graph and content, before what was learned."""
        return self.weight * np.log1p(scores / self.scale)

    def content_with(
        self, vectors: np.ndarray | None, n_items: int, changed: Sequence[int] = ()
    ) -> Any:
        """The content neighbours of a catalogue that has grown; known items keep their scores.

        Args:
            vectors: float ``[n_items, dim]``, content of all items; None where there is none.
            n_items: of the grown catalogue.
            changed: known items whose content is another one now.

        Returns:
            sparse ``[n_items, n_items]``; None where the prior goes by the graph alone.
        """
        scorer = self.scorer
        if scorer.content is None:
            return None
        if vectors is None:
            vectors = np.zeros((n_items, 1))
        settings = scorer.config
        return extend_neighbours(
            scorer.content, vectors, settings.neighbours, settings.content_power, changed
        )

    def grown(self, content: Any, n_items: int) -> GraphPrior:
        """The same for a catalogue that has grown; the graph is a copy where it has.

        Args:
            content: of :meth:`content_with`.
            n_items: of the grown catalogue.

        Raises:
            CatalogError: if there would be fewer items than now.
        """
        graph = self.scorer.graph
        graph = graph if graph.n_items == n_items else graph.grown(n_items)
        scorer = GraphScorer(graph, content, self.scorer.config)
        return GraphPrior(scorer, self.weight, self.scale, self.correction)

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder, which is made."""
        folder = Path(folder)
        self.scorer.graph.save(folder / _GRAPH)
        content = self.scorer.content
        if content is not None:
            sparse = require("scipy.sparse", "eval")
            sparse.save_npz(folder / _CONTENT, content, compressed=False)
        header = {
            "schema_version": SCHEMA_VERSION,
            "weight": self.weight,
            "scale": self.scale,
            "learned": self.correction is not None,
            "scorer": as_dict(self.scorer.config),
        }
        if self.correction is not None:
            self.correction.save(folder / _CORRECTION)
        (folder / _SETTINGS).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path, n_items: int) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            n_items: items of the catalogue that it must be of.

        Raises:
            ArtifactError: if it is missing, damaged or of another catalogue.
        """
        folder = Path(folder)
        header = read_versioned(folder / _SETTINGS, "graph prior", SCHEMA_VERSION, FIX)
        graph, path = ItemGraph.load(folder / _GRAPH, n_items), folder / _CONTENT
        content = read_matrix(path, n_items) if path.exists() else None
        try:
            config = build(GraphScorerConfig, header["scorer"], "scorer")
            learned = Correction.load(folder / _CORRECTION) if header["learned"] else None
            scorer = GraphScorer(graph, content, config)
            return cls(scorer, header["weight"], header["scale"], learned)
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{folder / _SETTINGS}: {one_line(error)}; {FIX}") from None
