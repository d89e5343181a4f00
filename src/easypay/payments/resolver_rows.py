"""The resolver's work as rows: open and watched operations by account. SQL only.

Every function takes an asyncpg pool or connection. All times are the database's.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from easypay.db.partitions import within_months
from easypay.mode import MODE, Mode
from easypay.payments.model import (
    KIND,
    OPERATION_COLUMNS,
    PAYMENT_COLUMNS,
    STATE,
    STATUS,
    Kind,
    Operation,
    Payment,
    State,
    Status,
    operation_of,
    payment_of,
)

Runner = Any
Id = tuple[UUID, UUID]
"""A merchant's id and an operation's id."""

STILL_OPEN: Final = frozenset({State.IN_FLIGHT, State.UNKNOWN, State.NOT_SENT})
"""States of an operation without an outcome."""


class Case(msgspec.Struct, frozen=True, gc=False):
    """An operation that is open or watched, with the data that an inquiry needs."""

    merchant_id: UUID
    operation_id: UUID
    payment_id: UUID
    looks: int
    held: bool
    absent_from: datetime | None
    absent_to: datetime | None
    searched: list[str]
    purpose: str | None
    """Why it is watched: absent, return or expiry. None if it is open."""
    since: datetime
    until: datetime | None
    mode: Mode
    kind: Kind
    state: State
    reference: str
    amount_minor: int
    currency: str
    parent_transaction_id: str | None
    transaction_id: str | None
    begun_at: datetime
    captured_minor: int
    refunded_minor: int
    login_id: UUID | None
    processor: str
    status: Status
    active_operation: UUID | None

    @property
    def id(self) -> Id:
        return self.merchant_id, self.operation_id


_NAMED: Final = {
    Case.__struct_fields__.index(field): by_name
    for field, by_name in (
        ("mode", MODE),
        ("kind", KIND),
        ("state", STATE),
        ("status", STATUS),
    )
}


def _case(row: Any) -> Case:
    values = list(row)
    for at, by_name in _NAMED.items():
        values[at] = by_name[values[at]]
    return Case(*values)


FRESH_LOOKS: Final = 4
"""After this many looks an operation is no longer fresh."""


class AccountWork(NamedTuple):
    """One process's work at one account under one lease: the fresh operations or the `old` ones.
    They are apart so that new ones never wait for old ones, for which the lists must be read far
    back."""

    account: bytes
    old: bool

    @property
    def lease(self) -> bytes:
        return self.account + b"old" if self.old else self.account


_JOINED: Final = """
       o.mode, o.kind, o.state, o.reference, o.amount_minor, o.currency,
       o.parent_transaction_id, o.transaction_id, o.begun_at,
       p.captured_minor, p.refunded_minor, p.login_id, p.processor, p.status, p.active_operation
"""
# Find each row by its whole key. If a table was never analysed, the planner would scan all of a
# merchant's payments for every operation. LIMIT prevents that.
_JOINS: Final = """
 CROSS JOIN LATERAL (SELECT * FROM operations o
                      WHERE o.merchant_id = u.merchant_id AND o.id = u.operation_id
                        AND {operations} LIMIT 1) o
 CROSS JOIN LATERAL (SELECT * FROM payments p WHERE p.merchant_id = u.merchant_id
                        AND p.mode = o.mode AND p.id = u.payment_id AND {payments} LIMIT 1) p
"""


def joins(operations: Iterable[UUID], payments: Iterable[UUID]) -> str:
    """Return the joins of rows `u` with their operations and payments, whose ids are these."""
    return _JOINS.format(
        operations=within_months("o.id", operations), payments=within_months("p.id", payments)
    )


_OPEN_CASE: Final = f"""
SELECT u.merchant_id, u.operation_id, u.payment_id, u.inquiries, u.held, u.absent_from,
       u.absent_to, u.searched, NULL, u.since, NULL, {_JOINED}"""
_OPEN: Final = f"""
    SELECT merchant_id, operation_id, payment_id FROM unresolved_operations
     WHERE account = $1 AND NOT not_sent AND next_inquiry_at <= db_now()
       AND (inquiries >= {FRESH_LOOKS}) = $3
     ORDER BY inquiries, next_inquiry_at LIMIT $2
"""
_OPEN_OF_PAYMENT: Final = """
    SELECT merchant_id, operation_id, payment_id FROM unresolved_operations
     WHERE merchant_id = $1 AND payment_id = $2 AND NOT not_sent
"""
_WATCHED: Final = """
    SELECT merchant_id, operation_id, payment_id FROM watched_operations
     WHERE account = $1 AND next_look_at <= db_now()
     ORDER BY next_look_at LIMIT $2
"""
_NAMED_ROWS: Final = """
  FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS i(merchant_id, operation_id, nth)
  JOIN {table} u USING (merchant_id, operation_id)"""
_CASES_OPEN: Final = f"""
{_OPEN_CASE} {_NAMED_ROWS.format(table="unresolved_operations")} {{joins}}
 WHERE NOT u.not_sent ORDER BY i.nth
"""
_CASES_WATCHED: Final = f"""
SELECT u.merchant_id, u.operation_id, u.payment_id, u.looks, false, NULL, NULL, u.searched,
       u.purpose, u.since, u.until, {_JOINED}
  {_NAMED_ROWS.format(table="watched_operations")} {{joins}}
 ORDER BY i.nth
"""


async def _cases(runner: Runner, statement: str, found: Sequence[Any]) -> list[Case]:
    """Return the cases of rows of a work list, in their order."""
    if not found:
        return []
    merchants, operations, payments = zip(*found, strict=True)
    sql = statement.format(joins=joins(operations, payments))
    return [_case(row) for row in await runner.fetch(sql, merchants, operations)]


async def open_cases(runner: Runner, work: AccountWork, limit: int) -> list[Case]:
    """Return the account's due open cases, new ones before repeats."""
    found = await runner.fetch(_OPEN, work.account, limit, work.old)
    return await _cases(runner, _CASES_OPEN, found)


async def watched_cases(runner: Runner, work: AccountWork, limit: int) -> list[Case]:
    """Return the account's due watched cases, oldest first. All of them are old work."""
    if not work.old:
        return []
    return await _cases(runner, _CASES_WATCHED, await runner.fetch(_WATCHED, work.account, limit))


async def cases_of_payment(runner: Runner, merchant_id: UUID, payment_id: UUID) -> list[Case]:
    """Return a payment's open operations, except those that were never sent."""
    found = await runner.fetch(_OPEN_OF_PAYMENT, merchant_id, payment_id)
    return await _cases(runner, _CASES_OPEN, found)


async def rows_of(runner: Runner, cases: Sequence[Case]) -> dict[Id, tuple[Operation, Payment]]:
    """Return each case's operation and payment, as they are now."""
    if not cases:
        return {}
    merchants = [case.merchant_id for case in cases]
    operation_ids, payment_ids = zip(
        *((case.operation_id, case.payment_id) for case in cases), strict=True
    )
    # First the payments: another process may end an operation between the two, and a payment as
    # its end left it would not fit the operation that had not ended.
    payments = await runner.fetch(
        f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE (merchant_id, mode, id) IN"
        " (SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[]))"
        f" AND {within_months('id', payment_ids)}",
        merchants,
        [case.mode for case in cases],
        payment_ids,
    )
    operations = await runner.fetch(
        f"SELECT {OPERATION_COLUMNS} FROM operations WHERE (merchant_id, id) IN"
        f" (SELECT * FROM unnest($1::uuid[], $2::uuid[])) AND {within_months('id', operation_ids)}",
        merchants,
        operation_ids,
    )
    by_id = {(row["merchant_id"], row["id"]): payment_of(row) for row in payments}
    found = [operation_of(row) for row in operations]
    return {
        (operation.merchant_id, operation.id): (
            operation,
            by_id[operation.merchant_id, operation.payment_id],
        )
        for operation in found
    }


# results -----------------------------------------------------------------------------------------


class Missed(msgspec.Struct, frozen=True, gc=False):
    """A case that stays open after a look: when to look again, and what was found."""

    case: Case
    again_in_s: float
    finding: str
    absent_from: datetime | None = None
    absent_to: datetime | None = None
    searched: list[str] = []
    counts: bool = True
    """For a watched case: it was looked for and was not there."""


# jsonb, because each row has an array of texts of its own length.
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
# If nothing could be learned within the three days, look once a day from then on.
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
_WATCHED_LONG_ENOUGH: Final = "DELETE FROM watched_operations WHERE next_look_at = 'infinity' AND"
_GROUP: Final = 2_000


async def postpone(runner: Runner, missed: Sequence[Missed]) -> None:
    """Set when to look again, in one statement for many cases."""
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
            looked_for = [each.case.id for each in missed if each.case.purpose is not None]
            await execute_on(runner, looked_for, _WATCHED_LONG_ENOUGH)


async def close(runner: Runner, cases: Sequence[Case]) -> None:
    """Remove cases from the lists that they came from."""
    for purpose, table in ((False, "unresolved_operations"), (True, "watched_operations")):
        mine = [case.id for case in cases if (case.purpose is not None) == purpose]
        if mine:
            await execute_on(runner, mine, f"DELETE FROM {table} WHERE")


async def execute_on(
    runner: Runner, operations: Collection[Id], statement: str, *values: object
) -> None:
    """Execute a statement that ends in WHERE or AND on these operations. `values` are $3, …"""
    await runner.execute(
        f"{statement} (merchant_id, operation_id) IN"
        " (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        [merchant for merchant, _ in operations],
        [operation for _, operation in operations],
        *values,
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
    cases: Sequence[Case],
    account: bytes,
    *,
    purpose: str,
    for_s: float,
    first_in_s: float,
) -> None:
    """Watch operations from now on, or change their watch."""
    await runner.execute(
        _WATCH,
        [case.merchant_id for case in cases],
        [case.operation_id for case in cases],
        [case.payment_id for case in cases],
        account,
        purpose,
        for_s,
        first_in_s,
    )


_NOT_AFTER_ALL: Final = """
    UPDATE unresolved_operations SET next_inquiry_at = db_now()
     WHERE next_inquiry_at > db_now() + make_interval(secs => $1)
"""


async def mind_the_clock(runner: Runner, longest_s: float) -> int:
    """Make inquiries due that are due only in more than `longest_s` seconds, which must be longer
    than any pause: the database's clock was set back. Returns how many."""
    done: str = await runner.execute(_NOT_AFTER_ALL, longest_s)
    return int(done.rpartition(" ")[2])


# never sent --------------------------------------------------------------------------------------

_CLAIM_NOT_SENT: Final = """
    WITH due AS (
        SELECT merchant_id, operation_id FROM unresolved_operations
         WHERE not_sent AND next_inquiry_at <= db_now()
         LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE unresolved_operations u SET next_inquiry_at = db_now() + interval '30 s'
      FROM due WHERE u.merchant_id = due.merchant_id AND u.operation_id = due.operation_id
    RETURNING u.merchant_id, u.operation_id, u.payment_id
"""
_CLAIMED: Final = f"""
{_OPEN_CASE} {_NAMED_ROWS.format(table="unresolved_operations")} {{joins}}
 ORDER BY i.nth
"""


async def claim_not_sent(runner: Runner, limit: int) -> list[Case]:
    """Claim operations that were never sent and that nobody repeated in time."""
    return await _cases(runner, _CLAIMED, await runner.fetch(_CLAIM_NOT_SENT, limit))


async def not_sent(runner: Runner, cases: Sequence[Case]) -> None:
    """Mark operations as never sent: a gateway of an older version does not mark them."""
    if cases:
        statement = "UPDATE unresolved_operations SET not_sent = true WHERE"
        await execute_on(runner, [case.id for case in cases], statement)


async def ask_about(runner: Runner, cases: Sequence[Case]) -> None:
    """Make operations due for an inquiry that were restarted after they had not been sent."""
    await execute_on(
        runner,
        [case.id for case in cases],
        "UPDATE unresolved_operations SET not_sent = false, next_inquiry_at = db_now() WHERE",
    )


async def look_now(runner: Runner, merchant_id: UUID, payment_id: UUID) -> None:
    """Let the absent operations of a payment that are watched be looked for now, not later."""
    await runner.execute(
        "UPDATE watched_operations SET next_look_at = db_now()"
        " WHERE merchant_id = $1 AND payment_id = $2 AND purpose = 'absent'",
        merchant_id,
        payment_id,
    )
