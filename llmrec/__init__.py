"""llmrec: an LLM-as-ranker generative recommender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrec.cascade.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Recommender", "__version__"]


def __getattr__(name: str) -> Any:
    """``llmrec.Recommender``, imported when it is asked for: ``import llmrec`` stays light."""
    if name == "Recommender":
        from llmrec.cascade.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
