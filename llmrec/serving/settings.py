"""Settings of the service. Light: nothing here loads a web server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrec.config import check_ranges
from llmrec.content.media.download import MediaLimits
from llmrec.errors import ConfigError


@dataclass(frozen=True)
class ServiceConfig:
    """Settings of ``llmrec serve``.

    Attributes:
        rating_scale: the lowest and the highest rating of an event.
        currency: of the catalogue's prices, as ISO 4217 has it, for agents that search and buy.
        keep_days: forget events and recommendations that are older; None keeps them.
        variant: what answers and their log call this service, in an experiment; who ranked, where
            it is empty.
        batch: requests that are answered together, at most.
        batch_wait_ms: that they wait for one more; ten times that in all.
        waiting: requests that wait at most; further ones are told to come again.
        shutdown_seconds: that requests under way get to end, once the service is to.
        log_format: text, or a line of JSON for each message and each request.
        tracing: make a span of OpenTelemetry of each request.
        deadline_ms: within which a request is answered or given up.
        allowed_hosts: names that requests may be sent to, as the header Host has them, without a
            port. Where there are none: any, but for a service that listens on this machine alone,
            which takes its own names: a page in a browser could otherwise reach it.
        max_body, max_header, max_url: bytes of a request.
        max_media: bytes of a request that may bring a picture or a recording.
        media_hosts: hosts that pictures of requests may be fetched from; data: URLs are read in any
            case.
        media_networks: networks of these hosts that may be reached although they are not public,
            such as 10.1.0.0/16.
        speech_model: a Whisper for voice queries and transcripts, such as whisper-base; None
            reads no speech.
        rate: requests a second of one API key, in the long run.
        burst: requests of one API key at once.
    """

    rating_scale: tuple[float, float] = (1.0, 5.0)
    currency: str = "USD"
    keep_days: float | None = None
    variant: str = ""
    batch: int = 32
    batch_wait_ms: float = 2.0
    waiting: int = 256
    shutdown_seconds: float = 30.0
    log_format: Literal["text", "json"] = "text"
    tracing: bool = False
    deadline_ms: float = 30_000.0
    allowed_hosts: tuple[str, ...] = ()
    max_body: int = 1 << 20
    max_header: int = 1 << 14
    max_url: int = 1 << 13
    max_media: int = 1 << 23
    media_hosts: tuple[str, ...] = ()
    media_networks: tuple[str, ...] = ()
    speech_model: str | None = None
    rate: float = 100.0
    burst: int = 200

    def __post_init__(self) -> None:
        low, high = self.rating_scale
        if not -float("inf") < low < high < float("inf"):
            raise ConfigError(f"rating_scale: {low:g} to {high:g} is no scale")
        if not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isupper()):
            raise ConfigError(f"currency: {self.currency!r} is no ISO 4217 code, such as EUR")
        check_ranges(self, "[1, inf)", "batch", "waiting", "burst")
        check_ranges(self, "[1024, inf)", "max_body", "max_header", "max_url", "max_media")
        check_ranges(self, "[0, 1000]", "batch_wait_ms")
        check_ranges(self, "(0, inf)", "deadline_ms", "rate", "shutdown_seconds")
        if self.log_format not in ("text", "json"):
            raise ConfigError(f"log_format: {self.log_format!r} is neither text nor json")
        MediaLimits(networks=self.media_networks)
        if self.keep_days is not None:
            check_ranges(self, "(0, inf)", "keep_days")

    def deadline_within(self, milliseconds: str | None) -> float:
        """Seconds within which a request is answered.

        Args:
            milliseconds: that the caller gives, which may be fewer but not more.

        Raises:
            ConfigError: if these are none.
        """
        if milliseconds is None:
            return self.deadline_ms / 1000
        if not milliseconds.isascii() or not milliseconds.isdigit() or len(milliseconds) > 9:
            raise ConfigError(f"X-Deadline-Ms: {milliseconds!r} is no number of milliseconds")
        return min(float(milliseconds), self.deadline_ms) / 1000
