"""The time of a request as categories: hour, weekday, month, season, public holiday; in UTC."""

from __future__ import annotations

from functools import cache

import numpy as np

from llmrec.errors import ConfigError, require
from llmrec.ranking.ctr.request_context import DAY

SIZES = {"hour": 25, "weekday": 8, "month": 13, "season": 5, "holiday": 3}


def time_categories(now: np.ndarray, holidays: str) -> tuple[np.ndarray, dict[str, int]]:
    """Categorical features of time, from 1 on, and 0 where the time is not known.

    Args:
        now: float64 ``[requests]``, seconds since 1970 UTC, NaN unknown.
        holidays: country code whose public holidays count, or empty.

    Returns:
        int32 ``[requests, names]``, and how many ids each name has.

    Raises:
        ConfigError: if no calendar of the country is known.
        MissingExtraError: if the calendars are not installed.
    """
    known = ~np.isnan(now)
    time = np.where(known, now, 0.0)
    dates = time.astype("datetime64[s]")
    month = dates.astype("datetime64[M]").astype(np.int64) % 12
    columns = {
        "hour": (time // 3600 % 24).astype(np.int64),
        "weekday": ((time // DAY + 3) % 7).astype(np.int64),
        "month": month,
        "season": (month + 1) % 12 // 3,
    }
    if holidays:
        columns["holiday"] = _is_holiday(dates, holidays)
    values = np.stack([np.where(known, column + 1, 0) for column in columns.values()], axis=1)
    return values.astype(np.int32), {name: SIZES[name] for name in columns}


def _is_holiday(dates: np.ndarray, country: str) -> np.ndarray:
    days = dates.astype("datetime64[D]")
    years = np.unique(days.astype("datetime64[Y]").astype(int) + 1970)
    free = np.concatenate([_holidays_of(country, int(year)) for year in years])
    return np.isin(days, free).astype(np.int64)


@cache
def _holidays_of(country: str, year: int) -> np.ndarray:
    """Public holidays, datetime64[D]."""
    holidays = require("holidays", "ctr")
    try:
        found = holidays.country_holidays(country, years=year)
    except NotImplementedError:
        raise ConfigError(
            f"holidays: no calendar of {country!r} is known; give a code such as US or DE"
        ) from None
    return np.array(sorted(found), dtype="datetime64[D]")
