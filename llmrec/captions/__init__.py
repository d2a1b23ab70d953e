"""Captions of items by a multimodal LLaMA: text, and values of closed fields."""
