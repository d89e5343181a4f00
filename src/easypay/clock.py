"""Time: UTC for what is written down, monotonic for what is measured."""

import time
from datetime import UTC, datetime

monotonic = time.monotonic


def now() -> datetime:
    """The current moment in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """`2026-11-24T04:05:37.123Z`, to the millisecond. Takes an aware datetime in UTC."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"
