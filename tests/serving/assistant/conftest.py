"""The tiny shop's assistant, with a scripted model."""

from assistant_shop import assistant_shop

__all__ = ["assistant_shop"]
