"""``llmrec train clip`` and ``llmrec train temporal``: for a shop's own pictures and
videos."""
