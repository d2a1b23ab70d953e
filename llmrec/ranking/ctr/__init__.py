"""``llmrec ctr``: how likely a click is, from every signal a shop has."""
