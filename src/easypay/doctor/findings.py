"""What a check finds, and the figures from which something is wrong. Pure."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec


class Level(IntEnum):
    """How bad a finding is. The worst one is the command's exit status."""

    OK = 0
    WARN = 1
    BAD = 2

    @property
    def word(self) -> str:
        return self.name.lower()


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    check: str
    level: Level
    figure: str
    """What was measured, in words with units."""
    why: str = ""
    """Why it matters. Empty if all is well."""
    mend: str = ""
    """The command that repairs it, or what to do."""


class Limits(NamedTuple):
    """From these figures on, a check warns or calls it bad."""

    warn: float
    bad: float


Thresholds = Mapping[str, Limits]
_NEVER: Final = float("inf")

THRESHOLDS: Final[Thresholds] = {
    # sessions
    "connections in use, share": Limits(0.7, 0.9),
    "long transaction, seconds": Limits(60, 600),
    "idle in transaction, seconds": Limits(10, 60),
    "waiting for a lock, seconds": Limits(2, 10),
    "oldest snapshot, seconds": Limits(300, 3_600),
    "locks of one session": Limits(200, 2_000),
    "locks in use, share": Limits(0.5, 0.8),
    # replication
    "replication lag, bytes": Limits(64e6, 1e9),
    "log kept for an inactive slot, bytes": Limits(1e9, 10e9),
    # statements: the mean time, and how often it must have run to count
    "simple statement, ms": Limits(10, 100),
    "complex statement, ms": Limits(50, 500),
    "batch statement, ms": Limits(100, 1_000),
    "calls before a statement counts": Limits(20, 20),
    # tables and indexes
    "updates that touch indexes, share": Limits(0.1, 0.5),
    "updates before the share counts": Limits(1_000, 1_000),
    "rows read by each sequential scan": Limits(10_000, 1_000_000),
    "sequential scans before they count": Limits(50, 50),
    "unused index, bytes": Limits(8e6, _NEVER),
    "bloat of an index, times": Limits(2.5, 10),
    "bloat before it counts, bytes": Limits(32e6, 32e6),
    "dead rows, times what calls autovacuum": Limits(2, 10),
    "changed rows, times what calls autoanalyze": Limits(4, 40),
    "rows before lateness counts": Limits(10_000, 10_000),
    "age of transaction ids, share of what stops writes": Limits(0.2, 0.5),
    # months and feed
    "days until the months run out": Limits(35, 7),
    "days that a month may wait to be compacted": Limits(7, _NEVER),
    "month that waits to be compacted, bytes": Limits(8e6, _NEVER),
    "feed behind, seconds": Limits(10, 60),
    "reader of the feed behind, events": Limits(10_000, 200_000),
    # settings that only matter on a database of this size
    "database that is big, bytes": Limits(1e9, 1e9),
}
"""Every figure that the doctor compares with, by name. The guide's targets for statements are 10,
50 and 100 ms. Days are counted downwards: fewer is worse."""


def level_of(value: float, limits: Limits) -> Level:
    """Return the level of a figure of which more is worse."""
    if value >= limits.bad:
        return Level.BAD
    return Level.WARN if value >= limits.warn else Level.OK


def worst(findings: Sequence[Finding]) -> Level:
    """Return the worst level; OK if there is none."""
    return max((finding.level for finding in findings), default=Level.OK)


def size(count: float) -> str:
    """Return bytes for people: `12.3 MB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def span(seconds: float) -> str:
    """Return a length of time for people: `45 s`, `12 min`, `3.5 h`, `8 days`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
