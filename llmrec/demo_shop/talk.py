"""What customers of the demo shop say and mean: ``talk.jsonl`` and ``talk_truth.jsonl``.

Some customers ask for something before they open it, and write or talk about what they bought. For
whom they buy and what they like to pay is theirs for good: a click model that reads it knows more
of them. Ways to say a thing that are in texts of the split ``held_out`` are in none of ``train``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec.demo_shop.kinds import KINDS, ProductKind
from llmrec.demo_shop.shop import DemoShop
from llmrec.demo_shop.users import user_name
from llmrec.demo_shop.vocabulary import AUDIENCES, OCCASIONS, read_tables
from llmrec.demo_shop.wording import pick

WAYS = read_tables("talk")
COMPLAINTS = ("quality", "colour", "size", "price", "delivery")
ASKS, TELLS = 0.15, 0.5  # share of opened items that are asked for, of bought ones that are told of
SAYS = 0.5  # share of queries that say a thing which could be said
HELD_OUT = 0.2  # share of customers whose texts are for tests
DEAR = 0.15  # price band from which a customer likes to pay, and below minus which not
UNSAID = {"occasion": "not said", "for_whom": "not said", "price_sensitivity": "not said"}

Row = dict[str, Any]


def make_talk(shop: DemoShop) -> tuple[list[Row], list[Row]]:
    """Rows of ``talk.jsonl`` and of ``talk_truth.jsonl``, in order of users, then time."""
    rng = np.random.default_rng([shop.seed, 6])
    held_out = rng.random(len(shop.profiles)) < HELD_OUT
    simulated, clicked = shop.simulated, shop.simulated.clicked()
    texts: list[Row] = []
    truth: list[Row] = []
    for row in np.flatnonzero(clicked >= 0).tolist():
        user, time = int(simulated.user[row]), float(simulated.time[row])
        speaker = _Speaker(rng, shop, user, int(clicked[row]), bool(held_out[user]))
        said = []
        if rng.random() < ASKS:
            said.append((time - 30, *speaker.query()))
        if simulated.bought[row] and rng.random() < TELLS:
            said.append((time + 86_400 * rng.uniform(2, 12), *speaker.opinion()))
        for at, kind, words, meant in said:
            text_id = f"t{len(texts) + 1:06d}"
            about = {"user_id": user_name(user), "kind": kind, "timestamp": round(at)}
            texts.append({"text_id": text_id, **about, "text": words})
            split = "held_out" if held_out[user] else "train"
            truth.append({"text_id": text_id, "split": split, **meant})
    return texts, truth


class _Speaker:
    """One customer about one item.

    Args:
        held_out: whether to say things in the ways that are kept for tests.
    """

    def __init__(
        self, rng: np.random.Generator, shop: DemoShop, user: int, item: int, held_out: bool
    ) -> None:
        self.rng, self.held_out = rng, held_out
        self.item = shop.catalogue.items[item]
        self.kind: ProductKind = KINDS[shop.catalogue.codes["kind"][item]]
        self.audience = AUDIENCES[int(shop.profiles.audience[user].argmax())]
        self.band = float(shop.profiles.band[user])
        self.happy = float(shop.catalogue.quality[item]) + rng.normal(0, 0.7)

    def way(self, ways: list[str]) -> str:
        """One of the ways to say a thing that this customer's split may use."""
        kept = int(WAYS["held_out"])
        return pick(self.rng, ways[-kept:] if self.held_out else ways[:-kept])

    def query(self) -> tuple[str, str, Row]:
        """Kind, words and meaning of what is asked for before the item is opened."""
        ways, noun = WAYS["queries"], pick(self.rng, self.kind.words)
        article = "a pair of" if self.kind.plural else "an" if noun[0] in "aeiou" else "a"
        parts = [self.way(ways["asks"]).format(a=article, noun=noun)]
        meant: Row = {"need": self.kind.group, **UNSAID}
        meant |= {"sentiment": "neutral", "complaint": "none"}
        if self.rng.random() < SAYS:
            meant["occasion"] = self.item.attributes["occasion"]
            words = OCCASIONS[meant["occasion"]]
            parts.append(self.way(ways["occasion"]).format(occasion=words))
        if self.rng.random() < SAYS:
            meant["for_whom"] = self.audience
            parts.append(self.way(ways["for_whom"][self.audience]))
        price = "dear" if self.band > DEAR else "cheap" if self.band < -DEAR else None
        if price and self.rng.random() < SAYS:
            meant["price_sensitivity"] = price
            parts.append(self.way(ways["price_sensitivity"][price]))
        return "query", ", ".join(parts) + ".", meant

    def opinion(self) -> tuple[str, str, Row]:
        """Kind, words and meaning of what is said of the item after it was bought."""
        sentiment, complaint = "negative", "none"
        if self.happy > -0.2:
            sentiment = "positive" if self.happy > 0.3 else "neutral"
        else:
            complaint = pick(self.rng, COMPLAINTS)
        ways = WAYS["opinions"][sentiment if complaint == "none" else complaint]
        words = self.way(ways).format(noun=pick(self.rng, self.kind.words))
        meant = {"need": self.kind.group, **UNSAID, "sentiment": sentiment, "complaint": complaint}
        if self.rng.random() < 0.5:
            return "review", words, meant
        return "after_service", self.way(WAYS["service"]).format(opinion=words), meant
