"""Measure what the check for duplicates costs PostgreSQL for each payment: CPU time and WAL.

    python -m easypay_bench.duplicates_cost --seconds 20

It begins groups of payments with the check off and on in turn, on an embedded server, so that both
meet the same machine. No HTTP and no processor: only the begin differs. Times need a machine that
does nothing else; WAL and the order of magnitude do not.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import msgspec

from easypay import clock
from easypay.db import embedded, migrate, partitions
from easypay.db.connections import Lane
from easypay.merchants.model import Caller
from easypay.mode import Mode
from easypay.payments import statements
from easypay.payments.begin import Ask, new_payment
from easypay.payments.duplicates import BEGIN_CHECKED, CheckedPayment, checked_payment
from easypay.payments.requests import CreatePayment
from easypay_bench import cpu
from easypay_bench.loadtest.scenarios import ADDRESS, CARD

SIZES: Final = (1, 8, 32, 64)
"""Payments in a group. A gateway under load makes groups of 8 to 64."""


@dataclass
class Side:
    """The begin with the check off, or on."""

    lane: Lane
    pid: int = 0
    variant: str = ""
    cpu_us: dict[int, list[float]] = field(default_factory=dict)
    """By the group's size: the server's CPU for each payment, microseconds."""
    wal_bytes: int = 0
    payments: int = 0

    def usual_us(self, size: int) -> float:
        """Return the lower quartile: what disturbs a run only makes it slower."""
        return quantiles(self.cpu_us[size], n=4)[0]


def _group(merchant_id: UUID, size: int, at: float) -> list[CheckedPayment]:
    caller = Caller(
        merchant_id, Mode.TEST, merchant_id, frozenset(), frozenset(), True, None, None,
        duplicates="reject",
    )  # fmt: skip
    made = []
    for number in range(size):
        sale = {
            "amount": 2500, "currency": "USD", "payment_method": CARD,
            "order_reference": f"order-{at}-{number}", "billing_address": ADDRESS,
        }  # fmt: skip
        ask = Ask(caller, str(uuid4()), bytes(32))
        body = msgspec.convert(sale, CreatePayment)
        new = new_payment(ask, body, "authorize_net", lambda number: bytes(32), clock.now())
        checked = checked_payment(ask, new)
        assert checked is not None
        made.append(checked)
    return made


def _arguments(group: Sequence[CheckedPayment], *, on: bool) -> Sequence[object]:
    if on:
        return BEGIN_CHECKED.arguments(sorted(group, key=BEGIN_CHECKED.order))
    new = sorted((item.new for item in group), key=statements.BEGIN.order)
    return statements.BEGIN.arguments(new)


async def measured(dsn: str, seconds: float) -> tuple[Side, Side]:
    """Return the begin with the check off and on, each measured for half of the time."""
    sides = (
        Side(statements.lane(statements.BEGIN, dsn)), Side(statements.lane(BEGIN_CHECKED, dsn)),
    )  # fmt: skip
    connection = await asyncpg.connect(dsn)
    months = partitions.Months()
    await partitions.ensure(connection, months_ahead=1)
    await months.load(connection)
    await _open(connection, sides)
    merchant_id, ends, rounds = uuid4(), time.perf_counter() + seconds, 0
    while time.perf_counter() < ends:
        size = SIZES[rounds % len(SIZES)]
        rounds += 1
        for on, side in enumerate(sides):
            group = _group(merchant_id, size, time.perf_counter())
            if on:
                side.variant = " ".join(map(months.of, BEGIN_CHECKED.months(group[0])))
            wal, used = await _wal(connection), cpu.process_s(side.pid)
            await side.lane.fetch(_arguments(group, on=bool(on)), side.variant)
            side.cpu_us.setdefault(size, []).append((cpu.process_s(side.pid) - used) / size * 1e6)
            side.wal_bytes += await _wal(connection) - wal
            side.payments += size
    for side in sides:
        await side.lane.close()
    await connection.close()
    return sides


async def _open(connection: Any, sides: Sequence[Side]) -> None:
    for side in sides:
        before = await _backends(connection)
        await side.lane.open()
        (side.pid,) = await _backends(connection) - before


async def _backends(connection: Any) -> set[int]:
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'easypay begin%'"
    )
    return {row["pid"] for row in rows}


async def _wal(connection: Any) -> int:
    position: int = await connection.fetchval("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8")
    return position


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20.0, help="how long to measure")
    asked = options.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="easypay-bench-") as directory:
        with embedded.running(Path(directory)) as cluster:
            asyncio.run(migrate.migrate(cluster.dsn))
            off, on = asyncio.run(measured(cluster.dsn, asked.seconds))
    lines = [
        "PostgreSQL for each payment begun; CPU in us, lower quartile",
        " group    off     on   more",
    ]
    for size in SIZES:
        before, after = off.usual_us(size), on.usual_us(size)
        lines.append(f"{size:6d} {before:6.1f} {after:6.1f} {after - before:6.1f}")
    wal = (off.wal_bytes / off.payments, on.wal_bytes / on.payments)
    lines.append(f"   WAL {wal[0]:6.0f} {wal[1]:6.0f} {wal[1] - wal[0]:6.0f}  bytes")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
