"""A shopping assistant: what a customer says becomes calls of the shop's tools."""
