"""Time: UTC for what is written down, monotonic for what is measured."""

import time
from datetime import UTC, datetime

monotonic = time.monotonic


def now() -> datetime:
    """The current moment in UTC, with the microseconds cut to milliseconds as ids have them."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """`2026-11-24T04:05:37.123Z`. Takes an aware datetime in UTC."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"
