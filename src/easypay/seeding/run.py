"""Fills a database with a seed, by several processes, and removes it again.

A seed that is cut short leaves whole months. The same command goes on with the others.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from easypay.db import partitions
from easypay.db.partitions import PARTITIONED
from easypay.seeding import plan as plans
from easypay.seeding.plan import CannotSeed, Plan
from easypay.seeding.shops import HIGHEST, LOWEST, shops
from easypay.seeding.worker import Said, Start

_LONGEST_LINE: Final = 1 << 20


class Progress(msgspec.Struct):
    """How far a seed is. `show` is called whenever it changes."""

    show: Callable[["Progress"], None]
    payments: int = 0
    written: int = 0
    months: int = 0
    months_done: int = 0
    step: str = "payments"

    def at(self, step: str) -> None:
        """Begin another step."""
        self.step = step
        self.show(self)


async def begin(connection: Any, wanted: Plan) -> tuple[Plan, bool]:
    """Return the plan to carry out, and whether all of it is there already.

    That is the wanted plan, or the one that was cut short. Raises CannotSeed.
    """
    await plans.check_no_other_payments(connection)
    there, finished = await plans.kept(connection)
    if there is not None:
        plans.check_same(wanted, there)
        return there, finished
    return wanted, False


async def fill(
    database_url: str, connection: Any, plan: Plan, progress: Progress, *, processes: int
) -> None:
    """Write everything of the plan that is not there. `begin` has allowed it.

    Raises CannotSeed if a process fails, and what the database raises. May be cancelled at any
    moment.
    """
    if await plans.kept(connection) == (None, False):
        await plans.keep_begun(connection, plan)
    await _make_merchants(connection, plan)
    done = await plans.months_done(connection, plan)
    left = sorted(set(plan.month_starts()) - done, reverse=True)
    by_month = {month: sum(day.payments for day in its) for month, its in plan.days().items()}
    progress.payments, progress.months = plan.payments, plan.months
    progress.written = sum(by_month[month] for month in done)
    progress.months_done = len(done)
    progress.at("payments")
    if left:
        await _write_months(database_url, plan, left, min(processes, len(left)), progress)
    progress.at("statistics")
    await _tidy(database_url)
    await plans.keep_finished(connection, plan)
    progress.at("done")


async def _make_merchants(connection: Any, plan: Plan) -> None:
    made = shops(plan.merchants, plan.seed)
    await connection.execute(
        "INSERT INTO merchants (merchant_id, name, currencies, allow_raw_cards, created_at,"
        " updated_at) SELECT id, name, string_to_array(currencies, ' '), raw, $5, $5"
        " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[])"
        " AS i(id, name, currencies, raw) ON CONFLICT (merchant_id) DO NOTHING",
        [shop.id.hex() for shop in made],
        [shop.name for shop in made],
        [" ".join(shop.currencies) for shop in made],
        [shop.tokens < 1 for shop in made],
        plan.month_starts()[0],
    )


async def _write_months(
    database_url: str, plan: Plan, months: list[datetime], processes: int, progress: Progress
) -> None:
    """Write months, the newest first, by so many processes."""
    queue = list(reversed(months))

    async def one() -> None:
        async with _worker(Start(database_url, plan)) as worker:
            while queue:
                assert worker.stdin is not None
                worker.stdin.write(msgspec.json.encode(queue.pop()) + b"\n")
                await worker.stdin.drain()
                await _until_done(worker, progress)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(processes):
                group.create_task(one())
    except* CannotSeed as failures:
        raise failures.exceptions[0] from None


async def _until_done(worker: asyncio.subprocess.Process, progress: Progress) -> None:
    """Follow a worker to the end of its month. Raises CannotSeed if it fails."""
    assert worker.stdout is not None
    while True:
        line = await worker.stdout.readline()
        said = msgspec.json.decode(line, type=Said) if line else Said("failed", why="it died")
        match said.what:
            case "wrote":
                progress.written += said.payments
            case "done":
                progress.months_done += 1
            case "failed":
                raise CannotSeed(
                    f"a process that writes rows has failed: {said.why}. What is written is whole: "
                    "repeat the command to go on, or remove it with `easypay db seed --clear`"
                )
        progress.show(progress)
        if said.what == "done":
            return


@asynccontextmanager
async def _worker(start: Start) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker; it is killed at the end, and its unfinished transaction is rolled back."""
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "easypay.seeding.worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        start_new_session=True,  # Ctrl-C is ours to handle
    )
    try:
        assert worker.stdin is not None
        worker.stdin.write(msgspec.json.encode(start) + b"\n")
        yield worker
    finally:
        with suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()


async def _tidy(database_url: str) -> None:
    """Let the planner know the tables, and mark their pages as visible to all."""

    async def one(tables: str) -> None:
        connection = await asyncpg.connect(database_url, timeout=10)
        try:
            await connection.execute(f"VACUUM (ANALYZE) {tables}")
        finally:
            await connection.close()

    small = "merchants, idempotency_keys, unresolved_operations"
    await asyncio.gather(*map(one, (*PARTITIONED, small)))


# removing --------------------------------------------------------------------------------

_OWNED: Final = """
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE a.attname = 'merchant_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND c.relnamespace = 'public'::regnamespace
     ORDER BY c.relname = 'merchants', c.relname
"""


async def clear(connection: Any, step: Callable[[str], None]) -> int:
    """Remove everything of a seed: rows, and the tables of months that only it needed.

    Months with rows of others keep those. Returns how many merchants were removed. Safe to repeat
    after it was cut short.
    """
    recent = partitions.month_start(await connection.fetchval("SELECT now()"), -1)
    others = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM payments WHERE merchant_id < $1)"
        " OR EXISTS (SELECT FROM payments WHERE merchant_id > $2)",
        LOWEST,
        HIGHEST,
    )
    for month in [] if others else await partitions.months_of(connection):
        step(f"{month:%Y-%m}")
        await _remove_month(connection, month, keep=month >= recent)
    for table in [row[0] for row in await connection.fetch(_OWNED)]:
        step(table)
        status = await connection.execute(
            f"DELETE FROM {table} WHERE merchant_id BETWEEN $1 AND $2", LOWEST, HIGHEST
        )
    if (await plans.kept(connection))[0] is not None:
        await plans.keep_cleared(connection)
    return int(status.rpartition(" ")[2])


async def _remove_month(connection: Any, month: datetime, *, keep: bool) -> None:
    """Empty a month's tables, or remove them."""
    tables = partitions.tables_of(month)
    present = await partitions.attached(connection)
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        for parent, name in tables.items():
            if name not in present:
                continue
            if keep:
                await connection.execute(f"TRUNCATE {name}")
                room = partitions.FILLFACTOR[parent]
                await connection.execute(f"ALTER TABLE {name} SET (fillfactor = {room})")
            else:
                await connection.execute(f"DROP TABLE {name}")


def processes_here() -> int:
    """Return how many processes keep this machine's cores busy, beside the database's."""
    return max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))
