"""What users liked: histories, pairs of items liked close together, and how often each occurs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llmrec.data.dataset import Dataset
from llmrec.types import Histories


def liked_histories(
    dataset: Dataset,
    min_rating: float | None = None,
    *,
    train_only: bool,
    share: float = 1.0,
) -> Histories:
    """What every user liked, oldest first; users who liked nothing have an empty history.

    Args:
        dataset: where events come from.
        min_rating: events with a lower rating are left out; events without one stay.
        train_only: leave out the events of the validation and the test split.
        share: of the training events, the earliest, that are taken where ``train_only``.

    Raises:
        DataError: for a share of events whose times are not known.
    """
    events = dataset.sequence_events.select(["user", "item", "rating"])
    user, item = (events[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    keep = dataset.is_train(share) if train_only else np.ones(len(user), dtype=bool)
    if min_rating is not None:
        ratings = events["rating"].to_numpy(zero_copy_only=False).astype(np.float64)
        keep &= ~(ratings < min_rating)
    counts = np.bincount(user[keep], minlength=len(dataset.user_ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Histories(item[keep].astype(np.int32), offsets)


def without_items(histories: Histories, hidden: np.ndarray) -> Histories:
    """The same users without some items.

    Args:
        hidden: bool ``[items]``.

    >>> everything = Histories.from_lists([[0, 1, 2], [1]])
    >>> [row.tolist() for row in without_items(everything, np.array([False, True, False]))]
    [[0, 2], []]
    """
    keep = ~hidden[histories.items]
    before = np.concatenate([[0], np.cumsum(keep)])
    return Histories(histories.items[keep], before[histories.offsets].astype(np.int64))


def split_users(
    n_users: int, shares: tuple[float, ...], rng: np.random.Generator
) -> list[np.ndarray]:
    """Part users at random: the rest, then a part a share.

    Args:
        shares: of all users, each rounded and at least one user.

    >>> [len(part) for part in split_users(10, (0.1, 0.2), np.random.default_rng(0))]
    [7, 1, 2]
    """
    order = rng.permutation(n_users)
    sizes = [max(1, round(share * n_users)) for share in shares]
    cuts = np.cumsum([n_users - sum(sizes), *sizes])[:-1]
    return [np.sort(part) for part in np.split(order, np.maximum(cuts, 0))]


@dataclass(frozen=True, eq=False)
class ItemPairs:
    """Pairs of different items that somebody liked close together; each counts both ways.

    Attributes:
        left, right: int64 ``[pairs]``, item indices.
        weights: float64 ``[pairs]``, one over the square root of how many pairs that user makes:
            somebody with a hundred times the pairs counts ten times as much.
        log_q: float32 ``[items]``, log of the chance that a drawn pair has this item on the right;
            -inf for items in no pair.
    """

    left: np.ndarray
    right: np.ndarray
    weights: np.ndarray
    log_q: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    def draw(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A batch of pairs, int64 ``[size]`` each, drawn with replacement by weight."""
        rows = np.searchsorted(self._cumulated, rng.random(size) * self._cumulated[-1])
        rows = np.minimum(rows, len(self) - 1)
        turned = rng.random(size) < 0.5
        left, right = self.left[rows], self.right[rows]
        return np.where(turned, right, left), np.where(turned, left, right)

    @cached_property
    def _cumulated(self) -> np.ndarray:
        return np.cumsum(self.weights)


def windowed_pairs(histories: Histories, window: int, n_items: int) -> ItemPairs:
    """Pairs of items at most ``window`` places apart in a history.

    >>> pairs = windowed_pairs(Histories.from_lists([[0, 1, 2]]), 1, 4)
    >>> list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    [(0, 1), (1, 2)]
    """
    items = histories.items.astype(np.int64)
    owner = np.repeat(np.arange(len(histories)), histories.lengths())
    left, right, users = [], [], []
    for distance in range(1, window + 1):
        same = owner[distance:] == owner[:-distance]
        differ = items[distance:] != items[:-distance]
        rows = np.flatnonzero(same & differ)
        left.append(items[rows])
        right.append(items[rows + distance])
        users.append(owner[rows])
    a, b, user = (np.concatenate(part) for part in (left, right, users))
    per_user = np.bincount(user, minlength=len(histories))
    weights = 1 / np.sqrt(per_user[user]) if len(user) else np.zeros(0)
    mass = np.bincount(a, weights, n_items) + np.bincount(b, weights, n_items)
    with np.errstate(divide="ignore"):
        log_q = np.log(mass / max(mass.sum(), 1e-12))
    return ItemPairs(a, b, weights, log_q.astype(np.float32))
