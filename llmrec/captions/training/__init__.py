"""Training a multimodal LLaMA to say what an item is."""
