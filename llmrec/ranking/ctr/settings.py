"""Settings of ``llmrec ctr``. Light: nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrec.config import build
from llmrec.ranking.retrieval.settings import RetrievalConfig
from llmrec.types import EVENT_TYPES

STARS = 3.5  # the rating that a head means by 0
GROUPS = ("llm", "sources", "captions", "media", "time", "feedback", "context")


@dataclass(frozen=True)
class Labels:
    """What is a click and what is not.

    Attributes:
        kind: ``impressions``: lists that were shown, with what was clicked; ``ratings``: rated
            items, clicked when the rating is high; ``sampled``: events of the log, with negatives
            drawn at random and the odds corrected for how many were drawn.
        file: for ``impressions``, the JSONL file or folder of them.
        min_rating: for ``ratings``, the lowest that counts as a click.
        types: for ``sampled``, event types that count as a click.
        per_positive: for ``sampled``, negatives drawn for each.
        draw: for ``sampled``, from where: all items alike, or by how often they are chosen, to
            the power of 3/4.
    """

    kind: Literal["impressions", "ratings", "sampled"]
    file: Path | None = None
    min_rating: float = 4.0
    types: tuple[str, ...] = ("click", "purchase")
    per_positive: int = 8
    draw: Literal["uniform", "popularity"] = "uniform"

    def __post_init__(self) -> None:
        if (self.kind == "impressions") != (self.file is not None):
            raise ValueError("labels: `file:` names the lists of kind impressions, and only those")
        _check_types("labels.types", self.types)
        if self.per_positive < 1:
            raise ValueError(f"labels.per_positive: must be 1 or more, got {self.per_positive}")


@dataclass(frozen=True)
class Past:
    """What of a person's past is read.

    Attributes:
        events: newest events of any type, for sums and shares.
        attended: newest events that an item is compared with one by one.
        types: event types that are a choice: what the language model's histories are made of.
        min_rating: a choice is not rated lower.
        session_minutes: a longer pause ends a session.
    """

    events: int = 50
    attended: int = 20
    types: tuple[str, ...] = ("click", "purchase")
    min_rating: float | None = None
    session_minutes: float = 30.0

    def __post_init__(self) -> None:
        _check_types("past.types", self.types)
        if not 1 <= self.attended <= self.events:
            raise ValueError("past.attended: must be 1 or more, and at most past.events")


@dataclass(frozen=True)
class Network:
    """Size of the head.

    Attributes:
        id_dim, field_dim, token_dim, fused_dim, category_dim: width of what stands for an item's
            ID, each closed field, its words, its fused vector, and each context.
        bins: of a number, each holding as many rows; a number is read as how far it fills them.
        number_dim: width of what stands for a number.
        heads, head_dim: of the attention of an item to a person's past.
        cross_layers, cross_rank: explicit crosses (DCN-v2, Wang et al. 2021), of low rank.
        hidden: widths of the deep part.
        dropout: in the deep part.
        id_dropout: share of items whose ID is hidden in training, so that new ones are known by
            what they are.
        copies: networks that differ in their random start and are averaged in logits.
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
        for name, value in vars(self).items():
            if name == "hidden":
                wrong = not value or min(value) < 1
            elif name in ("dropout", "id_dropout"):
                wrong = not 0 <= value < 1
            else:
                wrong = value < (0 if name == "cross_layers" else 1)
            if wrong:
                raise ValueError(f"network.{name}: {value} is out of range")


@dataclass(frozen=True)
class Fit:
    """How the head is trained.

    Attributes:
        epochs: passes at most; the weights with the best validation log loss stay.
        checks: validations an epoch.
        patience: validations without a better one before it ends.
        rows: shown items a step.
        learning_rate: AdamW's highest.
        weight_decay: of matrices; ``embedding_decay`` of tables of embeddings.
        average: decay of the moving average of the weights.
        purchase_weight, rating_weight: of these losses beside that of clicks.
    """

    epochs: int = 3
    checks: int = 4
    patience: int = 4
    rows: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    embedding_decay: float = 1e-4
    average: float = 0.998
    purchase_weight: float = 0.1
    rating_weight: float = 0.1

    def __post_init__(self) -> None:
        for name in ("epochs", "checks", "patience", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"fit.{name}: must be 1 or more, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"fit.learning_rate: must be above 0, got {self.learning_rate}")


@dataclass(frozen=True)
class Combine:
    """How what the head says becomes one number to rank by.

    ``log p(click) + purchase * log p(purchase | click) + rating * (stars - 3.5)
    + llm * log p(item | history)``, the last as the language model says it.

    Attributes:
        purchase, rating: weights.
        llm: a weight, or None to choose it by NDCG@10 on people's next choices in the validation
            part.
    """

    purchase: float = 0.0
    rating: float = 0.0
    llm: float | None = None


@dataclass(frozen=True)
class CtrConfig:
    """Settings of ``llmrec ctr``.

    Attributes:
        labels: what is a click and what is not.
        past: what of a person's past is read.
        network, fit: the head and its training.
        retrieval: the sources, whose scores and ranks the head reads.
        snapshots: how often over the log's time the sources' statistics are taken.
        holidays: country code (such as US) whose public holidays count; empty for none.
        calibration: methods to choose from on the validation part.
        combine: what items are ranked by.
        ranked: people's choices of the validation part that ``combine.llm`` is chosen on.
    """

    labels: Labels
    past: Past = field(default_factory=Past)
    network: Network = field(default_factory=Network)
    fit: Fit = field(default_factory=Fit)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    snapshots: int = 16
    holidays: str = ""
    calibration: tuple[str, ...] = ("none", "temperature", "platt", "isotonic", "per-field")
    combine: Combine = field(default_factory=Combine)
    ranked: int = 1500

    def __post_init__(self) -> None:
        for name in ("snapshots", "ranked"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, got {getattr(self, name)}")
        if not self.calibration:
            raise ValueError("calibration: names no method; `[none]` leaves probabilities alone")


def _check_types(name: str, types: tuple[str, ...]) -> None:
    unknown = [one for one in types if one not in EVENT_TYPES]
    if unknown or not types:
        said = f"{unknown[0]!r} is not one" if unknown else "none is named"
        raise ValueError(f"{name}: {said}; choose from {', '.join(EVENT_TYPES)}")


Settings = dict[str, Any]


@dataclass(frozen=True)
class CtrRecipe:
    """What a recipe says beside the stage's own settings.

    Attributes:
        log: settings of ingest that differ for the whole log; None when the dataset holds all.
        models: names of the recipe's models whose scores the head reads; None for all with item
            IDs. The last one serves.
        bench: whether to measure on the test part as well.
    """

    log: Settings | None = None
    models: list[str] | None = None
    bench: bool = False


def split_section(section: Settings, where: str) -> tuple[CtrRecipe, Settings]:
    """The section's own keys, and the settings of the stage.

    Raises:
        ConfigError: naming the key.
    """
    own = {key: section[key] for key in CtrRecipe.__dataclass_fields__ if key in section}
    rest = {key: value for key, value in section.items() if key not in own}
    return build(CtrRecipe, own, where), rest
