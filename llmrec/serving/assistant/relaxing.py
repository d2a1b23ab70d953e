"""Wishes for less, where nothing has all that is wanted.

One thing after the other is given up: an attribute (what was said last first), the brand, the
words, the price, the category. What somebody does not want is never given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llmrec.serving.assistant.state import Wish


def easier(wish: Wish) -> Iterator[tuple[tuple[str, ...], Wish]]:
    """A wish, then wishes for less: each of its fields given up alone, then one after the other."""
    yield (), wish
    names = [*reversed(wish.attributes)]
    names += [name for name in ("brands", "query", "picture") if getattr(wish, name)]
    if wish.price_min is not None or wish.price_max is not None:
        names.append("price")
    names += ["categories"] if wish.categories else []
    for name in names:
        yield (name,), _without(wish, name)
    least = wish
    for number, name in enumerate(names):
        least = _without(least, name)
        if number:
            yield tuple(names[: number + 1]), least


def _without(wish: Wish, name: str) -> Wish:
    """A wish without what it asks for in a field; what it does not want of it stays."""
    if name == "brands":
        return replace(wish, brands=())
    if name == "categories":
        return replace(wish, categories=())
    if name in wish.attributes:
        return replace(wish, attributes={k: v for k, v in wish.attributes.items() if k != name})
    return wish.cleared(name)
