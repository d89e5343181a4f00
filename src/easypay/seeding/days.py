"""How many payments fall on which day, and at which moments. Pure.

Trade grows over the years, is best on Fridays and before Christmas, and sleeps at night.
"""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Final, NamedTuple

from easypay.db.partitions import month_start

_WEEKDAYS: Final = (0.95, 0.95, 1.0, 1.05, 1.25, 1.15, 0.8)
_MONTHS: Final = (0.9, 0.9, 0.95, 1.0, 1.0, 1.0, 0.95, 0.95, 1.0, 1.05, 1.2, 1.35)
_GROWTH: Final = 1.2
"""At the end a day has this much more than at the beginning."""
_HOURS: Final = (3, 2, 1, 1, 1, 2, 3, 5, 7, 9, 10, 11, 12, 11, 11, 11, 11, 12, 13, 14, 13, 11, 8, 5)
_HOUR_SUMS: Final = tuple(accumulate(_HOURS, initial=0))
_HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * _HOUR_US


class Day(NamedTuple):
    """One day, in UTC."""

    start_us: int
    """Microseconds since 1970, as everywhere in a seed."""
    payments: int
    until: float = 1.0
    """The share of the day's trade that is over: below 1 on the last day."""


def unix_us(moment: datetime) -> int:
    """Return microseconds since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def months_until(months: int, until: datetime) -> list[datetime]:
    """Return the starts of the months that end with the month of `until`, the oldest first."""
    return [month_start(until, -back) for back in reversed(range(months))]


def days(payments: int, months: int, until: datetime) -> dict[datetime, list[Day]]:
    """Return the days of each month. Their payments add up to `payments` exactly."""
    start, span = month_start(until, 1 - months), until - month_start(until, 1 - months)
    dates, weights, parts = [], [], []
    for n in range(span.days + 1):
        date = start + timedelta(days=n)
        part = _share_before(until - date) if until - date < timedelta(days=1) else 1.0
        trade = _WEEKDAYS[date.weekday()] * _MONTHS[date.month - 1]
        dates.append(date)
        parts.append(part)
        weights.append(trade * part * (1 + _GROWTH * n / (span.days + 1)))
    sums = list(accumulate(weights, initial=0.0))
    ends = [round(payments * each / sums[-1]) for each in sums] if sums[-1] else [0] * len(sums)
    ends[-1] = payments
    found: dict[datetime, list[Day]] = {month: [] for month in months_until(months, until)}
    for n, date in enumerate(dates):
        found[month_start(date)].append(Day(unix_us(date), ends[n + 1] - ends[n], parts[n]))
    return found


def _share_before(time: timedelta) -> float:
    """Return the share of a day's trade before a time of day."""
    hour, rest = divmod(time, timedelta(hours=1))
    done = _HOUR_SUMS[hour] + _HOURS[hour] * (rest / timedelta(hours=1))
    return done / _HOUR_SUMS[-1]


def moments(day: Day, rng: Random) -> list[int]:
    """Return when the day's payments were made, in order."""
    scale = day.until * _HOUR_SUMS[-1]
    drawn = sorted([rng.random() for _ in range(day.payments)])
    found = []
    for each in drawn:
        at = each * scale
        hour = bisect_right(_HOUR_SUMS, at) - 1
        hours = hour + (at - _HOUR_SUMS[hour]) / _HOURS[hour]
        found.append(day.start_us + int(hours * _HOUR_US))
    return found
