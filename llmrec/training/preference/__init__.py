"""``llmrec prefer``: an adapter tuned to what people prefer and a shop wants (DPO, GRPO)."""
