"""llmrec: an LLM-as-ranker generative recommender."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from llmrec.version import __version__

if TYPE_CHECKING:
    from llmrec.serving.recommender import Recommender

__all__ = ["Recommender", "__version__"]

# Warnings of what is not in use: bitsandbytes, which peft and sentence-transformers load, looks for
# a faster kernel of 4 bits and reports at length that it is not there; vLLM, which trl loads, that
# there is no Triton for a CPU. Their errors are shown.
for _name in ("bitsandbytes.backends.cpu.ops", "vllm.triton_utils.importing"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    """``llmrec.Recommender``, imported when it is asked for: ``import llmrec`` stays light."""
    if name == "Recommender":
        from llmrec.serving.recommender import Recommender

        return Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
