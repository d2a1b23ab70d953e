"""Re-ranking before a list is shown: diversity, caps of categories, freshness.

Every option is off by default, and with all of them off the order is that of the scores.
"""

from llmrec.ranking.rerank.order import rerank
from llmrec.ranking.rerank.settings import RerankConfig

__all__ = ["RerankConfig", "rerank"]
