"""Settings of the service. Light: nothing here loads a web server."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.errors import ConfigError


@dataclass(frozen=True)
class ServiceConfig:
    """Settings of ``llmrec serve``.

    Attributes:
        rating_scale: the lowest and the highest rating of an event.
    """

    rating_scale: tuple[float, float] = (1.0, 5.0)

    def __post_init__(self) -> None:
        low, high = self.rating_scale
        if not -float("inf") < low < high < float("inf"):
            raise ConfigError(f"rating_scale: {low:g} to {high:g} is no scale")
