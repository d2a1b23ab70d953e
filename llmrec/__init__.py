"""llmrec: an LLM-as-ranker generative recommender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmrec.version import __version__

if TYPE_CHECKING:
    from llmrec.serving.recommender import Recommender

__all__ = ["Recommender", "__version__"]


def __getattr__(name: str) -> Any:
    """``llmrec.Recommender``, imported when it is asked for: ``import llmrec`` stays light."""
    if name == "Recommender":
        from llmrec.serving.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
