"""Settings of ``llmrec hybrid``. Light: nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.config import check_ranges
from llmrec.data.item_graph import ItemGraphConfig
from llmrec.errors import ConfigError
from llmrec.ranking.retrieval.graph_scorer import GraphScorerConfig


@dataclass(frozen=True)
class HybridConfig:
    """Settings of the hybrid of language model and item graph.

    Attributes:
        graph: of the item graph.
        scorer: how graph and content are read.
        weights, scales: of the bonus (:class:`~llmrec.ranking.hybrid.prior.GraphPrior`) that are
            tried; the best pair by NDCG@10 on validation is kept.
        learn: learn from the validation users when to believe the language model, the graph or
            content; kept where it is better for users that it was not learned from.
        candidates: items that the language model, and the graph, propose to a validation user.
        validation_users: that the pairs are tried on and that is learned from; 0 is all.
        beams: beam width of a language model with semantic IDs.
        by_domain: of a catalogue of several domains, propose to a validation user items of the
            target's domain alone, as for a service that is asked for one.
    """

    graph: ItemGraphConfig = field(default_factory=ItemGraphConfig)
    scorer: GraphScorerConfig = field(default_factory=GraphScorerConfig)
    weights: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0])
    scales: list[float] = field(default_factory=lambda: [0.003, 0.01, 0.03, 0.1, 0.3])
    learn: bool = True
    candidates: int = 60
    validation_users: int = 30000
    beams: int = 50
    by_domain: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "[10, inf)", "candidates", "beams", prefix="hybrid.")
        check_ranges(self, "[0, inf)", "validation_users", prefix="hybrid.")
        for name, values in (("weights", self.weights), ("scales", self.scales)):
            if not values or not all(0 <= value < float("inf") for value in values):
                raise ConfigError(f"hybrid.{name}: {values} must be numbers from 0 on")
        if 0 in self.scales:
            raise ConfigError("hybrid.scales: 0 is none; give scores above 0")
