"""``llmrec jobs``: training runs in folders, in the background, that go on where they stopped."""
