"""Settings of re-ranking: a bundle has them, a request may override single ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmrec.config import as_dict, build, check_ranges
from llmrec.errors import ConfigError

MOST = 100.0  # beyond it a logit or an exponent says nothing more


@dataclass(frozen=True)
class RerankConfig:
    """How a ranked list is re-ranked; not at all by default.

    Attributes:
        diversity: ``mmr`` or ``dpp``; see :mod:`llmrec.ranking.rerank.diversity`. None: neither.
        mmr_lambda: in [0, 1], weight of relevance against similarity; 1 is relevance alone.
        dpp_alpha: in [0, 100], weight of relevance against similarity; 0 is none.
        per_category: at most so many of the first n are of one category; others of it come behind
            what is left of other categories. None: no cap.
        freshness: in [0, 100], bonus of the logit of an item of age 0.
        half_life_days: the age in days at which the bonus is half of that.

    Raises:
        ConfigError: naming the field.
    """

    diversity: Literal["mmr", "dpp"] | None = None
    mmr_lambda: float = 0.7
    dpp_alpha: float = 3.0
    per_category: int | None = None
    freshness: float = 0.0
    half_life_days: float = 30.0

    def __post_init__(self) -> None:
        if self.diversity not in (None, "mmr", "dpp"):
            raise ConfigError(f"diversity: {self.diversity!r} is not one of mmr, dpp")
        check_ranges(self, "[0, 1]", "mmr_lambda")
        check_ranges(self, f"[0, {MOST:g}]", "dpp_alpha", "freshness")
        check_ranges(self, "(0, inf)", "half_life_days")
        check_ranges(self, "[1, inf)", "per_category")

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that are on, in the order in which they act."""
        on = {
            "freshness": self.freshness > 0,
            "diversity": self.diversity is not None,
            "per_category": self.per_category is not None,
        }
        return tuple(name for name, is_on in on.items() if is_on)

    def overridden(self, values: Mapping[str, Any], where: str = "rerank") -> RerankConfig:
        """These settings with single ones replaced, as a request gives them.

        Raises:
            ConfigError: for an unknown name or a value that makes no sense.

        >>> RerankConfig(freshness=0.5).overridden({"per_category": 2}).options
        ('freshness', 'per_category')
        """
        return build(RerankConfig, as_dict(self) | dict(values), where)
