"""An old month with payments of every kind, and values that are hard to write to a file."""

import json
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from easypay import clock, ids
from easypay.db import partitions
from easypay.events import numbering

AGE_MONTHS: Final = 9
NASTY: Final = (
    None,
    "",
    '"',
    ",",
    "\n",
    "\r\n",
    "\\N",
    "\\.",
    "-",
    "=1:-,=",
    " lead and trail ",
    "naïve ✓ \U0001f9fe",
    'a "quoted", line\nand "another"',
    "x" * 20_000,
)
"""Texts that a careless reader or writer of CSV changes."""
MERCHANTS: Final = tuple(UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + n) for n in (1, 2))


def start(months_ago: int = AGE_MONTHS) -> datetime:
    """Return the first instant of an old month."""
    return partitions.month_start(clock.now(), -months_ago)


def id_in(month: datetime, number: int) -> UUID:
    """Return the same id each time: the `number`th minute of a month."""
    at = ids.lowest_id_at(month + timedelta(minutes=number))
    return UUID(int=at.int | 7 << 76 | 2 << 62 | number)


async def make_tables(connection: Any, month: datetime) -> None:
    """Make the tables of a month and of the next."""
    await partitions.ensure(connection, at=month, months_ahead=1)


_PAYMENT: Final = """
    INSERT INTO payments (merchant_id, id, mode, status, amount_minor, authorized_minor,
        captured_minor, refunded_minor, version, currency, capture, method_type, card_last4,
        card_fingerprint, processor, description, statement_descriptor, customer, metadata,
        created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 2, $9, 'automatic', 'card', '1111', $10,
        'authorize_net', $11, $12, $13, $14, $15, $15)
"""
_OPERATION: Final = """
    INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor, currency,
        reference, processor_message, evidence, processor_us, reply_status, reply_body, voided,
        begun_at, finished_at)
    VALUES ($1, $2, $3, $4, 'sale', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
"""
_EVENT: Final = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    VALUES ($1, $2, $3, $4, $5, 'payment.' || $6, $6, $7, $8, $9)
"""
_KINDS: Final = (
    ("captured", 2500, 0),
    ("captured", 9900, 9900),
    ("declined", 0, 0),
    ("failed", 0, 0),
    ("voided", 0, 0),
    ("expired", 0, 0),
)
"""Status, captured and refunded amount."""


async def fill(connection: Any, month: datetime, *, payments: int = 60) -> None:
    """Write closed payments of two merchants, each with an operation and an event."""
    rows: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for number in range(payments):
        status, captured, refunded = _KINDS[number % len(_KINDS)]
        merchant, mode = MERCHANTS[number % 2], ("test", "live")[number // 2 % 2]
        payment, operation = id_in(month, number), id_in(month, number + 10_000)
        at = month + timedelta(minutes=number, microseconds=number * 100_001)
        text, other = NASTY[number % len(NASTY)], NASTY[number * 5 % len(NASTY)]
        currency = ("USD", "EUR")[number % 3 == 0]
        metadata = None if number % 4 == 0 else json.dumps({"note": text, "n": number})
        rows[0].append(
            (
                *(merchant, payment, mode, status, captured or 1000, captured, captured, refunded),
                *(currency, bytes([number % 256, 0, 255]) * 9, text, other, metadata, "{}", at),
            )
        )
        body = None if number % 5 == 0 else bytes(range(256)) * (number % 3)
        state = "approved" if captured else "declined"
        rows[1].append(
            (
                *(merchant, operation, payment, mode, state, captured or 1000, currency),
                *(ids.reference(operation), other, '{"found": []}' if number % 2 else None, number),
                *(None if body is None else 201, body, number % 2 == 0, at),
            )
        )
        rows[2].append(
            (
                *(merchant, id_in(month, number + 20_000), payment, operation, mode, status),
                *(captured, currency, at),
            )
        )
    for statement, lines in zip((_PAYMENT, _OPERATION, _EVENT), rows, strict=True):
        await connection.executemany(statement, lines)


async def number_events(connection: Any) -> None:
    """Number all events for the feed, and let its readers follow, as a gateway does."""
    for mark in await numbering.marks(connection):
        await numbering.adopt(connection, mark)
    await connection.execute("UPDATE feed_readers SET last_seq = (SELECT last_seq FROM feed_head)")


_POINTER: Final = "'{merchant}', '{operation}', '{payment}'"
OPEN_WORK: Final = {
    "open_operations": "UPDATE operations SET state = 'unknown' WHERE id = '{operation}'",
    "unresolved": (
        "INSERT INTO unresolved_operations (merchant_id, operation_id, payment_id, since,"
        f" next_inquiry_at) VALUES ({_POINTER}, now(), now())"
    ),
    "watched": (
        "INSERT INTO watched_operations (merchant_id, operation_id, payment_id, account, purpose,"
        f" since, until, next_look_at) VALUES ({_POINTER}, '', 'absent', now(), now(), now())"
    ),
    "open_late_charges": (
        "INSERT INTO late_charges (merchant_id, operation_id, payment_id, mode, kind,"
        " transaction_id, amount_minor, currency, state, evidence, found_at, changed_at)"
        f" VALUES ({_POINTER}, 'test', 'sale', '1', 1, 'USD', 'needs_person', '', now(), now())"
    ),
    "live_keys": (
        "INSERT INTO idempotency_keys (merchant_id, operation_id, payment_id, mode, key,"
        f" fingerprint, created_at) VALUES ({_POINTER}, 'test', 'k', sha256('x'),"
        " now() - interval '29 days')"
    ),
}
"""What keeps an old month as it is: one statement for each kind, with places for ids."""
