"""Time: UTC for stored times, monotonic clocks for durations.

`monotonic` goes on while the machine sleeps, if the system has such a clock (Linux): a request must
not be sent if its deadline passed during the sleep. The event loop's timers do not count that time,
so code that must not be late reads this clock. `stopwatch` is for durations that are only measured
or waited for: it is faster to read, and stops while the machine sleeps.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import msgspec

monotonic = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
stopwatch = time.perf_counter
_WHOLE_SECOND: Final = len("2026-11-24T04:05:37Z")
_STEP: Final = timedelta(milliseconds=2)
_encode = msgspec.json.Encoder().encode


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def now_after(moment: datetime) -> datetime:
    """Return the current time, but at least two milliseconds after `moment`.

    `moment` was stored by a process whose clock may be ahead of this one's. What is dated with
    this, and gets its id from it (`ids.new_id_from`), sorts after what was dated then.
    """
    return max(now(), moment + _STEP)


def rfc3339(moment: datetime) -> str:
    """Return `2026-11-24T04:05:37.123Z`, to the millisecond. Takes an aware datetime in UTC."""
    # Every answer needs this several times, and it takes a seventh of the time of isoformat.
    text = _encode(moment).decode()
    return f"{text[1:24]}Z" if moment.microsecond else f"{text[1:20]}.000Z"


def rfc3339_of_each(moments: Sequence[datetime]) -> list[str]:
    """Return `rfc3339` of each moment, all encoded at once: a page has dozens of them."""
    if not moments:
        return []
    texts = _encode(moments)[2:-2].decode().split('","')
    return [f"{text[:23]}Z" if len(text) > _WHOLE_SECOND else f"{text[:19]}.000Z" for text in texts]


def rfc3339_or_none(moment: datetime | None) -> str | None:
    """Return the same of a moment that may never have been."""
    return None if moment is None else rfc3339(moment)


def log_time(moment: datetime) -> str:
    """Return `2026-11-24T04:05:37.123456Z`, the form in the log. Takes a datetime in UTC."""
    return _encode(moment).decode()[1:-1]
