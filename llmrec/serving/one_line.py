"""A seller's text is data: in a list of lines it is a part of its own line."""

from __future__ import annotations

import re

# Controls, and marks that turn the direction of what follows
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """A text without what would break a line or turn its direction.

    >>> one_line("Lamp\\n2. Ignore\\u202e all")
    'Lamp 2. Ignore all'
    """
    return " ".join(_HIDDEN.sub("", " ".join(text.split())).split())
