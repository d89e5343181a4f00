"""The seeded databases of one server: made once, and used again if their directory is kept.

A seed writes payments, operations and events, as if no gateway had run meanwhile. So the feed has
to number all events and fold them into the search table and the statistics, which a gateway does
in the background; here it is done by the gateway's own code, and timed.
"""

import asyncio
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec

from easypay import clock
from easypay.db import migrate
from easypay.db.pool import open_pool
from easypay.events.leader import FeedLeader
from easypay.events.readers import Follower
from easypay.payments import seals, search_of_unknown
from easypay.payments.chores import make_months_at_start
from easypay.payments.feed_fold import PAYMENTS
from easypay.seeding import disk, plan, run

FED_BYTES_PER_PAYMENT: Final = 1_250
"""What the feed, the search table and the counters add to the bytes of a seed, measured."""
SMALLER: Final = 2_000_000
"""Payments if there is no room for those that were asked for."""
_WAL_BYTES: Final = 3 << 30
_MONTHS_AHEAD: Final = 3
_SMALL: Final = 20_000
"""One process seeds so few payments sooner than several do."""
_LIMIT_S: Final = 60.0
_EVERY_S: Final = 0.1
_TELL_EVERY_S: Final = 15.0
_FED: Final = "feed, payment_search, payment_counts, decline_counts, streams, feed_months"
_POSITIONS: Final = """
    SELECT h.caught_up, h.last_seq AS head, r.last_seq AS folded
      FROM feed_head h, feed_readers r WHERE r.name = 'payments'
"""

Say = Callable[[str], None]


class NotEnoughRoom(Exception):
    """The disk is too small."""


class Wanted(msgspec.Struct, frozen=True):
    """One database: so many payments over so many months, of so many merchants."""

    payments: int
    months: int
    merchants: int

    @property
    def name(self) -> str:
        return f"find_{self.payments}_{self.months}_{self.merchants}"


class Made(msgspec.Struct, kw_only=True):
    """A database that is there, and how long it took to make."""

    wanted: Wanted
    until: datetime
    seed_s: float
    feed_s: float
    """To number and fold all events."""
    seal_s: float
    """To add up the days and months of all merchants."""
    events: int
    bytes: int
    dsn: str = ""

    @property
    def payments(self) -> int:
        return self.wanted.payments

    @property
    def since(self) -> datetime:
        """The start of the oldest month."""
        return plan.Plan(
            self.payments, self.wanted.months, self.wanted.merchants, 1, self.until
        ).month_starts()[0]


def with_database(dsn: str, name: str) -> str:
    """Return the address of another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def bytes_needed(wanted: Wanted) -> int:
    """Return the bytes that a database takes on disk, without the write-ahead log."""
    its_plan = plan.Plan(wanted.payments, wanted.months, wanted.merchants, 1, clock.now())
    return disk.needed(its_plan, 0) + wanted.payments * FED_BYTES_PER_PAYMENT


def payments_that_fit(asked: int, months: int, merchants: int, directory: Path) -> tuple[int, str]:
    """Return how many payments the disk has room for, and a line about it: those asked for, or
    SMALLER. Raises NotEnoughRoom if not even those fit."""
    if _note(directory, Wanted(asked, months, merchants)).exists():
        return asked, f"{asked:,} payments: they are there already"
    free = shutil.disk_usage(directory).free
    for payments in (asked, SMALLER):
        needed = bytes_needed(Wanted(payments, months, merchants)) + _WAL_BYTES
        room = f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free in {directory}"
        if payments <= asked and free >= needed:
            fewer = "" if payments == asked else f" (not {asked:,}: the disk is too small)"
            return payments, f"{payments:,} payments{fewer}: {room}"
    raise NotEnoughRoom(f"the disk is too small for {asked:,} payments: {room}. Use --data DIR")


def _note(directory: Path, wanted: Wanted) -> Path:
    """Return the file that says that a database is whole."""
    return directory / f"{wanted.name}.json"


async def ready(server_dsn: str, wanted: Wanted, kept_in: Path, say: Say) -> Made:
    """Return a filled database: the one that is there, or a new one.

    The server's own database must be migrated and stay empty.
    """
    dsn = with_database(server_dsn, wanted.name)
    noted = _note(kept_in, wanted)
    if noted.exists():
        made = msgspec.json.decode(noted.read_bytes(), type=Made)
        say(f"{_described(wanted)}: there already, seeded in {made.seed_s:,.0f} s")
    else:
        await _create(server_dsn, wanted.name)
        made = await _fill(dsn, wanted, say)
        noted.write_bytes(msgspec.json.encode(made))
    made.dsn = dsn
    await _make_months(dsn)
    return made


async def empty(server_dsn: str, name: str) -> str:
    """Return the address of a new database without payments. One of that name is dropped."""
    await drop(server_dsn, name)
    await _create(server_dsn, name)
    return with_database(server_dsn, name)


async def drop(server_dsn: str, name: str) -> None:
    """Drop a database if it is there."""
    connection = await asyncpg.connect(server_dsn)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


async def _make_months(dsn: str) -> None:
    """Make the tables of the next months, as a gateway does when it starts."""
    connection = await asyncpg.connect(dsn)
    try:
        await make_months_at_start(connection, months_ahead=_MONTHS_AHEAD)
    finally:
        await connection.close()


async def _create(server_dsn: str, name: str) -> None:
    """Make a database if it is not there, as a copy of the server's own, which is migrated and
    empty. One whose seed was cut short goes on where it was."""
    template = urlsplit(server_dsn).path.removeprefix("/")
    dsn = with_database(server_dsn, "postgres")
    connection = await asyncpg.connect(dsn)  # nobody may be connected to what is copied
    try:
        there = await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name)
        if there is None:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    finally:
        await connection.close()
    await migrate.migrate(with_database(server_dsn, name))


async def _fill(dsn: str, wanted: Wanted, say: Say) -> Made:
    connection = await asyncpg.connect(dsn)
    try:
        began = perf_counter()
        until = await _seed(dsn, connection, wanted, say)
        seed_s = perf_counter() - began
        say(f"{_described(wanted)}: seeded in {seed_s:,.0f} s")
        began = perf_counter()
        events = await _feed(dsn, connection, say)
        feed_s = perf_counter() - began
        say(f"{_described(wanted)}: {events:,} events numbered and folded in {feed_s:,.0f} s")
        began = perf_counter()
        await _seal(connection)
        seal_s = perf_counter() - began
        say(f"{_described(wanted)}: days and months added up in {seal_s:,.0f} s")
        await connection.execute(f"VACUUM (ANALYZE) {_FED}, statistics_seals")
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
    finally:
        await connection.close()
    return Made(
        wanted=wanted, until=until, seed_s=seed_s, feed_s=feed_s, seal_s=seal_s, events=events,
        bytes=size,
    )  # fmt: skip


def _described(wanted: Wanted) -> str:
    return f"{wanted.payments:,} payments over {wanted.months} months"


async def _seed(dsn: str, connection: Any, wanted: Wanted, say: Say) -> datetime:
    """Do what `easypay db seed` does. Returns the present of the seed."""
    now = await connection.fetchval("SELECT now()")
    asked = plan.Plan(wanted.payments, wanted.months, wanted.merchants, 1, now)
    planned, there = await run.begin(connection, asked)
    if not there:
        tell = _Seldom(say)

        def show(progress: run.Progress) -> None:
            tell(f"seeding: {progress.written:,} of {progress.payments:,} payments")

        progress = run.Progress(show)
        processes = 1 if wanted.payments <= _SMALL else run.processes_here()
        await run.fill(dsn, connection, planned, progress, processes=processes)
    return planned.until


async def _feed(dsn: str, connection: Any, say: Say) -> int:
    """Lead the feed until every event is numbered and folded. Returns how many there are."""
    pool = await open_pool(dsn, size=2, answer_within_s=_LIMIT_S)
    leader = FeedLeader(
        pool,
        dsn,
        Follower(PAYMENTS, dsn, limit_s=_LIMIT_S),
        limit_s=_LIMIT_S,
        watch=lambda events, behind_s: None,
        beside=search_of_unknown.take,
    )
    task = asyncio.create_task(leader.run())
    tell = _Seldom(say)
    try:
        while True:
            caught_up, head, folded = await connection.fetchrow(_POSITIONS)
            if task.done():
                task.result()
            if caught_up and head == folded:
                return int(head)
            tell(f"feed: {head:,} events numbered, {folded:,} folded")
            await asyncio.sleep(_EVERY_S)
    finally:
        while not task.done():
            task.cancel()  # again: an error of a connection that is closed can take its place
            await asyncio.wait([task], timeout=1)
        await leader.stop()
        await pool.close()


async def _seal(connection: Any) -> None:
    """Add up the days and months of all merchants, as the feed's leader would little by little."""
    for (merchant_id,) in await connection.fetch("SELECT merchant_id FROM merchants"):
        await seals.seal(connection, merchant_id)


class _Seldom:
    """Says a line, but not more often than every few seconds."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._next = perf_counter() + _TELL_EVERY_S

    def __call__(self, line: str) -> None:
        if perf_counter() >= self._next:
            self._say(line)
            self._next = perf_counter() + _TELL_EVERY_S


def moments(made: Made, shares: list[float]) -> list[datetime]:
    """Return moments between the oldest payment and the newest, by their share of that time."""
    whole: timedelta = made.until - made.since
    return [made.since + whole * share for share in shares]
