"""Simulated customers who talk to the assistant: they have a need, and never know a product."""
