"""Training of the language model: next item, supervised fine-tuning, preferences, and jobs."""
