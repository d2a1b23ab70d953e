"""Settings of ``llmrec ctr``. Light: nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from llmrec.config import Signed, check_ranges
from llmrec.data.impression_reader import LogFormat
from llmrec.data.reading import ReadingOptions
from llmrec.data.timestamps import Unit
from llmrec.errors import ConfigError
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.types import EVENT_TYPES

STARS = 3.5  # the rating that the network predicts as 0
GROUPS = ("llm", "sources", "captions", "media", "engagement", "time", "feedback", "context")


@dataclass(frozen=True)
class LabelConfig:
    """Labels: positives and negatives.

    Attributes:
        kind: ``impressions``: logged lists with their clicks; ``ratings``: rated items, positive
            when the rating is high; ``sampled``: events of the log with sampled negatives, their
            odds corrected by the sampling rate (logQ).
        file: for ``impressions``, the log, a file or a folder of files, in any form of
            ``llmrec.data.impression_reader``.
        columns: for ``impressions``, our field -> their column, where the names differ.
        context_columns: for ``impressions``, columns to keep together as the context.
        reading, timestamp_unit, timestamp_format: for ``impressions``, as for ``llmrec ingest``.
        max_unknown: for ``impressions``, share of the shown items that may not be in the catalogue;
            1: all, and all users may be unknown too.
        min_rating: for ``ratings``, the lowest that counts as a click.
        types: for ``sampled``, event types that count as a click.
        per_positive: for ``sampled``, negatives drawn for each positive.
        draw: for ``sampled``, the proposal distribution: uniform, or popularity to the power 3/4.
    """

    kind: Literal["impressions", "ratings", "sampled"]
    file: Path | None = None
    columns: dict[str, str] = field(default_factory=dict)
    context_columns: tuple[str, ...] = ()
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    timestamp_unit: Unit = "auto"
    timestamp_format: str | None = None
    max_unknown: float = 0.5
    min_rating: Signed = 4.0
    types: tuple[str, ...] = ("click", "purchase")
    per_positive: int = 8
    draw: Literal["uniform", "popularity"] = "uniform"

    def __post_init__(self) -> None:
        if (self.kind == "impressions") != (self.file is not None):
            raise ConfigError("labels: `file:` is for kind impressions, and needed there")
        log_format = self.log_format  # names what is wrong with it
        if self.kind != "impressions" and log_format != LogFormat():
            raise ConfigError("labels: how a log is read is said for kind impressions alone")
        _check_types("labels.types", self.types)
        check_ranges(self, "[1, inf)", "per_positive", prefix="labels.")
        check_ranges(self, "[0, 1]", "max_unknown", prefix="labels.")

    @property
    def log_format(self) -> LogFormat:
        """How the log of impressions is written."""
        return LogFormat(
            self.columns,
            self.context_columns,
            self.reading,
            self.timestamp_unit,
            self.timestamp_format,
        )


@dataclass(frozen=True)
class HistoryConfig:
    """The part of a user's history that is read.

    Attributes:
        events: newest events of any type, for counts and shares.
        attended: newest events that target attention reads.
        types: event types that are positive: the language model's histories are made of them.
        min_rating: a positive event is not rated lower.
        session_minutes: a longer pause ends a session.
    """

    events: int = 50
    attended: int = 20
    types: tuple[str, ...] = ("click", "purchase")
    min_rating: Signed | None = None
    session_minutes: float = 30.0

    def __post_init__(self) -> None:
        _check_types("history.types", self.types)
        if not 1 <= self.attended <= self.events:
            raise ConfigError("history.attended: must be 1 or more, and at most history.events")


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the click network.

    Attributes:
        id_dim, field_dim, token_dim, fused_dim, category_dim: width of the embedding of an item's
            ID, each closed field, its words, its fused vector, and each categorical feature.
        bins: quantile bins of a numeric feature (piecewise linear embedding).
        number_dim: width of the embedding of a numeric feature.
        heads, head_dim: of target attention to the user's history.
        cross_layers, cross_rank: low-rank cross layers (DCN-v2, Wang et al. 2021).
        hidden: widths of the deep part.
        dropout: in the deep part.
        id_dropout: share of items whose ID embedding is dropped in training, so that new items are
            scored by their content.
        copies: networks of different seeds that are averaged in logits.
    """

    id_dim: int = 16
    field_dim: int = 8
    token_dim: int = 16
    fused_dim: int = 24
    category_dim: int = 4
    bins: int = 10
    number_dim: int = 3
    heads: int = 4
    head_dim: int = 12
    cross_layers: int = 2
    cross_rank: int = 32
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.1
    id_dropout: float = 0.1
    copies: int = 1

    def __post_init__(self) -> None:
        sizes = set(vars(self)) - {"hidden", "dropout", "id_dropout", "cross_layers"}
        check_ranges(self, "[1, inf)", *sorted(sizes), prefix="network.")
        check_ranges(self, "[0, inf)", "cross_layers", prefix="network.")
        check_ranges(self, "[0, 1)", "dropout", "id_dropout", prefix="network.")
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"network.hidden: {self.hidden}: each width must be 1 or more")


@dataclass(frozen=True)
class FitConfig:
    """How the click network is trained.

    Attributes:
        epochs: passes at most; the weights with the best validation log loss stay.
        checks: validations an epoch.
        patience: validations without a better one before it ends.
        rows: impressed items a step.
        learning_rate: AdamW's highest.
        weight_decay: of matrices; ``embedding_decay`` of tables of embeddings.
        average: decay of the moving average of the weights.
        purchase_weight, rating_weight: of these losses beside that of clicks.
    """

    epochs: int = 3
    checks: int = 4
    patience: int = 4
    rows: int = 512
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-5
    embedding_decay: float = 1e-4
    average: float = 0.998
    purchase_weight: float = 0.1
    rating_weight: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "epochs", "checks", "patience", "rows", prefix="fit.")
        check_ranges(self, "(0, inf)", "learning_rate", prefix="fit.")


@dataclass(frozen=True)
class ScoreConfig:
    """How predictions become one score to rank by.

    ``log p(click) + purchase * log p(purchase | click) + rating * (stars - 3.5)
    + llm * log p(item | history)``, the last of the language model.

    Attributes:
        purchase, rating: weights.
        llm: a weight, or None to choose it by NDCG@10 of held-out clicks in the validation part.
    """

    purchase: float = 0.0
    rating: float = 0.0
    llm: float | None = None


@dataclass(frozen=True)
class CtrConfig:
    """Settings of ``llmrec ctr``.

    Attributes:
        labels: what is a click and what is not.
        history: what of a user's history is read.
        network, fit: the click network and its training.
        retrieval: the candidate sources, whose scores and ranks are features.
        snapshots: how often over the log's time the sources' statistics are fitted.
        holidays: country code (such as US) whose public holidays count; empty for none.
        calibration: methods to choose from on the validation part.
        combine: what items are ranked by.
        ranked: held-out clicks of the validation part that ``combine.llm`` is chosen on.
    """

    labels: LabelConfig
    history: HistoryConfig = field(default_factory=HistoryConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    snapshots: int = 16
    holidays: str = ""
    calibration: tuple[str, ...] = ("none", "temperature", "platt", "isotonic", "per-field")
    combine: ScoreConfig = field(default_factory=ScoreConfig)
    ranked: int = 1500

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "snapshots", "ranked")
        if not self.calibration:
            raise ConfigError("calibration: names no method; `[none]` leaves probabilities alone")


def _check_types(name: str, types: tuple[str, ...]) -> None:
    unknown = [one for one in types if one not in EVENT_TYPES]
    if unknown or not types:
        problem = f"{unknown[0]!r} is not one" if unknown else "none is named"
        raise ConfigError(f"{name}: {problem}; choose from {', '.join(EVENT_TYPES)}")
