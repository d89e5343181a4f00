"""Due dates of a subscription's payments, in the account's time zone, and their times.

Each date is counted from the first one, not from the previous: a subscription that begins on the
31st is due on the last day of a shorter month, and on the 31st again afterwards.
"""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from typing import Final

from authorizenet_simulator.state import clock

DAYS: Final = "days"
MONTHS: Final = "months"
LENGTHS: Final = {DAYS: range(7, 366), MONTHS: range(1, 13)}
"""The allowed interval lengths by unit."""
FOREVER: Final = 9999
"""The number of occurrences that means: without end."""
_RUN_HOUR: Final = 2
"""Payments run at about 2 am Pacific."""
_HOUR_MS: Final = 3_600_000
_EPOCH: Final = date(1970, 1, 1)


def date_of(text: str) -> date | None:
    """Return the day of an `xs:date`, ignoring its time zone; None if it is no valid date."""
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        return None


def today(at_ms: int) -> date:
    """Return the account's date at this time."""
    return datetime.fromtimestamp((at_ms + clock.pacific_offset_ms(at_ms)) // 1000, UTC).date()


def occurrence(start: date, unit: str, length: int, number: int) -> date:
    """Return the date of payment `number` (from 0). Raises OverflowError, ValueError past 9999."""
    if unit == DAYS:
        return start + timedelta(days=number * length)
    years, month = divmod(start.month - 1 + number * length, 12)
    year = start.year + years
    return date(year, month + 1, min(start.day, monthrange(year, month + 1)[1]))


def run_ms(day: date) -> int:
    """Return the time at which a day's payments run, in Unix milliseconds."""
    wall = (day - _EPOCH).days * clock.DAY_MS + _RUN_HOUR * _HOUR_MS
    winter, summer = wall + 8 * _HOUR_MS, wall + 7 * _HOUR_MS
    # On the day without a 2 am (start of daylight saving) it is 3 am local time.
    return summer if clock.pacific_offset_ms(summer) == -7 * _HOUR_MS else winter


def next_run_ms(after_ms: int) -> int:
    """Return the first run after a time."""
    day = today(after_ms)
    return run_ms(day) if run_ms(day) > after_ms else run_ms(day + timedelta(days=1))


def due_ms(start: date, unit: str, length: int, number: int, created_ms: int) -> int | None:
    """Return the due time of payment `number` (from 0); None after the year 9999.

    None is due before the subscription was created: one that begins today is paid next night.
    """
    try:
        moment = run_ms(occurrence(start, unit, length, number))
    except (OverflowError, ValueError):
        return None
    return moment if moment > created_ms else next_run_ms(created_ms)


def too_long(start: date, unit: str, length: int, total: int) -> bool:
    """Return whether the last of `total` payments would be after the year 9999."""
    if total == FOREVER:
        return False
    try:
        occurrence(start, unit, length, total - 1)
    except (OverflowError, ValueError):
        return True
    return False
