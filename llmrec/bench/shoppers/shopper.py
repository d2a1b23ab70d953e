"""A simulated shopper: reads a reply and the cards below it, and says the next thing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmrec.bench.shoppers.needs import Need, Product, liking
from llmrec.bench.shoppers.voice import Voice
from llmrec.serving.assistant.vocabulary import ShopVocabulary

PRICE = "price"
SAYS_WHY = 0.4  # how often a list that is not to their taste is met with a reason
_MONEY_WORDS = re.compile(r"\b(price|budget|spend|cost|expensive|pay)\b", re.IGNORECASE)
_QUESTION = re.compile(r"[^.!?\n]*\?")
_KIND = re.compile(r"\b(kind|type|sort|category)\b", re.IGNORECASE)


@dataclass
class Shopper:
    """One conversation of a shopper.

    Attributes:
        need: what they want.
        voice: how they write.
        vocabulary: words that they know a question by.
        told: fields that were said so far.
        unwanted: values that were said not to be wanted.
        knows_budget: whether the assistant was told.
        seen: products that were shown.
        answered: fields that a question was answered about.
        disappointed: lists of which everything was as they said, and nothing to their taste.
    """

    need: Need
    voice: Voice
    vocabulary: ShopVocabulary
    told: dict[str, str] = field(default_factory=dict)
    unwanted: list[tuple[str, str]] = field(default_factory=list)
    knows_budget: bool = False
    seen: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    disappointed: int = 0

    def begin(self) -> str:
        """The first message."""
        self.told = dict(self.need.said)
        self.knows_budget = self.need.says_budget
        budget = self.need.budget if self.need.says_budget else None
        return self.voice.wish(self.told, budget, self.need.department)

    def choose(self, shown: Sequence[Product]) -> int | None:
        """The place, from 1, of a product that is taken; None for none of them."""
        places = [n for n, one in enumerate(shown, 1) if self.need.is_met_by(one)]
        return max(places, key=lambda n: liking(self.need.taste, shown[n - 1]), default=None)

    def next_message(self, reply: str, shown: Sequence[Product]) -> str | None:
        """An answer, or why none of what is shown will do; None when they are bored and leave."""
        fresh = [one for one in shown if one.item_id not in self.seen]
        self.seen.update(one.item_id for one in shown)
        asked = self.asked_for(reply)
        if asked is not None and (not shown or asked in self.need.asked):
            return self._answer(asked)
        if not shown:
            return self._again()
        return self._reject(fresh or shown)

    def asked_for(self, reply: str) -> str | None:
        """The field that a reply asks about, as its words show; None where it asks nothing new."""
        questions = _QUESTION.findall(reply)
        if not questions:
            return None
        question = questions[-1].lower()
        names = [
            name
            for name in self.vocabulary.fields
            if re.search(rf"\b{re.escape(name.replace('_', ' '))}s?\b", question)
        ]
        counts = {
            name: sum(
                bool(re.search(rf"\b{re.escape(value.lower())}\b", question)) for value in values
            )
            for name, values in self.vocabulary.fields.items()
        }
        offered = max(counts, key=lambda name: counts[name])
        if counts[offered] > 1:
            names.append(offered)
        if _MONEY_WORDS.search(question):
            names.append(PRICE)
        if _KIND.search(question):
            names.append("category")
        return next((name for name in names if name not in self.answered), None)

    def _answer(self, asked: str) -> str:
        self.answered.add(asked)
        if asked == PRICE:
            self.knows_budget = True
            return self.voice.spend(self.need.budget)
        value = self.need.spoken.get(asked)
        if value is None:
            return self.voice.no_matter()
        self.told[asked] = value
        return self.voice.value(asked, value)

    def _again(self) -> str:
        """Nothing is shown and nothing asked: the wish once more, with all that is known of it."""
        self.told = self.need.spoken
        self.knows_budget = True
        return self.voice.wish(self.told, self.need.budget, self.need.department)

    def _reject(self, shown: Sequence[Product]) -> str | None:
        """Why none of them: the price, then what was said or was not yet, then taste."""
        need = self.need
        dear = sum(one.price is None or one.price > need.budget for one in shown)
        if dear > len(shown) / 2:
            self.knows_budget = True
            return self.voice.too_dear(need.budget)
        wrong = {
            name: sum(value not in one.fields.get(name, ()) for one in shown)
            for name, value in need.spoken.items()
        }
        worst = max(wrong, key=lambda name: wrong[name], default=None)
        if worst is not None and wrong[worst]:
            self.told[worst] = need.spoken[worst]
            if worst == "category":
                return self.voice.wish({worst: need.spoken[worst]}, None, need.department)
            return self.voice.rather(worst, need.spoken[worst])
        if dear:
            self.knows_budget = True
            return self.voice.too_dear(need.budget)
        self.disappointed += 1
        return None if self.disappointed == self.need.lists else self._by_taste(shown)

    def _by_taste(self, shown: Sequence[Product]) -> str:
        """What they have too much of, said once at the most; or just: others."""
        if not self.unwanted and self.voice.happens(SAYS_WHY):
            worst = _disliked(self.need, shown)
            if worst is not None:
                self.unwanted.append(worst)
                return self.voice.unwanted(*worst)
        return self.voice.others()


def _disliked(need: Need, shown: Sequence[Product]) -> tuple[str, str] | None:
    """The value, of a field not spoken of, that is least to a taste and most of the list has."""
    totals: dict[tuple[str, str], float] = {}
    for one in shown:
        for name, values in one.fields.items():
            for pair in ((name, value) for value in values):
                if name not in need.spoken and pair in need.sayable:
                    totals[pair] = totals.get(pair, 0.0) + need.taste.get(pair, 0.0)
    worst = min(totals, key=lambda pair: totals[pair], default=None)
    return worst if worst is not None and totals[worst] < 0 else None
