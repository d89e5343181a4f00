"""Intents, changes and committers, built as the gateway builds them, for tests that write rows."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from easypay import clock, ids
from easypay.db.connections import ANSWER_WITHIN_S
from easypay.db.group_commit import GroupCommitter
from easypay.payment_details import NO_DETAILS
from easypay.payments import statements, store
from easypay.payments.begin import FollowUp, NewPayment, new_operation
from easypay.payments.model import Kind, Operation, Payment, PaymentKey, Status
from easypay.payments.outcome_changes import Change, decide
from easypay.payments.statements import Statement
from easypay.processors.base import Approved, ProcessorAnswer

FINGERPRINT = bytes(32)

BROKEN = """
    CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';
    END $$;
    CREATE TRIGGER full_disk BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION full_disk()
"""
"""A trigger that makes writes to one table fail as on a full disk."""


def id_at(moment: datetime) -> UUID:
    """Return an id as the gateway would have made it at that moment."""
    return UUID(int=ids.lowest_id_at(moment).int | 7 << 76 | int.from_bytes(os.urandom(8), "big"))


def new_payment(
    merchant_id: UUID, key: str | None = None, at: datetime | None = None, **over: Any
) -> NewPayment:
    """Return the intent of a sale of 25.00. `over` replaces fields of the payment."""
    moment = at or clock.now()
    operation_id = ids.new_id() if at is None else id_at(at)
    columns: dict[str, Any] = dict.fromkeys(Payment.__struct_fields__) | {
        "merchant_id": merchant_id,
        "id": ids.new_id() if at is None else id_at(at),
        "mode": "test",
        "status": Status.PROCESSING,
        "amount_minor": 2500,
        "currency": "USD",
        "capture": "automatic",
        "active_operation": operation_id,
        "method_type": "card",
        "card_brand": "visa",
        "card_last4": "1111",
        "card_exp_month": 12,
        "card_exp_year": 2035,
        "processor": "authorize_net",
        "created_at": moment,
        "updated_at": moment,
        "details": NO_DETAILS,
        "answer": ProcessorAnswer(),
    }
    payment = Payment(**columns | over)
    return NewPayment(
        key=key or operation_id.hex,
        fingerprint=FINGERPRINT,
        payment=payment,
        operation=new_operation(payment, operation_id, Kind.SALE, payment.amount_minor, moment),
        card_fingerprint=FINGERPRINT,
        customer=None,
        billing_address=None,
    )


def refund_of(new: NewPayment, amount: int, key: str | None = None, **over: Any) -> FollowUp:
    """Return the intent to refund an amount."""
    operation_id = ids.new_id()
    columns: dict[str, Any] = {
        "merchant_id": new.payment.merchant_id,
        "mode": new.payment.mode,
        "key": key or operation_id.hex,
        "fingerprint": FINGERPRINT,
        "payment_id": new.payment.id,
        "operation_id": operation_id,
        "kind": Kind.REFUND,
        "asked_minor": amount,
        "whole": False,
        "expected_version": None,
        "reference": ids.reference(operation_id),
        "at": clock.now(),
    }
    return FollowUp(**{**columns, **over})


def approved(payment: Payment, operation: Operation, at: datetime | None = None) -> Change:
    """Return the change that records the operation as approved."""
    outcome = Approved(transaction_id="60000000001", auth_code="ABC123", avs_result="Y", code="1")
    return decide(operation, payment, outcome, at=at or clock.now(), first_inquiry_s=5)


async def begun(connection: Any, new: NewPayment) -> tuple[Payment, Operation]:
    """Return the payment and operation of an intent, as stored."""
    merchant_id = new.payment.merchant_id
    key = PaymentKey(merchant_id, new.payment.mode, new.payment.id)
    payment = await store.find_payment(connection, key)
    operation = await store.find_operation(connection, merchant_id, new.operation.id)
    assert payment is not None
    assert operation is not None
    return payment, operation


def committer(
    statement: Statement[Any, Any],
    dsn: str,
    *,
    lanes: int = 2,
    size: int = 64,
    limit: int | None = None,
    patience_s: float = 5.0,
    gather_s: float = 0.0,
    order: Callable[[Any], object] | None = None,
    touches: Any = "as the gateway",
    watch: Callable[[str, Sequence[Any]], None] | None = None,
    limit_s: float = ANSWER_WITHIN_S,
) -> GroupCommitter[Any, Any]:
    """Return a committer like the gateway's, over one of `statements`' statements.

    `watch("begins" | "ends", items)` is called for every group.
    """
    usual = statement

    def watched_arguments(items: Sequence[Any]) -> Sequence[object]:
        if watch is not None:
            watch("begins", items)
        return usual.arguments(items)

    def watched_results(items: Sequence[Any], rows: list[asyncpg.Record]) -> Sequence[Any]:
        if watch is not None:
            watch("ends", items)
        return usual.results(items, rows)

    return statements.group_committer(
        replace(
            usual,
            arguments=watched_arguments,
            results=watched_results,
            order=order or usual.order,
            touches=usual.touches if touches == "as the gateway" else touches,
        ),
        [statements.lane(usual, dsn, n + 1, limit_s=limit_s) for n in range(lanes)],
        month_of=month,
        size=size,
        limit=limit,
        patience_s=patience_s,
        gather_s=gather_s,
    )


lane = statements.lane


def month(value: UUID) -> str:
    """Return the month of an id, as `partitions.Months` does if its partition exists."""
    return f"_{ids.moment_of(value):%Y_%m}"
