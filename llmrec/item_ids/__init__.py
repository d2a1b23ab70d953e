"""``llmrec index``: item IDs that a language model can generate; atomic or semantic."""
