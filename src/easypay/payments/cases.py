"""The resolver's work as rows: what is open or watched, by account. SQL only.

Every function takes an asyncpg pool or connection. All ages and due times are the database's.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from easypay.payments.model import (
    OPERATION_COLUMNS,
    PAYMENT_COLUMNS,
    Operation,
    Payment,
)

Runner = Any
Id = tuple[UUID, UUID]
"""A merchant's id and an operation's."""

STILL_OPEN: Final = frozenset({"in_flight", "unknown", "not_sent"})
"""States of an operation that has no outcome yet."""


class Case(msgspec.Struct, frozen=True, gc=False):
    """An operation that is open or watched, with what an inquiry needs to know of it."""

    merchant_id: UUID
    operation_id: UUID
    payment_id: UUID
    looks: int
    held: bool
    absent_from: datetime | None
    absent_to: datetime | None
    searched: list[str]
    purpose: str | None
    """Why it is watched: absent, return or expiry. None for what is open."""
    since: datetime
    until: datetime | None
    mode: str
    kind: str
    state: str
    reference: str
    amount_minor: int
    currency: str
    parent_transaction_id: str | None
    transaction_id: str | None
    begun_at: datetime
    captured_minor: int
    refunded_minor: int
    login_id: UUID | None
    status: str
    active_operation: UUID | None

    @property
    def id(self) -> Id:
        return self.merchant_id, self.operation_id


FRESH_LOOKS: Final = 4
"""After so many looks an operation is no longer fresh: see Lane."""


class Lane(NamedTuple):
    """An account's work is of two lanes, so that what is new never waits for what is old: for old
    calls the lists must be read far back."""

    account: bytes
    old: bool

    @property
    def lease(self) -> bytes:
        return self.account + b"old" if self.old else self.account


_JOINED: Final = """
       o.mode, o.kind, o.state, o.reference, o.amount_minor, o.currency,
       o.parent_transaction_id, o.transaction_id, o.begun_at,
       p.captured_minor, p.refunded_minor, p.login_id, p.status, p.active_operation
"""
# Each row by its whole key, whatever the planner thinks: of tables that nobody has analysed yet it
# would look through all of a merchant's payments for every operation. LIMIT keeps it from that.
_JOINS: Final = """
 CROSS JOIN LATERAL (SELECT * FROM operations o
                      WHERE o.merchant_id = u.merchant_id AND o.id = u.operation_id LIMIT 1) o
 CROSS JOIN LATERAL (SELECT * FROM payments p WHERE p.merchant_id = u.merchant_id
                        AND p.mode = o.mode AND p.id = u.payment_id LIMIT 1) p
"""
_OPEN: Final = f"""
SELECT u.merchant_id, u.operation_id, u.payment_id, u.inquiries, u.held, u.absent_from,
       u.absent_to, u.searched, NULL, u.since, NULL, {_JOINED}
  FROM (SELECT * FROM unresolved_operations
         WHERE account = $1 AND NOT not_sent AND next_inquiry_at <= db_now()
           AND (inquiries >= {FRESH_LOOKS}) = $3
         ORDER BY inquiries, next_inquiry_at LIMIT $2) u {_JOINS}
"""
_OPEN_OF_PAYMENT: Final = f"""
SELECT u.merchant_id, u.operation_id, u.payment_id, u.inquiries, u.held, u.absent_from,
       u.absent_to, u.searched, NULL, u.since, NULL, {_JOINED}
  FROM (SELECT * FROM unresolved_operations
         WHERE merchant_id = $1 AND payment_id = $2 AND NOT not_sent) u {_JOINS}
"""
_WATCHED: Final = f"""
SELECT u.merchant_id, u.operation_id, u.payment_id, u.looks, false, NULL, NULL, u.searched,
       u.purpose, u.since, u.until, {_JOINED}
  FROM (SELECT * FROM watched_operations WHERE account = $1 AND next_look_at <= db_now()
         ORDER BY next_look_at LIMIT $2) u {_JOINS}
"""


async def open_cases(runner: Runner, lane: Lane, limit: int) -> list[Case]:
    """What is open in a lane and due, new ones before repeats."""
    return [Case(*row) for row in await runner.fetch(_OPEN, lane.account, limit, lane.old)]


async def watched_cases(runner: Runner, lane: Lane, limit: int) -> list[Case]:
    """What is watched in a lane and due, oldest first. It is all old."""
    if not lane.old:
        return []
    return [Case(*row) for row in await runner.fetch(_WATCHED, lane.account, limit)]


async def cases_of_payment(runner: Runner, merchant_id: UUID, payment_id: UUID) -> list[Case]:
    """Every open operation of a payment that something may be asked about."""
    return [Case(*row) for row in await runner.fetch(_OPEN_OF_PAYMENT, merchant_id, payment_id)]


async def rows_of(runner: Runner, cases: Sequence[Case]) -> dict[Id, tuple[Operation, Payment]]:
    """The operations and payments of some cases, whole, as they are now."""
    merchants = [case.merchant_id for case in cases]
    operations = await runner.fetch(
        f"SELECT {OPERATION_COLUMNS} FROM operations WHERE (merchant_id, id) IN"
        " (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        merchants,
        [case.operation_id for case in cases],
    )
    payments = await runner.fetch(
        f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE (merchant_id, mode, id) IN"
        " (SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[]))",
        merchants,
        [case.mode for case in cases],
        [case.payment_id for case in cases],
    )
    by_id = {(row["merchant_id"], row["id"]): Payment(*row) for row in payments}
    found = [Operation(*row) for row in operations]
    return {
        (operation.merchant_id, operation.id): (
            operation,
            by_id[operation.merchant_id, operation.payment_id],
        )
        for operation in found
    }


# accounts ----------------------------------------------------------------------------------------

_FILL: Final = f"""
    UPDATE unresolved_operations w SET account = l.account
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u(merchant_id, operation_id, payment_id)
      {_JOINS}
      JOIN processor_logins l ON l.merchant_id = p.merchant_id AND l.id = p.login_id
     WHERE w.account IS NULL AND NOT w.not_sent
       AND w.merchant_id = u.merchant_id AND w.operation_id = u.operation_id
"""
_UNFILLED: Final = """
    SELECT merchant_id, operation_id, payment_id FROM unresolved_operations
     WHERE account IS NULL AND NOT not_sent LIMIT $1
"""
_WITHOUT_LOGIN: Final = f"""
    SELECT u.merchant_id, u.operation_id, o.mode
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS u(merchant_id, operation_id, payment_id)
      {_JOINS}
     WHERE NOT EXISTS (SELECT FROM processor_logins l
                        WHERE l.merchant_id = u.merchant_id AND l.id = p.login_id)
"""


async def fill_accounts(runner: Runner, limit: int) -> list[tuple[UUID, UUID, str]]:
    """Say of each new open operation whose lists tell of it: those of the account that took its
    payment.

    Returns (merchant, operation, mode) of those whose payment does not remember its account.
    """
    unfilled = await runner.fetch(_UNFILLED, limit)
    if not unfilled:
        return []
    ids = [[row[n] for row in unfilled] for n in range(3)]
    await runner.execute(_FILL, *ids)
    # Of these alone: there may be a hundred thousand more, which have not had their turn.
    return [tuple(row) for row in await runner.fetch(_WITHOUT_LOGIN, *ids)]


NO_ACCOUNT: Final = bytes(32)
"""Stands for the account of operations whose merchant has none."""


async def set_account(runner: Runner, of: Iterable[Id], account: bytes) -> None:
    """The account of operations whose payment does not remember it."""
    pairs = list(of)
    await runner.execute(
        "UPDATE unresolved_operations SET account = $3 WHERE account IS NULL"
        " AND (merchant_id, operation_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        [merchant for merchant, _ in pairs],
        [operation for _, operation in pairs],
        account,
    )


async def forget_account(runner: Runner, cases: Sequence[Case]) -> None:
    """Operations whose merchant has had no account: it is looked up again."""
    await runner.execute(
        "UPDATE unresolved_operations SET account = NULL WHERE account = $3"
        " AND (merchant_id, operation_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        [case.merchant_id for case in cases],
        [case.operation_id for case in cases],
        NO_ACCOUNT,
    )


_DUE: Final = f"""
    SELECT d.account, d.old FROM (
        SELECT account, inquiries >= {FRESH_LOOKS} AS old, min(next_inquiry_at) AS due
          FROM unresolved_operations
         WHERE account IS NOT NULL AND NOT not_sent AND next_inquiry_at <= db_now()
         GROUP BY 1, 2
         UNION ALL
        SELECT account, true, min(next_look_at) FROM watched_operations
         WHERE next_look_at <= db_now() GROUP BY 1
    ) d
      LEFT JOIN account_passes a ON a.leased_until > db_now()
       AND a.account = CASE WHEN d.old THEN d.account || 'old'::bytea ELSE d.account END
     WHERE a.account IS NULL
     GROUP BY 1, 2 ORDER BY min(d.due) LIMIT $1
"""
_LEASE: Final = """
    INSERT INTO account_passes AS a (account, leased_until, holder)
    VALUES ($1, db_now() + make_interval(secs => $3), $2)
    ON CONFLICT (account) DO UPDATE
        SET leased_until = excluded.leased_until, holder = excluded.holder
      WHERE a.leased_until <= db_now() OR a.holder = excluded.holder
    RETURNING true
"""


async def due_lanes(runner: Runner, limit: int) -> list[Lane]:
    """Lanes with something due that no process is at, the longest waiting first."""
    return [Lane(*row) for row in await runner.fetch(_DUE, limit)]


async def lease(runner: Runner, lane: Lane, holder: UUID, seconds: float) -> bool:
    """Take a lane for so long, or go on having it. False: another process has."""
    return bool(await runner.fetchval(_LEASE, lane.lease, holder, seconds))


async def release(runner: Runner, lane: Lane, holder: UUID) -> None:
    """Leave a lane to whoever comes next."""
    await runner.execute(
        "DELETE FROM account_passes WHERE account = $1 AND holder = $2", lane.lease, holder
    )


# witnesses ---------------------------------------------------------------------------------------

_MOST_WITNESSES: Final = 500
_KNOWN: Final = """
    WITH near AS (
        (SELECT o.* FROM operations o
          WHERE o.merchant_id = $1 AND o.id >= $2 ORDER BY o.id DESC LIMIT $4)
        UNION
        (SELECT o.* FROM operations o
          WHERE o.merchant_id = $1 AND o.id >= $2 ORDER BY o.id LIMIT $4)
    )
    SELECT max(o.begun_at) FROM near o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
      JOIN processor_logins l ON l.merchant_id = p.merchant_id AND l.id = p.login_id
     WHERE o.state = 'approved' AND NOT o.voided AND o.kind IN ('authorize', 'sale', 'refund')
       AND p.status <> 'voided' AND l.account = $3
"""
_LISTED: Final = """
    SELECT max(o.begun_at)
      FROM processor_logins l
      CROSS JOIN unnest($2::uuid[], $3::uuid[]) AS r(low, high)
      JOIN operations o ON o.merchant_id = l.merchant_id AND o.id BETWEEN r.low AND r.high
     WHERE l.account = $1 AND o.state = 'approved'
       AND o.kind IN ('authorize', 'sale', 'refund')
"""


async def newest_known(runner: Runner, account: bytes, after: UUID) -> datetime | None:
    """When the newest approved operation on an account began, of those with ids above `after`."""
    newest: datetime | None = None
    merchants = await runner.fetch(
        "SELECT DISTINCT merchant_id FROM processor_logins WHERE account = $1 LIMIT 50", account
    )
    for (merchant_id,) in merchants:
        found = await runner.fetchval(_KNOWN, merchant_id, after, account, _MOST_WITNESSES)
        if found is not None and (newest is None or found > newest):
            newest = found
    return newest


async def newest_listed(
    runner: Runner, account: bytes, bounds: Sequence[tuple[UUID, UUID]]
) -> datetime | None:
    """When the newest approved one of the operations began whose ids lie within these bounds."""
    if not bounds:
        return None
    found: datetime | None = await runner.fetchval(
        _LISTED, account, [low for low, _ in bounds], [high for _, high in bounds]
    )
    return found


# what became of it -------------------------------------------------------------------------------


class Missed(msgspec.Struct, frozen=True, gc=False):
    """What a look left open: when to look again, and what it saw."""

    case: Case
    again_in_s: float
    finding: str
    absent_from: datetime | None = None
    absent_to: datetime | None = None
    searched: list[str] = []
    counts: bool = True
    """Of what is watched: it was looked for, and was not there."""


# jsonb carries an array of texts for each row, which arrays of arrays cannot.
_POSTPONE: Final = """
    UPDATE unresolved_operations u
       SET inquiries = inquiries + 1, last_finding = i.finding,
           absences = CASE WHEN i.absent_to IS NULL THEN absences ELSE absences + 1 END,
           absent_from = i.absent_from, absent_to = i.absent_to,
           searched = i.searched,
           next_inquiry_at = db_now() + make_interval(secs => i.again_in_s)
      FROM jsonb_to_recordset($1::jsonb) AS i(merchant_id uuid, operation_id uuid,
           again_in_s float8, finding text, absent_from timestamptz, absent_to timestamptz,
           searched text[])
     WHERE u.merchant_id = i.merchant_id AND u.operation_id = i.operation_id
"""
# What could not be learned in its three days is asked about once a day from then on.
_LOOK_AGAIN: Final = """
    UPDATE watched_operations u
       SET looks = looks + i.counts, last_finding = i.finding, searched = i.searched,
           next_look_at = CASE WHEN i.counts = 1 AND until <= db_now() THEN 'infinity'
                               WHEN u.purpose = 'absent' AND until <= db_now()
                               THEN db_now() + interval '1 day'
                               ELSE db_now() + make_interval(secs => i.again_in_s) END
      FROM jsonb_to_recordset($1::jsonb) AS i(merchant_id uuid, operation_id uuid,
           again_in_s float8, finding text, searched text[], counts integer, purpose text)
     WHERE u.merchant_id = i.merchant_id AND u.operation_id = i.operation_id
       AND u.purpose = i.purpose
"""
_WATCHED_LONG_ENOUGH: Final = "DELETE FROM watched_operations WHERE next_look_at = 'infinity'"
_GROUP: Final = 2_000


async def postpone(runner: Runner, missed: Sequence[Missed]) -> None:
    """Look again later; one statement for many."""
    for purpose, statement in ((False, _POSTPONE), (True, _LOOK_AGAIN)):
        rows = [
            {
                "merchant_id": each.case.merchant_id.hex,
                "operation_id": each.case.operation_id.hex,
                "again_in_s": each.again_in_s,
                "finding": each.finding[:500],
                "absent_from": each.absent_from,
                "absent_to": each.absent_to,
                "searched": each.searched,
                "counts": int(each.counts),
                "purpose": each.case.purpose,
            }
            for each in missed
            if (each.case.purpose is not None) == purpose
        ]
        for start in range(0, len(rows), _GROUP):
            await runner.execute(
                statement, msgspec.json.encode(rows[start : start + _GROUP]).decode()
            )
        if purpose and rows:
            await runner.execute(_WATCHED_LONG_ENOUGH)


async def close(runner: Runner, cases: Sequence[Case]) -> None:
    """Take cases off the lists that they came from."""
    for purpose, table in ((False, "unresolved_operations"), (True, "watched_operations")):
        mine = [case for case in cases if (case.purpose is not None) == purpose]
        if mine:
            await runner.execute(
                f"DELETE FROM {table} WHERE (merchant_id, operation_id) IN"
                " (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
                [case.merchant_id for case in mine],
                [case.operation_id for case in mine],
            )


_WATCH: Final = """
    INSERT INTO watched_operations
        (merchant_id, operation_id, payment_id, account, purpose, since, until, next_look_at)
    SELECT m, o, p, $4, $5, db_now(), db_now() + make_interval(secs => $6),
           db_now() + make_interval(secs => $7)
      FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS i(m, o, p)
    ON CONFLICT (merchant_id, operation_id) DO UPDATE
        SET purpose = excluded.purpose, next_look_at = excluded.next_look_at,
            until = excluded.until, looks = 0
"""


async def watch(
    runner: Runner,
    cases: Sequence[tuple[UUID, UUID, UUID]],
    account: bytes,
    *,
    purpose: str,
    for_s: float,
    first_in_s: float,
) -> None:
    """Look for operations (merchant, operation, payment) from now on, in spite of everything."""
    await runner.execute(
        _WATCH,
        [case[0] for case in cases],
        [case[1] for case in cases],
        [case[2] for case in cases],
        account,
        purpose,
        for_s,
        first_in_s,
    )


# what never left ---------------------------------------------------------------------------------

_CLAIM_NOT_SENT: Final = """
    WITH due AS (
        SELECT merchant_id, operation_id FROM unresolved_operations
         WHERE not_sent AND next_inquiry_at <= db_now()
         LIMIT $1 FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE unresolved_operations u SET next_inquiry_at = db_now() + interval '30 s'
          FROM due WHERE u.merchant_id = due.merchant_id AND u.operation_id = due.operation_id
        RETURNING u.*
    )
    SELECT u.merchant_id, u.operation_id, u.payment_id, u.inquiries, u.held, u.absent_from,
           u.absent_to, u.searched, NULL, u.since, NULL,
"""


async def claim_not_sent(runner: Runner, limit: int) -> list[Case]:
    """Operations that never left and that nobody has repeated in time."""
    rows = await runner.fetch(f"{_CLAIM_NOT_SENT} {_JOINED} FROM claimed u {_JOINS}", limit)
    return [Case(*row) for row in rows]


async def not_sent(runner: Runner, cases: Sequence[Case]) -> None:
    """Note of operations that they never left: a gateway of an older version does not say so."""
    if cases:
        await runner.execute(
            "UPDATE unresolved_operations SET not_sent = true WHERE (merchant_id, operation_id) IN"
            " (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
            [case.merchant_id for case in cases],
            [case.operation_id for case in cases],
        )


async def ask_about(runner: Runner, cases: Sequence[Case]) -> None:
    """Operations that were taken up again after they had not left: they are to be asked about."""
    await runner.execute(
        "UPDATE unresolved_operations SET not_sent = false, next_inquiry_at = db_now()"
        " WHERE (merchant_id, operation_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        [case.merchant_id for case in cases],
        [case.operation_id for case in cases],
    )
