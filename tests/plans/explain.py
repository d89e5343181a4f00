"""Plans of statements as the gateway's own code sent them.

The module auto_explain sends each plan back with the statement's answer, so the plan is the one
that ran: with the gateway's text, arguments, session settings and choice of a generic plan.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

EXPLAINING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}
"""Settings of a session that can send its plans. It sends them while `log_min_duration` is 0."""
RUNS = 7
"""Statements run so often before they are looked at: after five runs PostgreSQL may change to a
generic plan."""
_MONTH = re.compile(r"_(\d{4}_\d{2}|default)(?=_|$)")
_BEGUN_PAGES = 8
"""A month with so few pages has only begun. To read them all is as quick as to use an index."""
_FIRST_OID = 16_384
"""Tables with lower numbers belong to PostgreSQL."""
_LOCKS = f"""
    SELECT count(*), count(*) FILTER (WHERE NOT fastpath) FROM pg_locks
     WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= {_FIRST_OID}
"""


@dataclass
class Found:
    """What the statements of one case did, taken together."""

    statements: int = 0
    indexes: set[str] = field(default_factory=set)
    """By their names on the parent tables."""
    read_whole: set[str] = field(default_factory=set)
    """Tables that were scanned sequentially, by their parents' names."""
    months: set[str] = field(default_factory=set)
    """Months whose tables or indexes are in a plan."""
    buffers: int = 0
    """Pages of 8 KiB that were read, in memory or on disk."""
    sorted_rows: int = 0
    """The most rows that one step sorted."""
    locks: int = 0
    """Locks on tables and indexes at the end of the transaction. PostgreSQL plans a statement over
    as many tables and indexes as it locks, so this also bounds the time of planning."""
    slow_locks: int = 0
    """Those that did not fit into the backend's own 16 places."""
    texts: list[str] = field(default_factory=list)


class Explainer:
    """Collects the plans that one connection sends."""

    def __init__(self, connection: Any, parents: Mapping[str, str]) -> None:
        self._connection = connection
        self._parents = parents
        self._plans: list[dict[str, Any]] = []
        connection.add_log_listener(self._listen)

    def _listen(self, _: Any, message: Any) -> None:
        text = str(message)
        if "plan:" in text:
            self._plans.append(json.loads(text[text.index("{") :]))

    async def explain(self, run: Callable[[], Awaitable[object]]) -> Found:
        """Run something in a transaction that is undone, as often as a plan needs to settle, and
        return what the last run did."""
        for _ in range(RUNS - 1):
            async with undone(self._connection):
                await run()
        async with undone(self._connection):
            await self._connection.execute("SET LOCAL auto_explain.log_min_duration = 0")
            await asyncio.sleep(0)
            self._plans.clear()
            await run()
            await self._connection.execute("SET LOCAL auto_explain.log_min_duration = -1")
            locks, slow = await self._connection.fetchrow(_LOCKS)
        await asyncio.sleep(0)
        found = Found(statements=len(self._plans), locks=locks, slow_locks=slow)
        for plan in self._plans:
            found.texts.append(plan["Query Text"])
            self._add(found, plan["Plan"])
        return found

    def _add(self, found: Found, plan: Mapping[str, Any]) -> None:
        found.buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        for node in _nodes(plan):
            names = [node.get("Index Name"), node.get("Relation Name")]
            names += node.get("Conflict Arbiter Indexes", [])
            for name in filter(None, names):
                found.months.update(_MONTH.findall(name))
            arbiters = node.get("Conflict Arbiter Indexes", [])
            for index in filter(None, [node.get("Index Name"), *arbiters]):
                found.indexes.add(self._parents.get(index, index))
            if node["Node Type"] == "Seq Scan":
                table = node["Relation Name"]
                pages = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
                if pages > (_BEGUN_PAGES if _MONTH.search(table) else 0):  # 0: it is empty
                    found.read_whole.add(self._parents.get(table, table))
            if node["Node Type"] in ("Sort", "Incremental Sort"):
                rows = max((p["Actual Rows"] for p in node.get("Plans", [])), default=0)
                found.sorted_rows = max(found.sorted_rows, int(rows))


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


async def parents_of(connection: Any) -> dict[str, str]:
    """Return the parent's name of each month's table and index."""
    rows = await connection.fetch(
        "SELECT c.relname, p.relname FROM pg_inherits i"
        "  JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent"
    )
    return {row[0]: row[1] for row in rows}


@asynccontextmanager
async def undone(connection: Any) -> AsyncIterator[None]:
    """Undo what the block does."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


class OneConnection:
    """One connection in the place of a pool."""

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        yield self._connection
