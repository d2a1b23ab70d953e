"""Conversations with a shop, made from its catalogue, that teach and test a language model."""
