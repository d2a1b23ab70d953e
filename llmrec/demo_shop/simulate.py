"""Plays the demo shop: who is shown what, and what they click, put in the cart and buy.

Users do not influence each other, so they are played in blocks, and within a block all
users take their next step at once. Every block has its own random stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.demo_shop.catalogue import Catalogue
from llmrec.demo_shop.choice import (
    ACROSS_SESSIONS,
    FADE_DAYS,
    INTENTS,
    POSITION,
    ChoiceContexts,
    ChoiceModel,
    click_probabilities,
)
from llmrec.demo_shop.users import DAYS, START, UserProfiles, plan_sessions
from llmrec.demo_shop.vocabulary import DEVICES

LIST_LENGTH = 8
SHUFFLED = 0.15  # share of lists in random order, from which position bias can be read off
_FITTING = 5  # items of a list that the shop picked to fit the context; the rest explores
_SHOP_KNOWS = 0.5  # how much of the utility the shop's own picking sees
_BLOCK = 512
_START_INTENTS = np.array([0.30, 0.45, 0.25])
_KEEP_INTENT = 0.8


@dataclass(frozen=True)
class SimulatedLists:
    """Every list that was shown, in user and time order; one row a list.

    Attributes:
        user, session: int ``[rows]``; sessions count from 0 within a user.
        time: int64 ``[rows]``, when the list was shown.
        shown: int ``[rows, LIST_LENGTH]``, item rows from the top position down.
        p_click: float ``[rows, LIST_LENGTH]``, the true probabilities.
        position: int ``[rows]``, what was clicked (0 is the top), or -1.
        shuffled: bool ``[rows]``.
        device, intent: int ``[rows]``.
        rank: int ``[rows]``, rank of the clicked item by true utility among everything on
            sale that the user had not opened yet (1 is best), or 0.
        fit: float ``[rows]``, the clicked item's utility against the user's best, at most 0.
        cart, bought: bool ``[rows]``.
    """

    user: np.ndarray
    session: np.ndarray
    time: np.ndarray
    shown: np.ndarray
    p_click: np.ndarray
    position: np.ndarray
    shuffled: np.ndarray
    device: np.ndarray
    intent: np.ndarray
    rank: np.ndarray
    fit: np.ndarray
    cart: np.ndarray
    bought: np.ndarray

    def clicked(self) -> np.ndarray:
        """int ``[rows]``: the clicked item, or -1."""
        item = self.shown[np.arange(len(self.user)), np.maximum(self.position, 0)]
        return np.where(self.position >= 0, item, -1)


def simulate(catalogue: Catalogue, profiles: UserProfiles, seed: int) -> SimulatedLists:
    """Play everybody from their first list to their last."""
    blocks = []
    for first in range(0, len(profiles), _BLOCK):
        users = np.arange(first, min(first + _BLOCK, len(profiles)))
        rng = np.random.default_rng([seed, 3, first])
        blocks.append(_Block(catalogue, profiles, users, rng).play())
    columns = {
        name: np.concatenate([block[name] for block in blocks])
        for name in SimulatedLists.__annotations__
    }
    order = np.lexsort((columns["time"], columns["user"]))
    return SimulatedLists(**{name: column[order] for name, column in columns.items()})


class _Block:
    """The state of a block of users while they are played."""

    def __init__(
        self,
        catalogue: Catalogue,
        profiles: UserProfiles,
        users: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        self.catalogue, self.profiles, self.users, self.rng = catalogue, profiles, users, rng
        self.model = ChoiceModel(catalogue, profiles, users)
        n_users = len(users)
        plans = [plan_sessions(rng, profiles, int(user)) for user in users]
        self.n_lists = np.array([sum(map(len, plan)) for plan in plans])
        longest = int(self.n_lists.max())
        self.times = np.zeros((n_users, longest), dtype=np.int64)
        self.sessions = np.full((n_users, longest), -1)
        for row, plan in enumerate(plans):
            self.times[row, : self.n_lists[row]] = np.concatenate(plan)
            counts = list(map(len, plan))
            self.sessions[row, : self.n_lists[row]] = np.repeat(np.arange(len(plan)), counts)
        self.opened = np.zeros((n_users, len(catalogue)), dtype=bool)
        self.last = np.full(n_users, -1)
        self.last_time = np.zeros(n_users, dtype=np.int64)
        self.last_bought = np.zeros(n_users, dtype=bool)
        self.intent = self._draw_intents(n_users)
        self.focus = np.zeros(n_users, dtype=np.int64)
        self.device = np.zeros(n_users, dtype=np.int64)

    def play(self) -> dict[str, np.ndarray]:
        """All steps of all users of the block, as columns."""
        steps = [self._step(number) for number in range(self.times.shape[1])]
        return {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}

    def _draw_intents(self, n: int) -> np.ndarray:
        return self.rng.choice(len(INTENTS), size=n, p=_START_INTENTS)

    def _step(self, number: int) -> dict[str, np.ndarray]:
        """Show the users' next list, those who have one left, and let them act."""
        rows = np.flatnonzero(self.n_lists > number)
        self._enter_sessions(rows, number)
        contexts = self._contexts(rows, number)
        utility = self.model.utility(contexts)
        utility[self.opened[rows]] = -np.inf  # nothing is shown again once opened
        shown, shuffled = self._lists(utility)
        slopes = np.array([POSITION[device] for device in DEVICES])[self.device[rows]]
        p_click = click_probabilities(utility, shown, slopes)
        # inverse of the cumulative distribution; past its end means "none of these"
        draw = self.rng.random(len(rows))[:, None]
        position = (p_click.cumsum(axis=1) < draw).sum(axis=1)
        clicks = position < LIST_LENGTH
        item = shown[np.arange(len(rows)), np.minimum(position, LIST_LENGTH - 1)]
        own = utility[np.arange(len(rows)), item]
        fit = np.where(clicks, own - utility.max(axis=1), 0.0)
        cart, bought = self._carts_and_purchases(rows, clicks, fit, item)
        step = {
            "user": self.users[rows],
            "session": self.sessions[rows, number],
            "time": contexts.time,
            "shown": shown,
            "p_click": p_click,
            "position": np.where(clicks, position, -1),
            "shuffled": shuffled,
            "device": self.device[rows],
            "intent": contexts.intent,
            "rank": np.where(clicks, (utility > own[:, None]).sum(axis=1) + 1, 0),
            "fit": fit,
            "cart": cart,
            "bought": bought,
        }
        self._remember(rows[clicks], item[clicks], contexts.time[clicks], bought[clicks])
        return step

    def _enter_sessions(self, rows: np.ndarray, number: int) -> None:
        """At a session's start: a device, a department and an intent."""
        if number:
            rows = rows[self.sessions[rows, number] != self.sessions[rows, number - 1]]
        users = self.users[rows]
        shares = self.profiles.device[users].cumsum(axis=1)
        draw = self.rng.random(len(rows))[:, None]
        self.device[rows] = np.minimum((shares < draw).sum(axis=1), len(DEVICES) - 1)
        self.focus[rows] = self.rng.random(len(rows)) < self.profiles.home_share[users]
        # what was bought last time calls for what goes with it
        goes_on = self.last_bought[rows] & (self.rng.random(len(rows)) < 0.7)
        intents = self._draw_intents(len(rows))
        self.intent[rows] = np.where(goes_on, INTENTS.index("complete"), intents)
        # ... in the department it came from, mostly
        follows = (self.last[rows] >= 0) & (goes_on | (self.rng.random(len(rows)) < 0.4))
        same = self.catalogue.codes["domain"][np.maximum(self.last[rows], 0)]
        self.focus[rows] = np.where(follows, same, self.focus[rows])

    def _contexts(self, rows: np.ndarray, number: int) -> ChoiceContexts:
        time = self.times[rows, number]
        gap_days = (time - self.last_time[rows]) / 86_400
        pull = np.where(gap_days < 0.2, 1.0, ACROSS_SESSIONS * np.exp(-gap_days / FADE_DAYS))
        return ChoiceContexts(
            user=self.users[rows],
            time=time,
            share=np.clip((time - START.astype(np.int64)) / (DAYS * 86_400), 0.0, 1.0),
            last=self.last[rows],
            intent=self.intent[rows].copy(),
            pull=np.where(self.last[rows] >= 0, pull, 0.0),
            focus=self.focus[rows],
        )

    def _lists(self, utility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the shop shows: some items that fit, some to explore, the popular ones on top.

        Returns:
            int ``[rows, LIST_LENGTH]`` items and bool ``[rows]`` whether the order is random.
        """
        # An exponential race (Efraimidis and Spirakis, 2006): the smallest of noise / weight
        # are a sample without replacement in proportion to the weights.
        n_rows = len(utility)
        highest = utility.max(axis=1, keepdims=True)
        fitting = self._noise(utility.shape) * np.exp(_SHOP_KNOWS * (highest - utility))
        best = np.argpartition(fitting, _FITTING, axis=1)[:, :_FITTING]
        exploring = self._noise(utility.shape) * np.exp(-0.4 * self.catalogue.appeal)
        exploring[~np.isfinite(utility)] = np.inf
        np.put_along_axis(exploring, best, np.inf, axis=1)
        more = LIST_LENGTH - _FITTING
        others = np.argpartition(exploring, more, axis=1)[:, :more]
        shown = np.concatenate([best, others], axis=1)
        shuffled = self.rng.random(n_rows) < SHUFFLED
        known = (
            0.15 * np.take_along_axis(utility, shown, axis=1) + 0.5 * self.catalogue.appeal[shown]
        )
        noise = self.rng.normal(0.0, 1.0, shown.shape)
        order = np.argsort(-np.where(shuffled[:, None], 0.0, known) - noise, axis=1)
        return np.take_along_axis(shown, order, axis=1), shuffled

    def _noise(self, shape: tuple[int, ...]) -> np.ndarray:
        """Exponential noise, never exactly 0 so that 0 * inf cannot happen."""
        return self.rng.standard_exponential(shape, dtype=np.float32) + np.float32(1e-30)

    def _carts_and_purchases(
        self, rows: np.ndarray, clicks: np.ndarray, fit: np.ndarray, item: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """bool ``[rows]`` each; the better the fit, the likelier both."""
        comparing = self.intent[rows] == INTENTS.index("compare")
        membership = self.profiles.membership[self.users[rows]]
        phone = self.device[rows] == DEVICES.index("phone")
        quality = self.catalogue.quality[item]
        to_cart = 0.1 + 0.35 * np.maximum(fit, -6.0) + 0.6 * quality - 0.5 * comparing
        to_buy = 0.2 + 0.35 * membership - 0.5 * phone + 0.5 * quality
        cart = clicks & (self.rng.random(len(rows)) < _sigmoid(to_cart))
        bought = cart & (self.rng.random(len(rows)) < _sigmoid(to_buy))
        return cart, bought

    def _remember(
        self, rows: np.ndarray, item: np.ndarray, time: np.ndarray, bought: np.ndarray
    ) -> None:
        """What a click changes: the last item, and the intent."""
        self.opened[rows, item] = True
        self.last[rows], self.last_time[rows], self.last_bought[rows] = item, time, bought
        keeps = self.rng.random(len(rows)) < _KEEP_INTENT
        intent = np.where(keeps, self.intent[rows], self._draw_intents(len(rows)))
        self.intent[rows] = np.where(bought, INTENTS.index("complete"), intent)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))
