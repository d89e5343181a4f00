"""Run all cases on many payments, show what each costs, and write it into docs/database.md.

make plans                            # 200,000 payments over 120 months
make plans ARGS="--payments 1000000"
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import asyncpg

from easypay.db import embedded
from harness import migrated, with_database
from plans import database_page
from plans.cases import CASES
from plans.judge import what_is_wrong
from plans.world import look_at, seeded_world

TEMPLATE = "plans_template"


async def measure(server_dsn: str, payments: int, months: int, *, keep: bool) -> bool:
    """Measure every case and write the page. Returns whether all stay within their bounds."""
    connection = await asyncpg.connect(server_dsn)
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    await migrated(with_database(server_dsn, TEMPLATE))
    dsn = await seeded_world(server_dsn, TEMPLATE, payments=payments, months=months)
    world = await look_at(dsn)
    measured, fine = [], True
    for case in CASES:
        found = await case.measure(world, case)
        wrong = what_is_wrong(case, found)
        measured.append((case, found))
        fine = fine and not wrong
        print(
            f"{case.name:52}{found.buffers:7,} pages {len(found.months):4} months"
            f" {found.locks:4} locks",
            *wrong[:3],
            flush=True,
        )
    if not keep:
        await database_page.write(world.connection, measured, payments, months)
    await world.close()
    return fine


def main() -> int:
    options = argparse.ArgumentParser(prog="make plans", description=__doc__)
    options.add_argument("--payments", type=int, default=200_000)
    options.add_argument("--months", type=int, default=120)
    options.add_argument("--keep", action="store_true", help="leave docs/database.md as it is")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="plans") as folder:
        with embedded.running(Path(folder) / "postgres") as cluster:
            work = measure(cluster.dsn, given.payments, given.months, keep=given.keep)
            return 0 if asyncio.run(work) else 1


if __name__ == "__main__":
    sys.exit(main())
