"""Notifications as rows: stored once, looked up, and what is made due by them. SQL only.

Every function takes an asyncpg pool or connection. All times are the database's.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import clock, ids
from easypay.db.partitions import within_months
from easypay.db.work_list import WorkList
from easypay.notifications.model import Known
from easypay.payments.model import KIND, STATE, STATUS
from easypay.payments.statements import Statement
from easypay.processors.notifications import Notification

Runner = Any

NOTIFICATIONS: Final = WorkList(
    "notification_work",
    key=(("account", "bytea"), ("notification_id", "text")),
    payload=("happened", "reference", "charge_reference"),
)
"""The work list of notifications that are to be followed."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """A notification and whose it is."""

    account: bytes
    notification: Notification


_STORE: Final = """
    WITH input AS (
        SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[],
                             $6::text[], $7::text[], $8::timestamptz[])
            AS i(account, notification_id, event_type, transaction_id, happened, reference,
                 charge_reference, told_at)
    ), new AS (
        INSERT INTO notifications
            (account, notification_id, event_type, transaction_id, reference, told_at)
        SELECT account, notification_id, event_type, transaction_id,
               coalesce(charge_reference, reference), told_at
          FROM input
        ON CONFLICT DO NOTHING
        RETURNING account, notification_id
    ), work AS (
        INSERT INTO notification_work
            (account, notification_id, happened, reference, charge_reference, due_at)
        SELECT account, notification_id, happened, reference, charge_reference, db_now()
          FROM input JOIN new USING (account, notification_id)
    )
    SELECT account, notification_id FROM new
"""


def _arguments(items: Sequence[Told]) -> Sequence[object]:
    rows = [
        (
            *(told.account, each.id, each.event_type, each.transaction_id),
            *(each.happened, each.reference, each.charge_reference, each.at),
        )
        for told in items
        for each in (told.notification,)
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _results(items: Sequence[Told], rows: list[asyncpg.Record]) -> Sequence[bool]:
    new = {(row[0], row[1]) for row in rows}
    return [(told.account, told.notification.id) in new for told in items]


STORE: Final = Statement[Told, bool](
    "notifications",
    _STORE,
    _arguments,
    _results,
    order=lambda told: (told.account, told.notification.id),
    touches=lambda told: ((told.account, told.notification.id),),
    months=lambda told: (),  # it only inserts
)
"""Stores a notification and lists it as work. False: it was stored before."""


# follow ------------------------------------------------------------------------------------------

_SKEW: Final = timedelta(days=1)
"""Clocks of two hosts differ by less than this."""
# LIMIT keeps each look-up by the whole key apart.
_FIND: Final = """
    SELECT o.merchant_id, o.id, o.payment_id, o.mode, o.kind, o.state, o.voided,
           o.begun_at < db_now() - make_interval(secs => $4)
      FROM (SELECT DISTINCT merchant_id FROM processor_logins WHERE account = $1) AS l
     CROSS JOIN LATERAL (SELECT * FROM operations o WHERE o.merchant_id = l.merchant_id
                            AND o.id BETWEEN $2 AND $3 AND {months} LIMIT 1) AS o
     LIMIT 1
"""
_PAYMENT: Final = """
    SELECT status, captured_minor, active_operation FROM payments
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND {months}
"""


async def find(
    runner: Runner, account: bytes, reference: str, *, abandoned_after_s: float
) -> Known | None:
    """Return our operation with a reference, as it is now; None if no merchant of the account has
    one."""
    bounds = ids.own_reference_bounds(reference, clock.now() + _SKEW)
    if bounds is None:
        return None
    low, high = bounds
    found = await runner.fetchrow(
        _FIND.format(months=within_months("o.id", [low])), account, low, high, abandoned_after_s
    )
    if found is None:
        return None
    merchant_id, operation_id, payment_id, mode, kind, state, voided, abandoned = found
    payment = await runner.fetchrow(
        _PAYMENT.format(months=within_months("id", [payment_id])), merchant_id, mode, payment_id
    )
    if payment is None:
        return None  # its month was archived just now
    return Known(
        merchant_id=merchant_id,
        operation_id=operation_id,
        payment_id=payment_id,
        kind=KIND[kind],
        state=STATE[state],
        voided=voided,
        status=STATUS[payment["status"]],
        captured_minor=payment["captured_minor"],
        active_operation=payment["active_operation"],
        abandoned=abandoned,
    )


# An operation that is being sent is left alone: its own answer is on the way.
_ASK_NOW: Final = """
    INSERT INTO unresolved_operations AS u
        (merchant_id, operation_id, payment_id, since, next_inquiry_at, held)
    SELECT merchant_id, id, payment_id, db_now(), db_now(), state = 'held' FROM operations
     WHERE merchant_id = $1 AND id = $2 AND {months}
       AND (state IN ('unknown', 'held')
            OR state = 'in_flight' AND begun_at < db_now() - make_interval(secs => $3))
    ON CONFLICT (merchant_id, operation_id) DO UPDATE SET next_inquiry_at = excluded.next_inquiry_at
      WHERE u.next_inquiry_at > excluded.next_inquiry_at
"""


async def ask_now(runner: Runner, known: Known, *, abandoned_after_s: float) -> None:
    """Make the inquiry about an operation due now, if its outcome is open and no answer to its call
    is on the way."""
    await runner.execute(
        _ASK_NOW.format(months=within_months("id", [known.operation_id])),
        *(known.merchant_id, known.operation_id, abandoned_after_s),
    )


_READ_SOON: Final = """
    UPDATE account_books
       SET wanted_at = greatest(db_now(), last_started_at + interval '5 minutes')
     WHERE account = $1
       AND (wanted_at IS NULL OR wanted_at <= coalesce(last_started_at, '-infinity'))
"""


async def read_books_soon(runner: Runner, account: bytes) -> None:
    """Want the account's books to be read before their hour, once in five minutes at most."""
    await runner.execute(_READ_SOON, account)


_PURGE: Final = """
    DELETE FROM notifications WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM notifications
         WHERE received_at < db_now() - make_interval(days => $1) LIMIT $2))
"""
_KEEP_DAYS: Final = 14
"""A notification is told again for nine days at most."""
_BATCH: Final = 5_000


async def purge(runner: Runner) -> int:
    """Forget notifications that are not told again any more. Returns how many."""
    purged = 0
    while True:
        done = int((await runner.execute(_PURGE, _KEEP_DAYS, _BATCH)).split()[-1])
        purged += done
        if done < _BATCH:
            return purged


# watch -------------------------------------------------------------------------------------------


class Watched(msgspec.Struct, frozen=True):
    """An account whose webhook is to be looked at. `until`: the id of which no older operation
    waits for its notification any more."""

    account: bytes
    webhook_id: str
    url: str
    state: str
    looked_below: UUID
    until: UUID


# Of an account whose books are retired nobody wants to hear any more.
_IN_USE: Final = """NOT EXISTS (
        SELECT FROM account_books b WHERE b.account = w.account AND b.retired_at IS NOT NULL)"""
_CLAIM: Final = f"""
    UPDATE account_webhooks
       SET check_due_at = db_now() + make_interval(secs => $1)
     WHERE account = (SELECT account FROM account_webhooks w
                       WHERE check_due_at <= db_now() AND {_IN_USE}
                       ORDER BY check_due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING account, webhook_id, url, state, looked_below,
              lowest_id_at(db_now() - make_interval(secs => $2))
"""


async def claim_webhook(runner: Runner, *, every_s: float, patience_s: float) -> Watched | None:
    """Take the account that has waited longest for a look. Others then leave it alone for
    `every_s`. None if none is due."""
    row = await runner.fetchrow(_CLAIM, every_s, patience_s)
    return None if row is None else Watched(*row)


_UNTOLD: Final = """
    WITH looked AS MATERIALIZED (
        SELECT l.merchant_id, l.id AS login_id, o.*
          FROM processor_logins l
         CROSS JOIN LATERAL (
               SELECT o.mode, o.payment_id, o.reference FROM operations o
                WHERE o.merchant_id = l.merchant_id AND o.id >= $2 AND o.id < $3 AND {months}
                  AND o.mode = l.mode AND o.kind IN ('authorize', 'sale')
                  AND o.state IN ('approved', 'held')
                ORDER BY o.id LIMIT $4) AS o
         WHERE l.account = $1
    )
    SELECT merchant_id, mode, payment_id, login_id, reference, (SELECT count(*) FROM looked)
      FROM (SELECT 1) AS one
      LEFT JOIN looked ON NOT EXISTS (
            SELECT FROM notifications n WHERE n.account = $1 AND n.reference = looked.reference)
"""
# A merchant may have used another account at that time.
_OF_ACCOUNT: Final = """
    SELECT u.reference FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[])
           AS u(merchant_id, mode, payment_id, login_id, reference)
     CROSS JOIN LATERAL (SELECT p.login_id FROM payments p
                          WHERE p.merchant_id = u.merchant_id AND p.mode = u.mode
                            AND p.id = u.payment_id AND {months} LIMIT 1) AS p
     WHERE p.login_id = u.login_id ORDER BY u.reference
"""
_CHECKED: Final = """
    UPDATE account_webhooks
       SET state = $2, checked_at = db_now(), looked_below = greatest(looked_below, $3),
           looked_at = looked_at + $4, missed = missed + $5
     WHERE account = $1
"""


async def missed(runner: Runner, watched: Watched, most: int) -> tuple[int, list[str]]:
    """Look at charges since the last look, at most `most` of each merchant. Return how many there
    were, and the references of those of which nothing was told."""
    if watched.until <= watched.looked_below:
        return 0, []
    months = within_months("o.id", [watched.looked_below, watched.until])
    rows = await runner.fetch(
        _UNTOLD.format(months=months), watched.account, watched.looked_below, watched.until, most
    )
    looked: int = rows[0][5]
    untold = [tuple(row)[:5] for row in rows if row[0] is not None]
    if not untold:
        return looked, []
    columns = [list(column) for column in zip(*untold, strict=True)]
    months = within_months("p.id", columns[2])
    found = await runner.fetch(_OF_ACCOUNT.format(months=months), *columns)
    return looked - len(untold) + len(found), [row[0] for row in found]


async def checked(runner: Runner, watched: Watched, state: str, looked: int, missed: int) -> None:
    """Record what a look has found."""
    await runner.execute(_CHECKED, watched.account, state, watched.until, looked, missed)


_REGISTERED: Final = """
    INSERT INTO account_webhooks (account, webhook_id, url, state, looked_below)
    VALUES ($1, $2, $3, $4, lowest_id_at(db_now()))
    ON CONFLICT (account) DO UPDATE
       SET webhook_id = excluded.webhook_id, url = excluded.url, state = excluded.state,
           check_due_at = db_now(),
           looked_below = CASE WHEN account_webhooks.state = 'active'
                               THEN account_webhooks.looked_below ELSE excluded.looked_below END
"""


async def registered(
    runner: Runner, account: bytes, webhook_id: str, url: str, *, active: bool
) -> None:
    """Record a webhook that was set up: from now on its notifications are expected."""
    state = "active" if active else "inactive"
    await runner.execute(_REGISTERED, account, webhook_id, url, state)


async def counts(runner: Runner) -> dict[str, int]:
    """Return how many accounts have a webhook in each state."""
    rows = await runner.fetch(
        f"SELECT state, count(*) FROM account_webhooks w WHERE {_IN_USE} GROUP BY 1"
    )
    return {row[0]: row[1] for row in rows}


class Registered(msgspec.Struct, frozen=True):
    """What is known of an account's webhook."""

    webhook_id: str
    url: str
    state: str
    registered_at: datetime
    checked_at: datetime | None
    looked_at: int
    missed: int


async def webhook_of(runner: Runner, account: bytes) -> Registered | None:
    """Return what is known of an account's webhook; None if none was set up."""
    row = await runner.fetchrow(
        "SELECT webhook_id, url, state, registered_at, checked_at, looked_at, missed"
        "  FROM account_webhooks WHERE account = $1",
        account,
    )
    return None if row is None else Registered(*row)
