"""Databases full of realistic payments, for tests that need many rows.

The fixture `seeded` is the name of a template with 200,000 payments over 36 months:

    dsn = await new_database(cluster.dsn, seeded)
"""

from datetime import UTC, datetime

import asyncpg

from easypay.seeding import run
from easypay.seeding.plan import Plan
from harness.stack import with_database


async def seeded_template(
    server_dsn: str,
    template: str,
    name: str,
    *,
    payments: int = 200_000,
    months: int = 36,
    merchants: int = 2_000,
) -> str:
    """Create a database with a seed, from a migrated template. Return its name."""
    connection = await asyncpg.connect(server_dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    finally:
        await connection.close()
    plan = Plan(payments, months, merchants, 1, datetime.now(UTC))
    await seeded_with(with_database(server_dsn, name), plan)
    return name


async def seeded_with(dsn: str, plan: Plan, *, processes: int = 2) -> run.Progress:
    """Fill a migrated database, as `easypay db seed` does. Return how far it came."""
    connection = await asyncpg.connect(dsn)
    progress = run.Progress(lambda now: None)
    try:
        plan, there = await run.begin(connection, plan)
        if not there:
            await run.fill(dsn, connection, plan, progress, processes=processes)
    finally:
        await connection.close()
    return progress
