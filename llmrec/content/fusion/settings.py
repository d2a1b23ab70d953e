"""Settings of ``llmrec train fusion``. Light: nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.config import Signed, check_ranges
from llmrec.errors import ConfigError

_COUNTS = ("epochs", "steps_per_epoch", "batch_size", "contrast_batch", "patience", "window")


@dataclass(frozen=True)
class FusionEncoderConfig:
    """The shape of a fusion encoder, whatever its modalities.

    Attributes:
        dim: length of the result.
        width: inside the transformer.
        layers: of cross-attention and feed-forward.
        heads: of the attention; divides ``width``.
        queries: learned queries; their outputs are put side by side before the projection.
        dropout: inside the transformer, in training.
        input_dropout: of the modalities' numbers, in training.
    """

    dim: int = 128
    width: int = 128
    layers: int = 2
    heads: int = 4
    queries: int = 1
    dropout: float = 0.1
    input_dropout: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "dim", "width", "layers", "heads", "queries")
        if self.width % self.heads:
            raise ConfigError(f"heads: {self.heads} does not divide width {self.width}")
        check_ranges(self, "[0, 1)", "dropout", "input_dropout")


@dataclass(frozen=True, kw_only=True)
class FusionShape(FusionEncoderConfig):
    """The same with the modalities, which come from the features.

    Attributes:
        modalities: name of each modality and the length of its vectors.
    """

    modalities: dict[str, int]

    def __post_init__(self) -> None:
        if not self.modalities:
            raise ConfigError("modalities: name at least one")
        for name, size in self.modalities.items():
            if size < 1:
                raise ConfigError(f"modalities.{name}: must be 1 or more, got {size}")
        super().__post_init__()


@dataclass(frozen=True)
class FusionTrainConfig:
    """How an encoder is trained.

    Attributes:
        epochs: at most so many; an epoch is ``steps_per_epoch`` steps and a validation.
        steps_per_epoch: steps between validations.
        batch_size: pairs of items a step, for the loss of behaviour.
        contrast_batch: items a step, for the loss between an item's modalities.
        contrast_weight: weight of that loss at first, where behaviour has weight one; it falls to
            nothing half-way.
        learning_rate: AdamW's peak, after one epoch of warm-up, then a cosine down to 2%.
        weight_decay: AdamW's, on matrices only.
        temperature: of both losses.
        partial_share: share of the items of a step that modalities are hidden of.
        modality_dropout: chance that a modality of these is hidden; one stays.
        window: two items of a history are a pair when so many places apart, or fewer.
        patience: stop after so many validations without a better one.
        validation_users: share of the users held back to choose the epoch.
        min_rating: an event with a lower rating is not a liking; events without a rating are.
        share: of the training events, the earliest, that are learned from. Less than 1 for a click
            model: it learns from later ones how far similarities hold.
        device: auto, cpu, cuda, cuda:1, ...
    """

    epochs: int = 30
    steps_per_epoch: int = 100
    batch_size: int = 256
    contrast_batch: int = 128
    contrast_weight: float = 0.03
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    temperature: float = 0.1
    partial_share: float = 0.25
    modality_dropout: float = 0.5
    window: int = 5
    patience: int = 6
    validation_users: float = 0.1
    min_rating: Signed | None = None
    share: float = 1.0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", *_COUNTS)
        check_ranges(self, "(0, inf)", "learning_rate", "temperature")
        check_ranges(self, "[0, inf)", "contrast_weight", "weight_decay")
        check_ranges(self, "[0, 1]", "partial_share")
        check_ranges(self, "[0, 1)", "modality_dropout")
        check_ranges(self, "(0, 1)", "validation_users")
        check_ranges(self, "(0, 1]", "share")


@dataclass(frozen=True)
class FusionConfig:
    """Settings of ``llmrec train fusion``.

    Attributes:
        encoder: the shape of the encoder.
        train: how it is trained.
    """

    encoder: FusionEncoderConfig = field(default_factory=FusionEncoderConfig)
    train: FusionTrainConfig = field(default_factory=FusionTrainConfig)
