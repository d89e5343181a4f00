"""Checks of the server's settings: those that can lose payments, and those that make it slow."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from easypay.doctor.findings import Finding, Level, Thresholds, size


class Rule(NamedTuple):
    """A setting, and when it is wrong."""

    name: str
    is_wrong: Callable[[str], bool]
    level: Level
    why: str
    right: str
    restart: bool = False
    only_if_big: bool = False
    """It only matters on a database of some size."""


def _off(value: str) -> bool:
    return value == "off"


_SMALL_BUFFERS: Final = 128 * 1024 * 1024

RULES: Final = (
    Rule("fsync", _off, Level.BAD, "a crash of the machine loses and damages payments", "on"),
    Rule("full_page_writes", _off, Level.BAD,
         "a crash in the middle of a write damages pages that nothing can repair", "on"),
    Rule("synchronous_commit", _off, Level.WARN,
         "gateways set it themselves; whatever else writes here loses its last commits in a crash",
         "on"),
    Rule("autovacuum", _off, Level.BAD,
         "dead rows are never removed, and in the end the server stops writes to protect its data",
         "on"),
    Rule("track_counts", _off, Level.BAD, "autovacuum does nothing without its counts", "on"),
    Rule("zero_damaged_pages", lambda value: value == "on", Level.BAD,
         "damaged pages are emptied silently, with the payments on them", "off"),
    Rule("shared_buffers", lambda value: int(value) <= _SMALL_BUFFERS, Level.WARN,
         "PostgreSQL's default for a small machine; a quarter of the memory keeps indexes near",
         "2GB", restart=True, only_if_big=True),
    Rule("wal_compression", _off, Level.WARN,
         "after each checkpoint whole pages go into the log; compressed they take a third",
         "lz4", only_if_big=True),
)  # fmt: skip

# Sizes in bytes, whatever their unit; everything else as it is.
_SETTINGS: Final = """
    SELECT name, CASE unit WHEN '8kB' THEN (setting::bigint * 8192)::text ELSE setting END AS value
      FROM pg_settings WHERE name = ANY ($1::text[])
"""


async def settings(db: Any, limits: Thresholds) -> list[Finding]:
    """Are the server's settings safe, and right for a database of this size?"""
    rows = await db.fetch(_SETTINGS, [rule.name for rule in RULES])
    values = {row["name"]: row["value"] for row in rows}
    bytes_here = await db.fetchval("SELECT pg_database_size(current_database())")
    is_big = bytes_here >= limits["database that is big, bytes"].warn
    found = [
        Finding(
            "settings",
            rule.level,
            f"{rule.name} is {_shown(rule, values[rule.name])}",
            rule.why,
            _mend(rule),
        )
        for rule in RULES
        if rule.name in values
        and rule.is_wrong(values[rule.name])
        and (is_big or not rule.only_if_big)
    ]
    return found or [Finding("settings", Level.OK, f"{len(values)} looked at")]


def _shown(rule: Rule, value: str) -> str:
    return size(int(value)) if rule.name == "shared_buffers" else value


def _mend(rule: Rule) -> str:
    change = f"psql -c \"ALTER SYSTEM SET {rule.name} = '{rule.right}'\""
    if rule.restart:
        return f"{change}, then restart PostgreSQL"
    return f"{change} -c 'SELECT pg_reload_conf()'"
