"""Names inside a bundle's folder."""

from __future__ import annotations

ADAPTERS = "adapters"  # folder of a bundle


CTR = "ctr"  # folder of a bundle


OWN_NAME = "llmrec"  # begins the model's own names
