"""Benchmarks: the decoder against other ways to generate, and the trie at catalogue sizes."""
