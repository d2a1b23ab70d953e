"""``llmrec train``: a causal LM or SASRec learns the next item of a history."""
