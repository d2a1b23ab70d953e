"""What a shop does with a ranked list before it is shown: diversity, categories, freshness.

Every option is off by default, and with all of them off the order is that of the scores.
"""

from llmrec.ranking.rerank.order import changes, rerank
from llmrec.ranking.rerank.settings import RerankConfig

__all__ = ["RerankConfig", "changes", "rerank"]
