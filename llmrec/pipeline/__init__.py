"""``llmrec run``: all stages of a recipe in order."""
