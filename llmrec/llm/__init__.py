"""The language model itself: sizes, vocabulary, tokenizer, layout of a folder, adapters."""
