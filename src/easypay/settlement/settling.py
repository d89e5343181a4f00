"""Tells payments of their settlement, and of what the bank did with the money later.

`reconciliation` reads the processor's books into `settled_transactions` and calls `settle` after
each batch. `told` of a row is what its payment knows; wherever that differs from the row's state,
there is something to do. So it can be stopped anywhere and called again, and whoever changes a
row's state, weeks later too, need only call it.

A group is one short transaction. It waits for no payment that somebody else has locked, and others
wait for it for milliseconds: a batch of 100,000 payments never stands in the way of a refund. What
was left is done by the next call (docs/decisions/0047).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from easypay import clock, ids
from easypay.db.partitions import within_months
from easypay.mode import MODE, Mode
from easypay.payments.model import PaymentKey
from easypay.payments.store import TELL
from easypay.settlement.model import Booked, Ours, event_of, is_change, is_ours, steps_of

AT_ONCE: Final = 500
"""Transactions of one group."""

DUE: Final = """
    SELECT batch_id, transaction_id, kind, settlement_state, told, amount_minor, currency,
           settled_at, merchant_id, mode, payment_id, operation_id, change_code, change_message,
           changed_at
      FROM settled_transactions
     WHERE account = $1 AND payment_id IS NOT NULL AND told IS DISTINCT FROM settlement_state
       AND (batch_id, transaction_id) > ($2, $3)
     ORDER BY batch_id, transaction_id LIMIT $4 FOR UPDATE SKIP LOCKED
"""
_PAYMENTS: Final = """
    SELECT p.id, p.status, p.currency, p.transaction_id, p.updated_at FROM payments p
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = ANY ($3) AND {within}
     ORDER BY p.id FOR NO KEY UPDATE SKIP LOCKED
"""
_REFUNDS: Final = """
    SELECT o.id, o.state, o.gives_back IS NOT NULL, o.transaction_id FROM operations o
     WHERE o.merchant_id = $1 AND o.id = ANY ($2) AND o.kind = 'refund' AND {within}
"""
_MOVE: Final = """
    UPDATE payments p
       SET settled_at = coalesce(p.settled_at, i.settled_at), settlement_state = i.state,
           version = p.version + i.steps, updated_at = i.at
      FROM unnest($3::uuid[], $4::timestamptz[], $5::text[], $6::int[], $7::timestamptz[])
           AS i(id, settled_at, state, steps, at)
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = i.id AND p.id = ANY ($3) AND {within}
"""
_CHANGES: Final = """
    INSERT INTO settlement_changes (account, batch_id, transaction_id, number, became, code,
        message, amount_minor, currency, merchant_id, mode, payment_id, operation_id, happened_at)
    SELECT $1, batch_id, transaction_id,
           nth + coalesce((SELECT max(c.number) FROM settlement_changes c
                            WHERE c.account = $1 AND c.batch_id = i.batch_id
                              AND c.transaction_id = i.transaction_id), 0),
           became, code, message, amount_minor, currency, merchant_id, mode, payment_id,
           operation_id, happened_at
      FROM unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[],
                  $8::bigint[], $9::text[], $10::uuid[], $11::text[], $12::uuid[], $13::uuid[],
                  $14::timestamptz[])
           AS i(batch_id, transaction_id, nth, became, code, message, amount_minor, currency,
                merchant_id, mode, payment_id, operation_id, happened_at)
"""
_TOLD: Final = """
    UPDATE settled_transactions s SET told = i.state
      FROM unnest($2::text[], $3::text[], $4::text[]) AS i(batch_id, transaction_id, state)
     WHERE s.account = $1 AND s.batch_id = i.batch_id AND s.transaction_id = i.transaction_id
"""

Whose = tuple[UUID, Mode]


class _Group(NamedTuple):
    """What a group writes: rows for `_MOVE` by merchant and mode, and for the other statements."""

    moves: dict[Whose, list[tuple[UUID, datetime, str, int, datetime]]]
    events: list[tuple[Any, ...]]
    changes: list[tuple[Any, ...]]
    told: list[tuple[str, str, str]]


async def settle(
    pool: Any, account: bytes, changed: Callable[[PaymentKey], None] = lambda _: None
) -> int:
    """Tell the payments of an account what its books say. Return how many transactions were told.

    `changed` is called for each payment after its commit: it may be cached. Several calls may run
    at the same time.
    """
    told, after = 0, ("", "")
    while True:
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(DUE, account, *after, AT_ONCE)
            due = [Booked(*row) for row in rows]
            group = await _settle(connection, account, due)
        for (merchant_id, mode), moves in group.moves.items():
            for payment_id, *_ in moves:
                changed(PaymentKey(merchant_id, mode, payment_id))
        told += len(group.told)
        if len(due) < AT_ONCE:
            return told
        after = due[-1].batch_id, due[-1].transaction_id


async def _settle(connection: Any, account: bytes, due: Sequence[Booked]) -> _Group:
    ours = await _our_side(connection, due)
    group = _decided((each, ours[each]) for each in due if each in ours)
    for whose, moves in group.moves.items():
        within = within_months("p.id", [move[0] for move in moves])
        await connection.execute(_MOVE.format(within=within), *whose, *_columns(moves))
    if group.events:
        await connection.execute(TELL, *_columns(group.events))
    if group.changes:
        await connection.execute(_CHANGES, account, *_columns(group.changes))
    if group.told:
        await connection.execute(_TOLD, account, *_columns(group.told))
    return group


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _our_side(connection: Any, due: Sequence[Booked]) -> Mapping[Booked, Ours]:
    """Return our side of each transaction that can be told now, with its payment locked."""
    by_merchant: dict[Whose, list[Booked]] = {}
    for each in due:
        by_merchant.setdefault((each.merchant_id, MODE[each.mode]), []).append(each)
    found: dict[Booked, Ours] = {}
    for (merchant_id, mode), theirs in by_merchant.items():
        wanted = sorted({each.payment_id for each in theirs})
        rows = await connection.fetch(
            _PAYMENTS.format(within=within_months("p.id", wanted)), merchant_id, mode, wanted
        )
        payments = {row[0]: tuple(row)[1:] for row in rows}
        refunds = await _refunds(connection, merchant_id, theirs)
        for each in theirs:
            if each.payment_id in payments:
                ours = Ours(*payments[each.payment_id], *refunds.get(each.operation_id, ()))
                if is_ours(each, ours):
                    found[each] = ours
    return found


async def _refunds(
    connection: Any, merchant_id: UUID, booked: Sequence[Booked]
) -> dict[UUID, tuple[str, bool, str | None]]:
    wanted = [each.operation_id for each in booked if each.kind == "refund"]
    if not wanted:
        return {}
    rows = await connection.fetch(
        _REFUNDS.format(within=within_months("o.id", wanted)), merchant_id, wanted
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _decided(pairs: Iterable[tuple[Booked, Ours]]) -> _Group:
    """Return what is to be written. Pure, apart from ids and the clock."""
    group = _Group({}, [], [], [])
    for booked, ours in pairs:
        steps = steps_of(booked.told, booked.settlement_state)
        at = clock.now_after(ours.updated_at)
        if booked.kind == "charge":
            group.moves.setdefault((booked.merchant_id, MODE[booked.mode]), []).append(
                (booked.payment_id, booked.settled_at, steps[-1], len(steps), at)
            )
        for step in steps:
            if (event_type := event_of(booked, ours, step)) is not None:
                group.events.append(_event(booked, ours, event_type, at))
        changes = [step for step in steps if is_change(booked.told, step)]
        group.changes.extend(_change(booked, n, step) for n, step in enumerate(changes, 1))
        group.told.append((booked.batch_id, booked.transaction_id, booked.settlement_state))
    return group


def _event(booked: Booked, ours: Ours, event_type: str, at: datetime) -> tuple[Any, ...]:
    return (
        *(booked.merchant_id, ids.new_id_from(at), booked.payment_id, booked.operation_id),
        *(booked.mode, event_type, ours.status, booked.amount_minor, ours.currency, at),
    )


def _change(booked: Booked, nth: int, became: str) -> tuple[Any, ...]:
    known = became == booked.settlement_state
    return (
        *(booked.batch_id, booked.transaction_id, nth, became),
        *((booked.change_code, booked.change_message) if known else (None, None)),
        *(booked.amount_minor, booked.currency, booked.merchant_id, booked.mode),
        *(booked.payment_id, booked.operation_id, booked.changed_at if known else None),
    )
