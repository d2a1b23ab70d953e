"""Captions: what a multimodal LLaMA says of an item, as text and as values of closed fields."""
