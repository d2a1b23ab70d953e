"""``llmrec intent``: what customers mean, read by a language model into closed fields."""
