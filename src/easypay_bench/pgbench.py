"""What the database alone can do: pgbench runs the gateway's own two statements, one payment at a
time, each a durable commit. The gateway is compared with its best rate over several client counts.

The statements are the gateway's text. Their one argument, the array of a group, holds one row,
written out, with ids that differ from payment to payment and grow with time as ours do.
"""

import asyncio
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import msgspec

from easypay import clock, ids
from easypay.db import partitions, postgres_binaries
from easypay.merchants.model import Caller
from easypay.mode import Mode
from easypay.payments import statements
from easypay.payments.begin import Ask, new_payment
from easypay.payments.outcome_changes import decide
from easypay.payments.requests import CreatePayment
from easypay.processors.base import Approved
from easypay_bench.http_calls import StackFailed
from easypay_bench.loadtest.scenarios import ADDRESS, CARD
from easypay_bench.stack import Stack

CLIENTS: Final = (1, 4, 8, 16, 32, 64)
_GROUP: Final = re.compile(r"\$1::(\w+)\[\]")
_TPS: Final = re.compile(r"tps = ([0-9.]+) \(without initial connection time\)")
_FAILED: Final = re.compile(r"number of failed transactions: ([0-9]+)")


class Rate(msgspec.Struct, frozen=True):
    """Payments per second by `clients`, and PostgreSQL's CPU for each, in microseconds."""

    clients: int
    payments_per_s: float
    postgres_us: float


def measure(stack: Stack, *, seconds: float, clients: Sequence[int] = CLIENTS) -> list[Rate]:
    """Return one rate for each number of clients. Raises StackFailed if pgbench cannot run."""
    program = _program()
    merchant_id = uuid4()
    text = script(asyncio.run(_month(stack.database_url)), merchant_id)
    meter = stack.meter()
    rates = []
    with tempfile.TemporaryDirectory(prefix="easypay-pgbench-") as directory:
        path = Path(directory) / "payment.sql"
        path.write_text(text)
        for number, count in enumerate(clients):
            before = meter.read()["postgres"]
            output = _run(program, path, stack.database_url, count, seconds, run=number)
            spent_s = meter.read()["postgres"] - before
            found, failed = _TPS.search(output), _FAILED.search(output)
            if found is None or (failed is not None and failed[1] != "0"):
                raise StackFailed(f"pgbench: {output.strip()[-400:]}")
            rate = float(found[1])
            rates.append(Rate(count, rate, spent_s * 1e6 / (rate * seconds)))
    asyncio.run(_check(stack.database_url, merchant_id))
    return rates


def best(rates: Sequence[Rate]) -> Rate:
    """Return the highest rate, for whichever number of clients."""
    return max(rates, key=lambda rate: rate.payments_per_s)


def _program() -> Path:
    path = postgres_binaries.find().postgres.with_name("pgbench")
    if not path.exists():
        raise StackFailed(f"there is no pgbench beside PostgreSQL ({path.parent})")
    return path


def _run(program: Path, script: Path, dsn: str, clients: int, seconds: float, *, run: int) -> str:
    environment, database = _connection(dsn)
    # Each run and client counts from a time of its own, so ids never collide.
    base_ms = int(time.time() * 1000)
    command = [
        str(program), "--no-vacuum", "--protocol=prepared", f"--client={clients}", "--jobs=1",
        f"--time={max(1, round(seconds))}", f"--file={script}", "--define=n=0",
        f"--define=base={base_ms}", f"--define=run={run}", database,
    ]  # fmt: skip
    done = subprocess.run(  # noqa: S603 - our own command line
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=seconds + 60,
    )
    return done.stdout + done.stderr


def _connection(dsn: str) -> tuple[dict[str, str], str]:
    """Return libpq's variables for a DSN, so that no password is on a command line."""
    parts = urlsplit(dsn)
    query = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
    host = parts.hostname or query.get("host", "").replace("%2F", "/") or "127.0.0.1"
    variables = {
        "PGHOST": host,
        "PGPORT": str(parts.port or query.get("port", "5432")),
        "PGUSER": parts.username or query.get("user", "postgres"),
    }
    if parts.password:
        variables["PGPASSWORD"] = parts.password
    return variables, parts.path.lstrip("/") or "postgres"


async def _month(dsn: str) -> str:
    months = partitions.Months()
    connection = await asyncpg.connect(dsn)
    try:
        await months.load(connection)
    finally:
        await connection.close()
    return months.of(ids.new_id())


async def _check(dsn: str, merchant_id: UUID) -> None:
    """Check that both statements worked for every payment; otherwise the rate means nothing."""
    connection = await asyncpg.connect(dsn)
    try:
        taken, captured = await connection.fetchrow(
            "SELECT count(*), count(*) FILTER (WHERE status = 'captured') FROM payments"
            " WHERE merchant_id = $1",
            merchant_id,
        )
    finally:
        await connection.close()
    # A transaction that was running at the end may have begun and not recorded.
    if not taken or taken - captured > max(CLIENTS) * len(CLIENTS):
        raise StackFailed(f"pgbench began {taken} payments and recorded {captured}")


def script(month: str, merchant_id: UUID) -> str:
    """Return pgbench's script for one payment on the tables of a month (`_2026_11`)."""
    begin, record = _rows(merchant_id)
    return (
        "\\set n :n + 1\n"
        f"{_statement(statements.BEGIN_PAYMENTS, '', begin)};\n"
        f"{_statement(statements.RECORD, f'{month} {month}', record)};\n"
    )


def _statement(sql: str, variant: str, row: str) -> str:
    text = statements.in_months(sql, variant)
    text = _GROUP.sub(lambda found: f"ARRAY[ROW({row})::{found[1]}]", text)
    return "\n".join(line for line in text.splitlines() if line.strip())


def _rows(merchant_id: UUID) -> tuple[str, str]:
    """Return the row to begin with and the row to record, as SQL."""
    at = clock.now()
    caller = Caller(
        merchant_id=merchant_id,
        mode=Mode.TEST,
        key_id=uuid4(),
        scopes=frozenset(),
        currencies=frozenset({"USD"}),
        allow_raw_cards=True,
        expires_at=None,
        login=None,
    )
    body = msgspec.convert(
        {
            "amount": 2500,
            "currency": "USD",
            "payment_method": CARD,
            "order_reference": "order-1",
            "billing_address": ADDRESS,
        },
        CreatePayment,
    )
    ask = Ask(caller, "KEY", bytes(32))
    new = new_payment(ask, body, "authorize_net", lambda number: bytes(32), at)
    approved = Approved(
        transaction_id="60000000001",
        amount_minor=2500,
        auth_code="ABC123",
        avs_result="Y",
        cvv_result="M",
        code="1",
        message="This transaction has been approved.",
        network_transaction_id="0123456789ABCDEFGHIJKLM",
    )
    change = decide(
        new.operation, new.payment, approved, at=at, first_inquiry_s=5, processor_us=500
    )
    varying = {new.payment.id: _id(1), new.operation.id: _id(2), change.event_id: _id(3)}
    ((begin,),) = statements.begin_payments_arguments([new])
    ((record,),) = statements.record_arguments([change])
    return (
        _literals(zip(statements.INTENT_FIELDS, begin, strict=True), varying),
        _literals(zip(statements.CHANGE_FIELDS, record, strict=True), varying),
    )


def _id(kind: int) -> str:
    """Return the UUIDv7 of a client's payment n: its time, then what makes it unique."""
    return (
        "(lpad(to_hex((:base)::bigint + (:n)::bigint), 12, '0') || '7000'"
        " || lpad(to_hex(32768 + (:client_id)::int), 4, '0')"
        f" || lpad(to_hex((:run)::bigint * 16 + {kind}), 12, '0'))::uuid"
    )


def _literals(row: Iterable[tuple[str, Any]], varying: Mapping[Any, str]) -> str:
    return ", ".join(_literal(name, value, varying) for name, value in row)


def _literal(name: str, value: Any, varying: Mapping[Any, str]) -> str:
    if name in ("key", "reference"):  # a UUID's text is as long as our keys; a reference has 20
        length = 20 if name == "reference" else 36
        return f"right({_id(2)}::text, {length})"
    if isinstance(value, UUID):
        return varying.get(value, f"'{value}'::uuid")
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, datetime):
        return "now()"
    if isinstance(value, tuple):
        return f"'{{{','.join(value)}}}'::text[]"
    # pgbench would read a colon as the start of a variable.
    escaped = str(value).replace("\\", "\\\\").replace("'", "''").replace(":", "\\x3a")
    return f"E'{escaped}'"
