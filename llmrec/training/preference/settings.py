"""Settings of ``llmrec prefer``. Light: nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmrec.config import check_ranges
from llmrec.errors import ConfigError
from llmrec.training.tune.settings import PROJECTIONS, TuneConfig, TuneLoopConfig
from llmrec.types import EVENT_TYPES

PARTS = ("hit", "rank", "stock", "price", "valid")
# settings of the adapter, the loop and the validation, named as in TuneConfig
_SHARED = ("rank", "alpha", "targets", "loop", "validation_users", "beams", "name", "version")


@dataclass(frozen=True)
class RewardConfig:
    """Reward of a recommended item: a weighted sum of the parts of ``rewards.py``.

    Attributes:
        hit: weight of being the next item of the user.
        rank: weight of the same, discounted by its rank in the list.
        stock: weight of being in stock.
        price: weight of a price that is usual for the user and the category.
        valid: weight of being an item at all.
        price_share: the user's usual prices are this middle share of those in the history.
        price_margin: and so much below and above, as a factor.
    """

    hit: float = 1.0
    rank: float = 0.0
    stock: float = 0.0
    price: float = 0.0
    valid: float = 0.0
    price_share: float = 0.8
    price_margin: float = 1.1

    def __post_init__(self) -> None:
        check_ranges(self, "[0, inf)", *PARTS, prefix="rewards.")
        if not any(self.weights.values()):
            raise ConfigError("rewards: all weights are 0, so nothing is preferred; raise one")
        check_ranges(self, "(0, 1]", "price_share", prefix="rewards.")
        check_ranges(self, "[1, inf)", "price_margin", prefix="rewards.")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every part."""
        return {name: getattr(self, name) for name in PARTS}


@dataclass(frozen=True)
class DpoConfig:
    """Settings of direct preference optimisation (Rafailov et al., arXiv 2305.18290).

    Attributes:
        negatives: where rejected items come from. ``shown``: shown in the same list, or viewed in
            the same session, and not chosen. ``popular``: sampled in proportion to
            popularity ** 0.75. ``model``: ranked highest by the initial model. Never an item that
            the user chose anywhere in the training split.
        rejected: at most so many of them for each chosen item, a pair each.
        chosen: event types that count as choosing an item; events without a type do.
        likelihood: weight of the chosen item's own log-likelihood beside the pairs, which keeps it
            from falling along with the rejected one's (as in Pang et al., arXiv 2404.19733).
    """

    negatives: Literal["shown", "popular", "model"] = "shown"
    rejected: int = 3
    chosen: list[str] = field(default_factory=lambda: ["click", "cart", "purchase"])
    likelihood: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "rejected", prefix="dpo.")
        check_ranges(self, "[0, inf)", "likelihood", prefix="dpo.")
        unknown = [name for name in self.chosen if name not in EVENT_TYPES]
        if unknown or not self.chosen:
            raise ConfigError(
                f"dpo.chosen: {unknown[0] if unknown else 'nothing'!r} is no event type; known: "
                f"{', '.join(EVENT_TYPES)}"
            )


@dataclass(frozen=True)
class GrpoConfig:
    """Settings of group relative policy optimisation (Shao et al., arXiv 2402.03300).

    Attributes:
        group: different items sampled for each prompt and compared with each other.
        scale: ``group`` divides a group's advantages by their standard deviation, so that every
            prompt counts alike; ``none`` leaves them in the units of the reward, so that prompts
            with larger differences count more (Liu et al., arXiv 2503.20783).
    """

    group: int = 16
    scale: Literal["none", "group"] = "none"

    def __post_init__(self) -> None:
        check_ranges(self, "[2, inf)", "group", prefix="grpo.")  # items are compared with others


@dataclass(frozen=True)
class PreferConfig:
    """Settings of a preference tuning run.

    Attributes:
        method: ``dpo`` learns from pairs of the log, ``grpo`` from rewards of its own samples.
        beta: strength of the pull towards the initial adapter. For ``dpo`` the usual 0.1 or so;
            for ``grpo`` the cost of a unit of KL divergence, in units of the reward.
        rewards: what is measured before and after, and what ``grpo`` trains on.
        dpo: settings of ``method: dpo``.
        grpo: settings of ``method: grpo``.
        rank: of a fresh adapter's matrices, where none is given to start from.
        alpha: a fresh adapter is scaled by alpha / rank.
        targets: names of the linear layers that get a fresh adapter.
        quantise: hold the base in 4 bits.
        loop: as in ``llmrec tune``; an example is a pair (``dpo``) or a prompt (``grpo``).
        validation_users: measure on a fixed sample of so many users; 0 is all of them.
        beams: beam width while validating semantic IDs.
        name: of the adapter in requests.
        version: which adapter of this name it is.
    """

    method: Literal["dpo", "grpo"] = "grpo"
    beta: float = 0.1
    rewards: RewardConfig = field(default_factory=RewardConfig)
    dpo: DpoConfig = field(default_factory=DpoConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    rank: int = 16
    alpha: float = 32.0
    targets: list[str] = field(default_factory=lambda: list(PROJECTIONS))
    quantise: bool = False
    loop: TuneLoopConfig = field(default_factory=TuneLoopConfig)
    validation_users: int = 0
    beams: int = 20
    name: str = "prefer"
    version: str = "1"

    def __post_init__(self) -> None:
        check_ranges(self, "(0, inf)", "beta")
        if self.method == "grpo" and not any(
            weight for name, weight in self.rewards.weights.items() if name != "valid"
        ):
            raise ConfigError(
                "rewards: only valid has a weight, and every sample is valid, so it "
                "trains nothing; raise another"
            )
        if self.loop.validate_every or self.loop.patience or self.loop.keep != "last":
            raise ConfigError(
                "loop: validate_every, keep and patience are of llmrec tune alone; leave them out"
            )
        self.tuning()  # which checks the settings they share

    def tuning(self) -> TuneConfig:
        """The same as settings of ``llmrec tune``, whose parts open and train the model.

        There is no dropout: the model must equal the one that sampled, or the reference.
        """
        shared = {name: getattr(self, name) for name in _SHARED}
        return TuneConfig("qlora" if self.quantise else "lora", dropout=0.0, **shared)
