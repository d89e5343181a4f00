"""Everything that is known about an operation, and lists of operations. SQL only.

Every function takes an asyncpg pool or connection. Unlike the API's reads these cover all
merchants, so only the command line uses them.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import rfc3339
from easypay.payments.model import (
    OPERATION_COLUMNS,
    Operation,
    Payment,
    PaymentKey,
    operation_of,
)
from easypay.payments.resolver_rows import Case
from easypay.payments.store import Runner, earliest_child, find_payment
from easypay.payments.views import OperationView, PaymentView, operation_view, payment_view

Row = Any
"""An asyncpg record."""


class Details(msgspec.Struct, frozen=True):
    """An operation with everything that is stored about it."""

    operation: Operation
    payment: Payment
    age_s: float
    """Seconds since it began, by the database's clock."""
    unresolved: Row | None
    watched: Row | None
    late: Row | None
    login: Row | None
    """The processor account that took the payment: url and mode, never its credentials."""
    gives_back: list[Operation]
    """Operations that give its late charge back."""
    events: list[Row]
    audit: list[Row]


# The ids lie within one month and merchants are few, so this is one short look-up by primary key
# for each merchant.
_FIND: Final = f"""
    SELECT {OPERATION_COLUMNS} FROM operations
     WHERE merchant_id IN (SELECT merchant_id FROM merchants) AND id BETWEEN $1 AND $2
     LIMIT 2
"""
_OF_OPERATION: Final = "WHERE merchant_id = $1 AND operation_id = $2"


async def find(runner: Runner, low: UUID, high: UUID) -> Operation | None:
    """Return the only operation, of any merchant, with an id from `low` to `high`. None if there is
    none, or if two ids share their first hundred bits, which practically never happens."""
    rows = await runner.fetch(_FIND, low, high)
    return operation_of(rows[0]) if len(rows) == 1 else None


async def gather(runner: Runner, operation: Operation) -> Details:
    """Return everything that is known about an operation now."""
    merchant_id, operation_id = operation.merchant_id, operation.id
    payment = await find_payment(
        runner, PaymentKey(merchant_id, operation.mode, operation.payment_id)
    )
    assert payment is not None, "a payment and its operation are written together"
    back = await runner.fetch(
        f"SELECT {OPERATION_COLUMNS} FROM operations"
        " WHERE merchant_id = $1 AND payment_id = $2 AND gives_back = $3 ORDER BY id",
        merchant_id,
        operation.payment_id,
        operation_id,
    )
    return Details(
        operation=operation,
        payment=payment,
        age_s=await runner.fetchval(
            "SELECT extract(epoch FROM db_now() - $1::timestamptz)::float8", operation.begun_at
        ),
        unresolved=await runner.fetchrow(
            f"SELECT * FROM unresolved_operations {_OF_OPERATION}", merchant_id, operation_id
        ),
        watched=await runner.fetchrow(
            f"SELECT * FROM watched_operations {_OF_OPERATION}", merchant_id, operation_id
        ),
        late=await runner.fetchrow(
            f"SELECT * FROM late_charges {_OF_OPERATION}", merchant_id, operation_id
        ),
        login=await runner.fetchrow(
            "SELECT mode, url FROM processor_logins WHERE merchant_id = $1 AND id = $2",
            merchant_id,
            payment.login_id,
        ),
        gives_back=[operation_of(row) for row in back],
        events=await runner.fetch(
            "SELECT id, type, status, created_at FROM events"
            " WHERE merchant_id = $1 AND payment_id = $2 AND operation_id = $3 AND id >= $4"
            " ORDER BY id",
            merchant_id,
            operation.payment_id,
            operation_id,
            earliest_child(operation_id),
        ),
        audit=await runner.fetch(
            "SELECT at, actor, action, detail FROM audit_entries WHERE subject = $1 ORDER BY id",
            ids.typed(ids.OPERATION, operation_id),
        ),
    )


def case_of(known: Details) -> Case:
    """Return the operation as a case of the resolver that is open and not watched."""
    operation, payment = known.operation, known.payment
    searched: Sequence[str] = [] if known.unresolved is None else known.unresolved["searched"]
    return Case(
        merchant_id=operation.merchant_id,
        operation_id=operation.id,
        payment_id=operation.payment_id,
        looks=0,
        held=False,
        absent_from=None,
        absent_to=None,
        searched=list(searched),
        purpose=None,
        since=operation.begun_at,
        until=None,
        mode=operation.mode,
        kind=operation.kind,
        state=operation.state,
        reference=operation.reference,
        amount_minor=operation.amount_minor,
        currency=operation.currency,
        parent_transaction_id=operation.parent_transaction_id,
        transaction_id=operation.answer.transaction_id,
        begun_at=operation.begun_at,
        captured_minor=payment.captured_minor,
        refunded_minor=payment.refunded_minor,
        login_id=payment.login_id,
        processor=payment.processor,
        status=payment.status,
        active_operation=payment.active_operation,
    )


# output for people and scripts --------------------------------------------------------------------


class _Named(msgspec.Struct, frozen=True):
    """The ids of an operation."""

    reference: str
    operation_id: str
    payment_id: str
    merchant_id: str


class OpenView(_Named, frozen=True):
    """An operation that is unresolved or held for review."""

    mode: str
    kind: str
    state: str
    amount: int
    currency: str
    age_s: int
    looks: int
    next_look_at: str
    last_finding: str | None


class WatchedView(_Named, frozen=True):
    """An operation that is still watched although no request waits for it."""

    purpose: str
    since: str
    until: str
    looks: int
    next_look_at: str
    last_finding: str | None


class LateChargeView(_Named, frozen=True):
    """An operation that was called absent and that the processor carried out after all."""

    mode: str
    kind: str
    transaction_id: str
    amount: int
    currency: str
    state: str
    reason: str | None
    evidence: str
    found_at: str
    changed_at: str


class EventView(msgspec.Struct, frozen=True):
    """One event of the operation."""

    type: str
    status: str
    created_at: str


class AuditView(msgspec.Struct, frozen=True):
    """An action of a person."""

    at: str
    actor: str
    action: str
    detail: msgspec.Raw


class DetailsView(msgspec.Struct, frozen=True):
    """The output of `easypay operation show --json`."""

    operation: OperationView
    merchant_id: str
    payment: PaymentView
    account_url: str | None
    open: OpenView | None
    watched: WatchedView | None
    late_charge: LateChargeView | None
    given_back_by: list[OperationView]
    events: list[EventView]
    audit: list[AuditView]


def view(known: Details) -> DetailsView:
    """Return everything that is known, without secrets."""
    operation = known.operation
    return DetailsView(
        operation=operation_view(operation, known.payment.processor),
        merchant_id=ids.typed(ids.MERCHANT, operation.merchant_id),
        payment=payment_view(known.payment),
        account_url=None if known.login is None else known.login["url"],
        open=None if known.unresolved is None else _open(operation, known.unresolved, known.age_s),
        watched=None if known.watched is None else _watched(operation, known.watched),
        late_charge=None if known.late is None else _late(known.late),
        given_back_by=[operation_view(each, known.payment.processor) for each in known.gives_back],
        events=[
            EventView(row["type"], row["status"], rfc3339(row["created_at"]))
            for row in known.events
        ],
        audit=[
            AuditView(
                rfc3339(row["at"]), row["actor"], row["action"], msgspec.Raw(row["detail"].encode())
            )
            for row in known.audit
        ],
    )


_COLUMNS: Final = OPERATION_COLUMNS.split(", ")
_LIST_OPEN: Final = f"""
    SELECT {", ".join(f"o.{name}" for name in _COLUMNS)},
           u.inquiries, u.next_inquiry_at, u.last_finding,
           extract(epoch FROM db_now() - o.begun_at)::float8 AS age_s
      FROM (SELECT * FROM unresolved_operations ORDER BY since LIMIT $1) u
      CROSS JOIN LATERAL (SELECT * FROM operations o
        WHERE o.merchant_id = u.merchant_id AND o.id = u.operation_id LIMIT 1) o
     ORDER BY u.since
"""
_LIST_WATCHED: Final = f"""
    SELECT {", ".join(f"o.{name}" for name in _COLUMNS)},
           u.purpose, u.since, u.until, u.looks, u.next_look_at, u.last_finding
      FROM (SELECT * FROM watched_operations ORDER BY since LIMIT $1) u
      CROSS JOIN LATERAL (SELECT * FROM operations o
        WHERE o.merchant_id = u.merchant_id AND o.id = u.operation_id LIMIT 1) o
     ORDER BY u.since
"""
_LIST_LATE: Final = "SELECT * FROM late_charges WHERE {} ORDER BY found_at DESC LIMIT $1"
_STILL_OPEN: Final = "state IN ('returning', 'needs_person')"


async def list_open(runner: Runner, limit: int) -> list[OpenView]:
    """Return unresolved and held operations, the longest waiting first."""
    return [
        _open(_operation(row), row, row["age_s"]) for row in await runner.fetch(_LIST_OPEN, limit)
    ]


async def list_watched(runner: Runner, limit: int) -> list[WatchedView]:
    """Return watched operations, the longest watched first."""
    return [_watched(_operation(row), row) for row in await runner.fetch(_LIST_WATCHED, limit)]


async def list_late_charges(runner: Runner, limit: int, *, only_open: bool) -> list[LateChargeView]:
    """Return late charges, newest first. `only_open`: those that still need work."""
    sql = _LIST_LATE.format(_STILL_OPEN if only_open else "true")
    return [_late(row) for row in await runner.fetch(sql, limit)]


def _operation(row: Row) -> Operation:
    return operation_of(row[name] for name in _COLUMNS)


def _ids(merchant_id: UUID, operation_id: UUID, payment_id: UUID) -> dict[str, str]:
    return {
        "reference": ids.reference(operation_id),
        "operation_id": ids.typed(ids.OPERATION, operation_id),
        "payment_id": ids.typed(ids.PAYMENT, payment_id),
        "merchant_id": ids.typed(ids.MERCHANT, merchant_id),
    }


def _open(operation: Operation, row: Row, age_s: float) -> OpenView:
    return OpenView(
        **_ids(operation.merchant_id, operation.id, operation.payment_id),
        mode=operation.mode,
        kind=operation.kind,
        state=operation.state,
        amount=operation.amount_minor,
        currency=operation.currency,
        age_s=int(age_s),
        looks=row["inquiries"],
        next_look_at=rfc3339(row["next_inquiry_at"]),
        last_finding=row["last_finding"],
    )


def _watched(operation: Operation, row: Row) -> WatchedView:
    return WatchedView(
        **_ids(operation.merchant_id, operation.id, operation.payment_id),
        purpose=row["purpose"],
        since=rfc3339(row["since"]),
        until=rfc3339(row["until"]),
        looks=row["looks"],
        next_look_at=rfc3339(row["next_look_at"]),
        last_finding=row["last_finding"],
    )


def _late(row: Row) -> LateChargeView:
    return LateChargeView(
        **_ids(row["merchant_id"], row["operation_id"], row["payment_id"]),
        mode=row["mode"],
        kind=row["kind"],
        transaction_id=row["transaction_id"],
        amount=row["amount_minor"],
        currency=row["currency"],
        state=row["state"],
        reason=row["reason"],
        evidence=row["evidence"],
        found_at=rfc3339(row["found_at"]),
        changed_at=rfc3339(row["changed_at"]),
    )
