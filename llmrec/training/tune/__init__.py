"""``llmrec tune``: supervised fine-tuning of an expanded base on a mixture of tasks."""
