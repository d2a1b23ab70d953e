"""Training of the multimodal LLaMA that captions items."""
