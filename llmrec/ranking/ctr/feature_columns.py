"""The click model's numeric features, a function for each family: name -> (group, values).

Values of a candidate are ``[requests, candidates]``, of a request ``[requests]``; NaN is missing.
"""

from __future__ import annotations

import numpy as np

from llmrec.data.event_store import EVENT_CODES
from llmrec.ranking.ctr.item_features import ItemFeatures
from llmrec.ranking.ctr.request_context import DAY, RequestContext

Columns = dict[str, tuple[str, np.ndarray]]

_RECENCY = 0.7  # weight of an event relative to the one after it
_PRIOR_ROWS = 20.0  # rows of all items that an item's rate is smoothed with
_PRIOR_RATINGS = 5.0
_MINUTES = 24 * 60  # of a day
_LANES = 8  # sums over a multiple of so many events are the same however many padding follows


def item_columns(
    requests: RequestContext,
    items: np.ndarray,
    counters: np.ndarray,
    rates: tuple[float, float, float, float],
    log_price: np.ndarray,
    available_from: np.ndarray,
) -> Columns:
    """Smoothed rates of an item, its price against those of the history, and its age.

    Args:
        counters: float64 ``[requests, candidates, len(COUNTERS)]``.
        rates: priors of click, purchase and return rate and mean rating.
        log_price, available_from: ``[items]``.
    """
    impressions, clicks, purchases, returns, ratings, rating_sum = np.moveaxis(counters, -1, 0)
    click_prior, purchase_prior, return_prior, rating_prior = rates
    rate = (clicks + _PRIOR_ROWS * click_prior) / (impressions + _PRIOR_ROWS)
    purchase_rate = (purchases + _PRIOR_ROWS * purchase_prior) / (clicks + _PRIOR_ROWS)
    return_rate = (returns + _PRIOR_ROWS * return_prior) / (purchases + _PRIOR_ROWS)
    rating = (rating_sum + _PRIOR_RATINGS * rating_prior) / (ratings + _PRIOR_RATINGS)
    price, known = log_price[items], requests.items >= 0
    history_price = np.where(known, log_price[requests.items], np.nan)
    age = (requests.now[:, None] - available_from[items]) / DAY
    return {
        "item_impressions": ("feedback", np.log1p(impressions)),
        "item_click_rate": ("feedback", np.log(rate / np.maximum(1 - rate, 1e-3))),
        "item_purchase_rate": ("feedback", np.log(purchase_rate)),
        "item_return_rate": ("feedback", return_rate),
        "item_mean_rating": ("feedback", rating),
        "item_ratings": ("feedback", np.log1p(ratings)),
        "price": ("context", price),
        "price_vs_mean": ("context", price - _mean(history_price)[:, None]),
        "price_vs_last": ("context", price - history_price[:, :1]),
        "item_age": ("time", np.where(age >= 0, np.log1p(np.maximum(age, 0)), np.nan)),
    }


def similarity_columns(
    requests: RequestContext, items: np.ndarray, fused: np.ndarray, attended: int
) -> Columns:
    """Cosines of the item's fused vector with those of the history, and repeated items."""
    events = min(attended, _events_there(requests))
    history = requests.items[:, :events]
    valid = (history >= 0).astype(np.float32)
    vectors = fused[history] * valid[..., None]
    cosine = np.einsum("mcd,mld->mcl", fused[items], vectors)
    known = valid.max(axis=1, keepdims=True) > 0
    total = np.maximum(valid.sum(axis=1), 1)[:, None]
    rating, rated = _centred(requests.ratings[:, :events])
    liked = np.einsum("mcl,ml->mc", np.maximum(cosine, 0), rating)
    liked /= np.einsum("mcl,ml->mc", np.maximum(cosine, 0), rated) + 1.0
    highest = np.where(valid[:, None] > 0, cosine, -1.0).max(axis=2)
    seen = requests.items[:, : _events_there(requests)]
    repeats = (items[:, :, None] == seen[:, None, :]) & (items[:, :, None] >= 0)
    return {
        "similarity_last": ("media", np.where(known, cosine[:, :, 0], np.nan)),
        "similarity_max": ("media", np.where(known, highest, np.nan)),
        "similarity_mean": ("media", np.where(known, cosine.sum(axis=2) / total, np.nan)),
        "similarity_rated": ("media", liked),
        "repeats": ("context", np.log1p(repeats.sum(axis=2))),
    }


def caption_matches(requests: RequestContext, items: np.ndarray, features: ItemFeatures) -> Columns:
    """How often the history has the item's value of each caption field: in the last event, lately,
    in all, and by rating."""
    columns: Columns = {}
    valid = requests.items >= 0
    recent = valid * _RECENCY ** np.arange(valid.shape[1], dtype=np.float32)[None]
    recent = recent / np.maximum(recent.sum(axis=1, keepdims=True), 1e-9)
    share = valid / np.maximum(valid.sum(axis=1, keepdims=True), 1)
    rating, rated = _centred(requests.ratings)
    # of each request, field and value the sum over the history; value 0, unknown, has none
    n_fields, size = features.fields.shape[1], int(features.fields.max(initial=0)) + 1
    table = np.arange(len(valid) * n_fields).reshape(len(valid), 1, n_fields) * size
    history = np.where(valid[..., None], features.fields[requests.items], 0)
    known = history > 0
    places = (table + history)[known]
    sums = np.stack(
        [
            np.bincount(
                places,
                np.broadcast_to(weights[..., None], history.shape)[known],
                minlength=len(valid) * n_fields * size,
            )
            for weights in (recent, share, rating, rated)
        ],
        axis=1,
    ).astype(np.float32)
    own = np.maximum(features.fields[items], 0)
    found = sums[table + own]
    last = (own == history[:, :1]) & (own > 0)
    for column, name in enumerate(features.field_names):
        of_field = found[:, :, column]
        columns |= {
            f"{name}_last": ("captions", last[:, :, column]),
            f"{name}_recent": ("captions", of_field[..., 0]),
            f"{name}_share": ("captions", of_field[..., 1]),
            f"{name}_rated": ("captions", of_field[..., 2] / (of_field[..., 3] + 2.0)),
        }
    return columns


def user_columns(requests: RequestContext, log_price: np.ndarray, rating_prior: float) -> Columns:
    """Event counts, ratings and prices of the user's history."""
    rated = (~np.isnan(requests.ratings)).sum(axis=1)
    mean = (np.nansum(requests.ratings, axis=1) + rating_prior) / (rated + 1)
    spread = (requests.ratings - _mean(requests.ratings)[:, None]) ** 2
    price = np.where(requests.items >= 0, log_price[requests.items], np.nan)
    columns: Columns = {
        f"{name}s": ("context", np.log1p((requests.types == code).sum(axis=1)))
        for name, code in EVENT_CODES.items()
    }
    return columns | {
        "user_mean_rating": ("context", mean),
        "user_rating_std": ("context", np.sqrt(_mean(spread))),
        "user_mean_price": ("context", _mean(price)),
    }


def session_columns(requests: RequestContext, session_minutes: float) -> Columns:
    """Time since the last event, the session so far, and how far the history goes back."""
    ages = np.where(requests.items >= 0, requests.ages, np.nan)
    newer = np.concatenate([np.zeros((len(ages), 1)), ages[:, :-1]], axis=1)
    in_session = np.cumprod((ages - newer) <= session_minutes / _MINUTES, axis=1)
    began = np.max(np.where(in_session == 1, np.nan_to_num(ages), 0.0), axis=1, initial=0.0)
    oldest = np.max(np.nan_to_num(ages), axis=1, initial=0.0)
    return {
        "minutes_since_last": ("time", np.log1p(_MINUTES * np.maximum(ages[:, 0], 0))),
        "session_events": ("time", in_session.sum(axis=1)),
        "session_minutes": ("time", np.log1p(_MINUTES * began)),
        "history_days": ("time", np.log1p(oldest)),
    }


def _events_there(requests: RequestContext) -> int:
    """How many columns of events hold all that there are: a multiple of :data:`_LANES`, unless that
    is all columns, and one at least."""
    longest = int((requests.items >= 0).sum(axis=1).max(initial=1))
    return min(-(-longest // _LANES) * _LANES, requests.items.shape[1])


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of each row without NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def _centred(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratings less their user's mean, 0 where there is none; and 1 where there is one."""
    known = ~np.isnan(ratings)
    centred = np.where(known, ratings - _mean(ratings)[:, None], 0.0)
    return centred.astype(np.float32), known.astype(np.float32)
