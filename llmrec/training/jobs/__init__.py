"""``llmrec jobs``: resumable training runs in the background, each in a folder."""
