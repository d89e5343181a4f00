"""Authorizations that expire: after about thirty days the processor releases them.

The processor does not report that. So we ask about authorizations of that age, and at once about
one whose capture was refused. A week before, the merchant is told that one will expire.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.db.connections import LOST
from easypay.payments.resolver_rows import Case
from easypay.payments.store import TELL
from easypay.payments.time_slice import TimeSlice
from easypay.processors.base import (
    Account,
    Deadline,
    Declined,
    Found,
    InquiryRequest,
    Processor,
)

log = logging.getLogger(__name__)

EXPIRING: Final = "authorization.expiring"
_OLD: Final = timedelta(days=30)
_QUESTION_S: Final = 20.0
_FOR_S: Final = 15 * 24 * 3600.0
_LOOKS_BACK: Final = timedelta(days=30)
"""How far beyond the age limit the first sweep of a database goes back."""
_SLICES_EACH: Final = 4
_CLOSE: Final = timedelta(days=1)
"""Ids that were made together differ by less, whatever the clocks."""

_EXPIRE: Final = """
    WITH expired AS (
        UPDATE payments SET status = 'expired', version = version + 1, updated_at = $4
         WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND status = 'authorized'
           AND active_operation IS NULL
        RETURNING merchant_id, id, mode, amount_minor, currency
    )
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,
        amount_minor, currency, created_at)
    SELECT merchant_id, $5, id, $6, mode, 'payment.expired', 'expired', amount_minor, currency, $4
      FROM expired
"""
_REMIND_AFTER: Final = timedelta(days=23)
_AUTHORIZED: Final = """\
o.id >= $1 AND o.id < $2 AND o.kind = 'authorize' AND o.state IN ('approved', 'held')
       AND p.status = 'authorized'"""
# An authorization that a reviewer approved keeps the state `held`. A payment of an older version
# does not store its account: use the one saved last. A payment and its authorization are begun
# together, so their ids lie close: the bounds leave other months alone.
_SWEEP: Final = f"""
    INSERT INTO watched_operations
        (merchant_id, operation_id, payment_id, account, purpose, since, until, next_look_at)
    SELECT o.merchant_id, o.id, o.payment_id, l.account, 'expiry', db_now(),
           db_now() + make_interval(secs => $3), db_now()
      FROM operations o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
      CROSS JOIN LATERAL (
        SELECT account FROM processor_logins l
         WHERE l.merchant_id = p.merchant_id AND l.mode = p.mode AND l.processor = p.processor
           AND l.id = coalesce(p.login_id, l.id)
         ORDER BY l.saved_at DESC LIMIT 1) l
     WHERE {_AUTHORIZED} AND p.id >= $4 AND p.id < $5
    ON CONFLICT DO NOTHING
"""
_EXPIRING: Final = f"""
    SELECT o.merchant_id, o.payment_id, o.id, o.mode, p.status, p.authorized_minor, p.currency
      FROM operations o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
     WHERE {_AUTHORIZED} AND p.id >= $3 AND p.id < $4
"""
# Each authorization's payment is looked up by its key: others of those days are not read.
_BY_KEY: Final = """
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_seqscan', 'off', true)
"""
# The row is held until the events are committed, so each is told once. Nobody waits for it.
_REMINDED: Final = "SELECT expiring_told_below, db_now() FROM sweeps FOR UPDATE SKIP LOCKED"
_REMIND_BELOW: Final = "UPDATE sweeps SET expiring_told_below = $1"
_MOVE_ON: Final = """
    UPDATE sweeps SET authorizations_below = $1 WHERE only_row =
        (SELECT only_row FROM sweeps WHERE authorizations_below < $1 FOR UPDATE SKIP LOCKED)
"""
_WATCH_NOW: Final = """
    INSERT INTO watched_operations
        (merchant_id, operation_id, payment_id, account, purpose, since, until, next_look_at)
    SELECT o.merchant_id, o.id, o.payment_id, l.account, 'expiry', db_now(), db_now(), db_now()
      FROM operations o
      CROSS JOIN LATERAL (
        SELECT account FROM processor_logins l
         WHERE l.merchant_id = o.merchant_id AND l.mode = o.mode AND l.processor = $4
           AND l.id = coalesce($3, l.id)
         ORDER BY l.saved_at DESC LIMIT 1) l
     WHERE o.merchant_id = $1 AND o.payment_id = $2 AND o.kind = 'authorize'
       AND o.id >= $5 AND o.id < $6 AND o.state IN ('approved', 'held')
    ON CONFLICT (merchant_id, operation_id) DO UPDATE SET next_look_at = excluded.next_look_at
      WHERE watched_operations.purpose = 'expiry'
"""


async def look(pool: Any, processor: Processor, case: Case, account: Account) -> bool:
    """Ask about one old authorization. Returns whether its watch may end."""
    if case.status != "authorized":
        return True
    if case.active_operation is not None or case.transaction_id is None:
        return False
    finding = await processor.inquire(
        InquiryRequest(
            account=account,
            kind="review",  # asks for the transaction's own details
            reference=case.reference,
            amount_minor=case.amount_minor,
            currency=case.currency,
            transaction_id=case.transaction_id,
            sent_at_ms=int(case.begun_at.timestamp() * 1000),
        ),
        Deadline(monotonic() + _QUESTION_S),
    )
    if not isinstance(finding, Found) or not isinstance(finding.outcome, Declined):
        return False
    if finding.outcome.undecided != "expired":
        return False
    await pool.execute(
        _EXPIRE,
        case.merchant_id,
        case.mode,
        case.payment_id,
        clock.now(),
        ids.new_id(),
        case.operation_id,
    )
    log.info("authorization %s has expired: %s", case.reference, finding.evidence)
    return True


class Sweep:
    """Finds old authorizations, some slices of time in each step."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._slice = TimeSlice(
            timedelta(hours=1),
            shortest=timedelta(minutes=1),
            longest=timedelta(days=10),
            quick_s=0.2,
            slow_s=0.2,
        )

    async def step(self) -> None:
        """Watch the old authorizations of the next slices. Processes take turns."""
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(
                "SELECT pg_try_advisory_xact_lock(hashtext('easypay expiry'))"
            ):
                return
            low, now = await connection.fetchrow(
                "SELECT authorizations_below, db_now() FROM sweeps"
            )
            ends = now - _OLD
            start = max(ids.moment_of(low), ends - _LOOKS_BACK)
            for _ in range(_SLICES_EACH):
                high = min(start + self._slice.length, ends)
                with self._slice.adapted():
                    await connection.execute(
                        _SWEEP,
                        *(ids.lowest_id_at(start), ids.lowest_id_at(high), _FOR_S),
                        ids.lowest_id_at(start - _CLOSE),
                        ids.lowest_id_at(high + _CLOSE),
                    )
                start = high
                if start >= ends:
                    break
            await connection.execute(_MOVE_ON, ids.lowest_id_at(start))


class Reminders:
    """Tells merchants of authorizations that expire soon, some slices of time in each step."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._slice = TimeSlice(
            timedelta(hours=1),
            shortest=timedelta(minutes=1),
            longest=timedelta(hours=12),
            quick_s=0.1,
            slow_s=0.2,
        )

    async def step(self) -> int:
        """Write `authorization.expiring` for those of the next slices. Return how many. Processes
        take turns."""
        told = 0
        for _ in range(_SLICES_EACH):
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(_REMINDED)
                if row is None:
                    break
                ends = row[1] - _REMIND_AFTER
                start = max(ids.moment_of(row[0]), row[1] - _OLD)
                high = min(start + self._slice.length, ends)
                if start >= high:
                    break
                with self._slice.adapted():
                    told += await self._tell(connection, start, high)
                await connection.execute(_REMIND_BELOW, ids.lowest_id_at(high))
            if high == ends:
                break
        return told

    async def _tell(self, connection: Any, start: datetime, high: datetime) -> int:
        await connection.execute(_BY_KEY)
        rows = await connection.fetch(
            _EXPIRING,
            *(ids.lowest_id_at(start), ids.lowest_id_at(high)),
            *(ids.lowest_id_at(start - _CLOSE), ids.lowest_id_at(high + _CLOSE)),
        )
        return await _remind(connection, rows)


async def _remind(connection: Any, rows: Iterable[Any]) -> int:
    at = clock.now()
    events = [
        (merchant_id, ids.new_id(), payment_id, operation_id, mode, EXPIRING, *rest, at)
        for merchant_id, payment_id, operation_id, mode, *rest in map(tuple, rows)
    ]
    if events:
        await connection.execute(TELL, *(list(each) for each in zip(*events, strict=True)))
    return len(events)


async def remind_now(connection: Any, payment_id: UUID) -> None:
    """Tell a merchant now of one authorization, whatever its age: for trials."""
    begun = ids.moment_of(payment_id)
    bounds = ids.lowest_id_at(begun - _CLOSE), ids.lowest_id_at(begun + _CLOSE)
    rows = await connection.fetch(f"{_EXPIRING} AND p.id = $5", *bounds, *bounds, payment_id)
    await _remind(connection, rows)


async def ask_soon(pool: Any, payment: Any) -> None:
    """Make an inquiry due about an authorization whose capture the processor refused."""
    try:
        begun = ids.moment_of(payment.id)
        await pool.execute(
            _WATCH_NOW,
            *(payment.merchant_id, payment.id, payment.login_id, payment.processor),
            ids.lowest_id_at(begun - _CLOSE),
            ids.lowest_id_at(begun + _CLOSE),
        )
    except (*LOST, asyncpg.PostgresError) as error:  # the merchant still gets the reply
        log.warning("an authorization is not asked about: %s: %s", type(error).__name__, error)
