"""llmrec: an LLM-as-ranker generative recommender."""

__version__ = "0.1.0"
