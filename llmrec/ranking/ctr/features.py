"""Numbers and categories of a moment and its items: one way for training and for serving.

Every number has a name and a group (``GROUPS`` of the settings), so that a group can be left out to
see what it is worth. NaN means missing. Those of group ``captions`` compare what is said of an item
with what is said of the items of a person's past: over the last event, the recent ones and all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmrec.errors import ConfigError
from llmrec.ranking.ctr.log import KIND
from llmrec.ranking.ctr.moments import DAY, ContextIds, Moments
from llmrec.ranking.ctr.settings import GROUPS, Past
from llmrec.ranking.ctr.shelf import COUNTS, Shelf
from llmrec.ranking.ctr.when import time_categories

_RECENT = 0.7  # weight of an event against the one after it, for what is recent
_PRIOR = 20.0  # rows that a rate is shrunk with towards that of all items
_STARS_PRIOR = 5.0


@dataclass(frozen=True)
class Names:
    """Names and groups of the numbers and categories of :class:`Inputs`, in order.

    Attributes:
        pair, whole: (name, group) of numbers of an item at a moment, and of the moment alone.
        categories: (name, group, ids) of the moment's categories.
    """

    pair: tuple[tuple[str, str], ...]
    whole: tuple[tuple[str, str], ...]
    categories: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that a head reads of moments, each with its items.

    Attributes:
        items: int32 ``[moments, places]``, item index; -1 pads.
        position: int16 ``[moments, places]``, where it is shown, 0 the top; -1 unknown.
        pair: float32 ``[moments, places, numbers]``, NaN missing.
        whole: float32 ``[moments, numbers]``, NaN missing.
        categories: int32 ``[moments, names]``; 0 nothing, 1 unknown.
        past_items: int32 ``[moments, attended]``, newest first, -1 pads; past_kinds int8;
            past_ages float32, days, NaN unknown; past_ratings float32, NaN for none.
    """

    names: Names
    items: np.ndarray
    position: np.ndarray
    pair: np.ndarray
    whole: np.ndarray
    categories: np.ndarray
    past_items: np.ndarray
    past_kinds: np.ndarray
    past_ages: np.ndarray
    past_ratings: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def select(self, rows: np.ndarray | slice) -> Inputs:
        """Some of the moments."""
        return Inputs(self.names, **{n: v[rows] for n, v in vars(self).items() if n != "names"})

    def without(self, groups: Sequence[str]) -> Inputs:
        """The same without the numbers and categories of some groups.

        Raises:
            ConfigError: for a group that there is not.
        """
        for group in groups:
            if group not in GROUPS:
                raise ConfigError(f"without: {group!r} is no group of {', '.join(GROUPS)}")
        kept = [[one[1] not in groups for one in vars(self.names)[kind]]
                for kind in ("pair", "whole", "categories")]  # fmt: skip
        pair, whole, categories = (np.flatnonzero(keep) for keep in kept)
        n = self.names
        names = Names(
            tuple(n.pair[i] for i in pair),
            tuple(n.whole[i] for i in whole),
            tuple(n.categories[i] for i in categories),
        )
        return replace(
            self,
            names=names,
            pair=self.pair[:, :, pair],
            whole=self.whole[:, whole],
            categories=self.categories[:, categories],
        )


@dataclass(frozen=True, eq=False)
class Signals:
    """What is known of given items from elsewhere.

    Attributes:
        names: of the sources of candidates, the language model's first.
        rank: int32 ``[moments, places, sources]``, 0 the top; -1 not proposed.
        score: float32 ``[moments, places, sources]``; NaN where there is none.
        counts: float64 ``[moments, places, len(COUNTS)]``, how each item had fared.
    """

    names: tuple[str, ...]
    rank: np.ndarray
    score: np.ndarray
    counts: np.ndarray


class Assembler:
    """Makes :class:`Inputs`.

    Args:
        shelf: the items.
        past: what of a person's past is read.
        context: ids of what is said of a moment.
        rates: click, purchase, return rate and mean stars of all items, for those with few events.
        holidays: country code whose holidays count, or empty for none.
    """

    def __init__(
        self,
        shelf: Shelf,
        past: Past,
        context: ContextIds,
        rates: tuple[float, float, float, float],
        holidays: str = "",
    ) -> None:
        self.shelf, self.past, self.context = shelf, past, context
        self.rates, self.holidays = rates, holidays
        self._log_price = np.log(np.maximum(shelf.price, 0.01)).astype(np.float32)

    def __call__(
        self, moments: Moments, items: np.ndarray, position: np.ndarray, signals: Signals
    ) -> Inputs:
        """The inputs of some moments.

        Args:
            items: int ``[moments, places]``, -1 pads.
            position: int ``[moments, places]``.
        """
        pair = [
            *self._from_sources(signals),
            *self._of_item(moments, items, signals.counts),
            *self._likeness(moments, items),
            *self._said(moments, items),
        ]
        whole = [*self._of_person(moments), *self._of_time(moments)]
        time, sizes = time_categories(moments.now, self.holidays)
        names = Names(
            tuple((name, group) for name, group, _ in pair),
            tuple((name, group) for name, group, _ in whole),
            (
                *(
                    (n, "context", s)
                    for n, s in zip(self.context.names, self.context.sizes, strict=True)
                ),
                *((name, "time", size) for name, size in sizes.items()),
            ),
        )
        attended = self.past.attended
        return Inputs(
            names=names,
            items=items.astype(np.int32),
            position=position.astype(np.int16),
            pair=_stacked(pair, items.shape),
            whole=_stacked(whole, (len(moments),)),
            categories=np.concatenate([moments.context, time], axis=1).astype(np.int32),
            past_items=moments.items[:, :attended],
            past_kinds=moments.kinds[:, :attended],
            past_ages=moments.ages[:, :attended],
            past_ratings=moments.ratings[:, :attended],
        )

    def _from_sources(self, signals: Signals) -> list[tuple[str, str, np.ndarray]]:
        found = []
        for column, name in enumerate(signals.names):
            group = "llm" if name == "generated" else "sources"
            rank = signals.rank[:, :, column]
            found.append((f"{name}_score", group, signals.score[:, :, column]))
            found.append(
                (f"{name}_rank", group, np.where(rank >= 0, np.log1p(np.maximum(rank, 0)), np.nan))
            )
        return found

    def _of_item(
        self, moments: Moments, items: np.ndarray, counts: np.ndarray
    ) -> list[tuple[str, str, np.ndarray]]:
        shown, clicked, bought, returned, rated, stars = np.moveaxis(counts, -1, 0)
        click, buy, back, mean = self.rates
        rate = (clicked + _PRIOR * click) / (shown + _PRIOR)
        price = self._log_price[items]
        there = moments.items >= 0
        past_price = np.where(there, self._log_price[moments.items], np.nan)
        age = (moments.now[:, None] - self.shelf.arrived[items]) / DAY
        return [
            ("shown", "feedback", np.log1p(shown)),
            ("click_rate", "feedback", np.log(rate / np.maximum(1 - rate, 1e-3))),
            ("purchase_rate", "feedback", np.log((bought + _PRIOR * buy) / (clicked + _PRIOR))),
            ("return_rate", "feedback", (returned + _PRIOR * back) / (bought + _PRIOR)),
            ("stars", "feedback", (stars + _STARS_PRIOR * mean) / (rated + _STARS_PRIOR)),
            ("rated", "feedback", np.log1p(rated)),
            ("price", "context", price),
            ("price_above_usual", "context", price - _mean(past_price)[:, None]),
            ("price_above_last", "context", price - past_price[:, :1]),
            ("age_in_catalogue", "time", np.where(age >= 0, np.log1p(np.maximum(age, 0)), np.nan)),
        ]

    def _likeness(self, moments: Moments, items: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
        """Cosines of the item's fused vector with those of the past."""
        fused, attended = self.shelf.fused, self.past.attended
        past = moments.items[:, :attended]
        there = (past >= 0).astype(np.float32)
        vectors = fused[past] * there[..., None]
        cosine = np.einsum("mcd,mld->mcl", fused[items], vectors)
        known = there.max(axis=1, keepdims=True) > 0
        total = np.maximum(there.sum(axis=1), 1)[:, None]
        stars, weight = _centred(moments.ratings[:, :attended])
        liked = np.einsum("mcl,ml->mc", np.maximum(cosine, 0), stars)
        liked /= np.einsum("mcl,ml->mc", np.maximum(cosine, 0), weight) + 1.0
        own, seen = items[:, :, None], moments.items[:, None, :]
        again = np.logical_and(own == seen, own >= 0)
        return [
            ("like_last", "media", np.where(known, cosine[:, :, 0], np.nan)),
            ("like_nearest", "media", np.where(known, _highest(cosine, there), np.nan)),
            ("like_all", "media", np.where(known, cosine.sum(axis=2) / total, np.nan)),
            ("like_rated", "media", liked),
            ("seen_before", "context", np.log1p(again.sum(axis=2))),
        ]

    def _said(self, moments: Moments, items: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
        """How often the past has the item's value of each field: lately, in all, and as rated."""
        found = []
        there = moments.items >= 0
        recent = there * _RECENT ** np.arange(there.shape[1], dtype=np.float32)[None]
        recent = recent / np.maximum(recent.sum(axis=1, keepdims=True), 1e-9)
        total = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
        stars, weight = _centred(moments.ratings)
        for column, name in enumerate(self.shelf.field_names):
            values = self.shelf.fields[:, column]
            past = np.where(there, values[moments.items], -1)
            own = values[items]
            same = (own[:, :, None] == past[:, None, :]) & (own[:, :, None] > 0)
            weights = np.stack([recent, total, stars, weight], axis=1).astype(np.float32)
            lately, all_of_it, rated, of = np.moveaxis(
                np.matmul(same.astype(np.float32), weights.transpose(0, 2, 1)), 2, 0
            )
            found.append((f"{name}_last", "captions", same[:, :, 0]))
            found.append((f"{name}_recent", "captions", lately))
            found.append((f"{name}_share", "captions", all_of_it))
            found.append((f"{name}_stars", "captions", rated / (of + 2.0)))
        return found

    def _of_person(self, moments: Moments) -> list[tuple[str, str, np.ndarray]]:
        there = moments.items >= 0
        counts = {name: (moments.kinds == code).sum(axis=1) for name, code in KIND.items()}
        rated = (~np.isnan(moments.ratings)).sum(axis=1)
        mean = self.rates[3]
        stars = (np.nansum(moments.ratings, axis=1) + mean) / (rated + 1)
        price = np.where(there, self._log_price[moments.items], np.nan)
        found = [(f"{name}s", "context", np.log1p(n)) for name, n in counts.items()]
        found += [
            ("usual_stars", "context", stars),
            ("spread_of_stars", "context", _spread(moments.ratings)),
            ("usual_price", "context", _mean(price)),
        ]
        return found

    def _of_time(self, moments: Moments) -> list[tuple[str, str, np.ndarray]]:
        ages = np.where(moments.items >= 0, moments.ages, np.nan)
        limit = self.past.session_minutes / (24 * 60)
        newer = np.concatenate([np.zeros((len(ages), 1)), ages[:, :-1]], axis=1)
        in_session = np.cumprod((ages - newer) <= limit, axis=1)
        began = np.max(np.where(in_session == 1, np.nan_to_num(ages), 0.0), axis=1, initial=0.0)
        oldest = np.max(np.nan_to_num(ages), axis=1, initial=0.0)
        return [
            ("gap", "time", np.log1p(24 * 60 * np.maximum(ages[:, 0], 0))),
            ("session_position", "time", in_session.sum(axis=1)),
            ("session_minutes", "time", np.log1p(24 * 60 * began)),
            ("known_for", "time", np.log1p(oldest)),
        ]


def _stacked(columns: list[tuple[str, str, np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    found = np.empty((*shape, len(columns)), dtype=np.float32)
    for place, (_, _, values) in enumerate(columns):
        found[..., place] = values
    return found


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of each row without NaN; NaN where nothing is left."""
    there = ~np.isnan(values)
    total = np.where(there, values, 0).sum(axis=1)
    return np.where(there.any(axis=1), total / np.maximum(there.sum(axis=1), 1), np.nan)


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation of each row without NaN; NaN where nothing is left."""
    return np.sqrt(_mean((values - _mean(values)[:, None]) ** 2))


def _centred(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratings less their person's mean, 0 where there is none; and 1 where there is one."""
    there = ~np.isnan(ratings)
    mean = _mean(ratings)
    return np.where(there, ratings - mean[:, None], 0.0).astype(np.float32), there.astype(
        np.float32
    )


def _highest(cosine: np.ndarray, there: np.ndarray) -> np.ndarray:
    """float ``[moments, places]``: the highest of what is there."""
    return np.where(there[:, None] > 0, cosine, -1.0).max(axis=2)


def shrunk_rates(totals: np.ndarray) -> tuple[float, float, float, float]:
    """Click, purchase and return rate and mean stars over all items, never 0.

    Args:
        totals: float64 ``[items, len(COUNTS)]``.
    """
    sums = dict(zip(COUNTS, totals.sum(axis=0), strict=True))
    return (
        float((sums["clicked"] + 0.5) / (sums["shown"] + 1.0)),
        float((sums["bought"] + 0.5) / (sums["clicked"] + 1.0)),
        float((sums["returned"] + 0.5) / (sums["bought"] + 1.0)),
        float((sums["stars"] + 3.0) / (sums["rated"] + 1.0)),
    )
