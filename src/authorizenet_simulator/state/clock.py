"""The simulator's clock: real, shifted, or stopped. Times are Unix milliseconds."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
CUTOFF_HOUR: Final = 16
"""The daily transaction cut-off: 4 pm Pacific."""


class Clock:
    """`now_ms` is the real time plus an offset, or a fixed time while the clock is stopped."""

    __slots__ = ("offset_ms", "stopped_ms")

    def __init__(self) -> None:
        self.offset_ms = 0
        self.stopped_ms: int | None = None

    def now_ms(self) -> int:
        if self.stopped_ms is not None:
            return self.stopped_ms
        return time.time_ns() // 1_000_000 + self.offset_ms


def pacific_offset_ms(at_ms: int) -> int:
    """Return Pacific time minus UTC: daylight saving from the second Sunday of March, 2 am, to the
    first of November, 2 am."""
    return _offset_of_hour_ms(at_ms // _HOUR_MS)


@lru_cache(1024)
def _offset_of_hour_ms(hour: int) -> int:
    moment = datetime.fromtimestamp(hour * 3600, UTC)
    march = datetime(moment.year, 3, 8, 10, tzinfo=UTC)
    november = datetime(moment.year, 11, 1, 9, tzinfo=UTC)
    begins = march + timedelta(days=6 - march.weekday())
    ends = november + timedelta(days=6 - november.weekday())
    return (-7 if begins <= moment < ends else -8) * _HOUR_MS


def next_cutoff_ms(at_ms: int) -> int:
    """Return the first cut-off after `at_ms`."""
    offset = pacific_offset_ms(at_ms)
    local = at_ms + offset
    cutoff = local - local % DAY_MS + CUTOFF_HOUR * _HOUR_MS
    if cutoff <= local:
        cutoff += DAY_MS
    return cutoff - pacific_offset_ms(cutoff - offset)


def utc_text(at_ms: int) -> str:
    """Format as '2026-01-31T08:00:00.25Z': milliseconds without trailing zeros."""
    return _text(at_ms) + "Z"


def local_text(at_ms: int) -> str:
    """Format as local (Pacific) time, without an offset."""
    return _text(at_ms + pacific_offset_ms(at_ms))


def _text(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    text = _text_of_second(seconds)
    return f"{text}.{ms:03d}".rstrip("0") if ms else text


@lru_cache(4096)
def _text_of_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


EARLIEST_MS: Final = 946_684_800_000
LATEST_MS: Final = 32_503_680_000_000
"""The clock can be set to the years 2000 to 2999."""
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([Tt ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?"
)


def parse_setting(text: str) -> int:
    """Parse a time to set the clock to: a day, or RFC 3339; UTC if it has no offset.

    Raises ValueError if it is invalid or outside the years 2000 to 2999.
    """
    if not _MOMENT.fullmatch(text):
        raise ValueError("now must be a time such as 2026-07-01T22:59:00Z")
    return settable(parse(text.upper()))


def settable(at_ms: int) -> int:
    """Return `at_ms`. Raises ValueError if the clock cannot be set to it."""
    if not EARLIEST_MS <= at_ms < LATEST_MS:
        raise ValueError("the clock can only be set to the years 2000 to 2999")
    return at_ms


def parse(text: str) -> int:
    """Parse an RFC 3339 time; UTC if it has no offset. Raises ValueError if it is invalid."""
    moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
