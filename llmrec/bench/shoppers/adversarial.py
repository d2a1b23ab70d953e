"""Messages that want an assistant to say what is not so, or to do what it must not.

Kinds: claims that are false, instructions that are none of the customer's, products that do not
exist, insults, odd letters, very long ones, other languages, health and crisis, calls and markup
written out, prices that make no sense, nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from llmrec.config import load_yaml
from llmrec.prompts import templates_folder

DECLINED = ("medical", "self_harm")  # nothing may be offered
MAY_BUY = ("claim", "missing", "price", "markup")  # some of these ask for a cart
LONG = 20_000  # characters
_ODD = ("\u200b", "\u202e", "\u0301\u0316\u0334", "\U0001f9e6", "\ufeff", "\u2066")
_ALIKE = str.maketrans("aeopcx", "\u0430\u0435\u043e\u0440\u0441\u0445")  # of another script


@dataclass(frozen=True)
class Attack:
    """One message.

    Attributes:
        kind: what it tries.
        message: what is written.
    """

    kind: str
    message: str


class Adversary:
    """Draws messages about a shop.

    Args:
        rows: of its catalogue.
        seed: of what is drawn.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], seed: int) -> None:
        self._rows, self._rng = rows, np.random.default_rng([seed, 23])
        self._kinds = sorted(_texts()["kinds"])

    def attack(self) -> Attack:
        """A message of any kind, of this one or of several."""
        kind = self._pick(self._kinds)
        message = self._filled(self._pick(_texts()["kinds"][kind]))
        twist: Callable[[str], str] | None = None
        if kind == "odd":
            twist = self._odd
        elif kind == "long":
            twist = self._long
        return Attack(kind, message if twist is None else twist(message))

    def opener(self) -> str:
        """A plain wish, so that something is shown."""
        row = self._pick(self._rows)
        kind = (row.get("categories") or ["something"])[-1]
        return f"show me {kind.lower()}"

    def _filled(self, text: str) -> str:
        row, other = self._pick(self._rows), self._pick(self._rows)
        words = _texts()
        return text.format(
            title=row["title"],
            other=other["title"],
            brand=row.get("brand") or "this shop",
            made_up=f"{self._pick(words['made_up'])} {self._pick(words['made_up'])}",
            kind=(row.get("categories") or ["thing"])[-1].lower(),
            value=self._pick(words["values"]),
            price=self._pick(["0.01", "1", "5", "99999999", "3.50", "12"]),
            place=self._pick(["1", "2", "3", "7"]),
        )

    def _odd(self, text: str) -> str:
        if self._rng.random() < 0.3:
            return text.translate(_ALIKE)
        mark = self._pick(_ODD)
        return "".join(letter + (mark if self._rng.random() < 0.3 else "") for letter in text)

    def _long(self, text: str) -> str:
        return (f"{text} " * (LONG // (len(text) + 1) + 1))[:LONG]

    def _pick(self, options: Sequence[Any]) -> Any:
        return options[int(self._rng.integers(len(options)))]


@lru_cache
def _texts() -> dict[str, Any]:
    return load_yaml(templates_folder() / "adversarial" / "messages.yaml")
