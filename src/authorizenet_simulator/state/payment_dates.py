"""When a subscription's payments fall due: dates in the account's zone, and their moments.

A date is counted from the first one, never from the one before it: what begins on the 31st is due
on the last day of a shorter month, and on the 31st again afterwards.
"""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from typing import Final

from authorizenet_simulator.state import clock

DAYS: Final = "days"
MONTHS: Final = "months"
LENGTHS: Final = {DAYS: range(7, 366), MONTHS: range(1, 13)}
"""The intervals that are allowed, by their unit."""
FOREVER: Final = 9999
"""This many occurrences mean no end."""
_RUN_HOUR: Final = 2
"""Payments run at about 2 am Pacific."""
_HOUR_MS: Final = 3_600_000
_EPOCH: Final = date(1970, 1, 1)


def date_of(text: str) -> date | None:
    """The day of an `xs:date`, whatever zone it names; None for what is no day."""
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        return None


def today(at_ms: int) -> date:
    """The account's date at this moment."""
    return datetime.fromtimestamp((at_ms + clock.pacific_offset_ms(at_ms)) // 1000, UTC).date()


def occurrence(start: date, unit: str, length: int, number: int) -> date:
    """The day of payment `number`, counted from 0. Raises OverflowError, ValueError beyond 9999."""
    if unit == DAYS:
        return start + timedelta(days=number * length)
    years, month = divmod(start.month - 1 + number * length, 12)
    year = start.year + years
    return date(year, month + 1, min(start.day, monthrange(year, month + 1)[1]))


def run_ms(day: date) -> int:
    """The moment at which the payments of a day run, Unix milliseconds."""
    wall = (day - _EPOCH).days * clock.DAY_MS + _RUN_HOUR * _HOUR_MS
    winter, summer = wall + 8 * _HOUR_MS, wall + 7 * _HOUR_MS
    # On the day that has no 2 am it is an hour later on the wall.
    return summer if clock.pacific_offset_ms(summer) == -7 * _HOUR_MS else winter


def next_run_ms(after_ms: int) -> int:
    """The first run after a moment."""
    day = today(after_ms)
    return run_ms(day) if run_ms(day) > after_ms else run_ms(day + timedelta(days=1))


def due_ms(start: date, unit: str, length: int, number: int, created_ms: int) -> int | None:
    """When payment `number` (from 0) is made; None where the calendar ends.

    The first one is never before the subscription: what begins today is paid in the next night.
    """
    try:
        moment = run_ms(occurrence(start, unit, length, number))
    except (OverflowError, ValueError):
        return None
    return moment if moment > created_ms else next_run_ms(created_ms)


def too_long(start: date, unit: str, length: int, total: int) -> bool:
    """Whether the last of `total` payments has no date, as it lies beyond the year 9999."""
    if total == FOREVER:
        return False
    try:
        occurrence(start, unit, length, total - 1)
    except (OverflowError, ValueError):
        return True
    return False
