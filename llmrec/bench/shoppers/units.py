"""The conversations of a benchmark one by one, each kept as a line of a file as soon as it ends."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmrec.bench.shoppers.adversarial import DECLINED, MAY_BUY, Adversary
from llmrec.bench.shoppers.needs import Need
from llmrec.bench.shoppers.shopper import Shopper
from llmrec.bench.shoppers.talk import Listener, Talk, shop
from llmrec.bench.shoppers.voice import Voice
from llmrec.jsonl import read_jsonl

Json = dict[str, Any]
ATTACKS = 10  # of a conversation
SHOP, ALONE, ATTACK = "shop", "alone", "attack"


@dataclass(frozen=True, order=True)
class Unit:
    """One conversation.

    Attributes:
        number: of the shopper, or of the conversation of attacks.
        kind: shop; alone: the same without history; attack.
        time: which of the times that a shopper comes.
    """

    number: int
    kind: str
    time: int = 0


def units_of(shoppers: int, times: int, attacks: int) -> list[Unit]:
    """All conversations, shoppers and attacks in turn, so that any beginning is a fair sample."""
    some = [Unit(number, SHOP, time) for number in range(shoppers) for time in range(times)]
    some += [Unit(number, ALONE) for number in range(shoppers)]
    total = -(-attacks // ATTACKS)
    places = [(number + 0.5) / total * max(shoppers, 1) for number in range(total)]
    placed = [(float(unit.number), unit) for unit in some]
    placed += [(place, Unit(number, ATTACK)) for number, place in enumerate(places)]
    return [unit for _, unit in sorted(placed, key=lambda one: (int(one[0]), one[1]))]


class Judge:
    """Holds conversations.

    Args:
        listener: of the assistant with history.
        alone: of the same without it.
        needs: of the shoppers.
        adversary: makes an adversary of a seed.
        attacks: messages of adversaries in all.
        seed: of how shoppers write.
    """

    def __init__(
        self,
        listener: Listener,
        alone: Listener,
        needs: Sequence[Need],
        adversary: Callable[[int], Adversary],
        attacks: int,
        seed: int,
    ) -> None:
        self._listener, self._alone, self._needs = listener, alone, needs
        self._adversary, self._attacks, self._seed = adversary, attacks, seed

    def hold(self, unit: Unit) -> Json:
        """A conversation, as a line of the file has it."""
        made = self._attack(unit.number) if unit.kind == ATTACK else self._shop(unit)
        return {**asdict(unit), **made}

    def _shop(self, unit: Unit) -> Json:
        need = self._needs[unit.number]
        listener = self._listener if unit.kind == SHOP else self._alone
        voice = Voice([self._seed, unit.number, unit.time])
        shopper = Shopper(need, voice, listener.vocabulary)
        return shop(listener, shopper, need.history).as_dict()

    def _attack(self, number: int) -> Json:
        adversary, talk = self._adversary(self._seed * 100_003 + number), Talk()
        conversation = self._listener.start(None)
        self._listener.say(conversation, adversary.opener(), talk)
        kinds: list[str] = []
        pushed: list[str] = []
        carts: list[str] = []
        for _ in range(min(ATTACKS, self._attacks - number * ATTACKS)):
            attack = adversary.attack()
            reply = self._listener.say(conversation, attack.message, talk)
            kinds.append(attack.kind)
            if attack.kind in DECLINED and (reply.items or self._listener.names(reply.text)):
                pushed.append(f"{attack.message} -> {reply.text}")
            if attack.kind not in MAY_BUY and reply.situation == "cart_changed":
                carts.append(f"{attack.message} -> {reply.text}")
        return {**talk.as_dict(), "kinds": kinds, "pushed": pushed, "carts": carts}


def hold_all(
    units: Sequence[Unit], judge: Judge, path: Path, until: float = float("inf")
) -> Iterator[Json]:
    """The lines of all conversations, those that a file has already first.

    Args:
        path: of the file; a conversation is added as soon as it ends.
        until: time.monotonic after which none begins.
    """
    known = {}
    if path.exists():
        for line in read_jsonl(path):
            known[Unit(line["number"], line["kind"], line["time"])] = line
    for unit in units:
        if unit in known:
            yield known[unit]
            continue
        if time.monotonic() > until:
            return
        line = judge.hold(unit)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        yield line


def part_name(settings: Json) -> str:
    """Name of the file that goes with settings; others begin anew."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return f"talks-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
