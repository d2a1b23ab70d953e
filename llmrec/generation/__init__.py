"""From a history to ranked items: trie, constraints, beam search, our engine and vLLM."""
