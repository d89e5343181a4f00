"""Begin a payment with a stored method: one statement finds the method and writes the intent.

So such a payment takes no round trip more than one by card, and a method that is deleted is not
charged: the statement that begins the payment sees it. Only the usual case is served. In all others
nothing is written, and `stored_methods` looks the method up first.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from easypay.customers.paying import METHODS_OF_I, STORED_AT_MS, PayableMethod
from easypay.merchants.model import Caller
from easypay.payment_details import INTENT_TYPE
from easypay.payments.begin import NewPayment
from easypay.payments.requests import CreatePayment, StoredPaymentMethod
from easypay.payments.statements import (
    BEGIN,
    INTENT_FIELDS,
    Statement,
    begin_payments_arguments,
    claim_and_write,
)
from easypay.processors.customer_vault import MethodIds

_OF_METHOD: Final = {
    "method_type": "m.type",
    "card_brand": "m.brand",
    "card_last4": "m.last4",
    "card_exp_month": "m.exp_month",
    "card_exp_year": "m.exp_year",
    "card_fingerprint": "coalesce(m.card_fingerprint, i.card_fingerprint)",
    "customer_id": "m.customer_id",
}
"""The fields of an intent that come from the method."""
_INTENT: Final = ", ".join(_OF_METHOD.get(name, f"i.{name}") for name in INTENT_FIELDS)
BEGIN_STORED_PAYMENTS: Final = f"""
    WITH input ({", ".join(INTENT_FIELDS)},
        customer_profile_id, payment_profile_id, network_transaction_id, stored_at_ms
    ) AS MATERIALIZED (
        SELECT {_INTENT},
               m.customer_profile_id, m.payment_profile_id, m.network_transaction_id,
               {STORED_AT_MS}
          FROM unnest($1::{INTENT_TYPE}[]) AS i
         {METHODS_OF_I}
           AND m.state = 'active' AND m.type = 'card' AND m.login_id = i.login_id
    ), {claim_and_write("processing", "in_flight")}
    SELECT operation_id, customer_id, card_brand, card_last4, card_exp_month, card_exp_year,
        card_fingerprint, customer_profile_id, payment_profile_id, network_transaction_id,
        stored_at_ms
      FROM fresh
"""


def begin_stored_results(
    items: Sequence[NewPayment], rows: list[asyncpg.Record]
) -> Sequence[asyncpg.Record | None]:
    """Return for each item the row that `found_in` reads, or None: nothing was written."""
    begun = {row[0]: row for row in rows}
    return [begun.get(item.operation_id) for item in items]


BEGIN_STORED: Final = Statement[NewPayment, asyncpg.Record | None](
    "begin-stored",
    BEGIN_STORED_PAYMENTS,
    begin_payments_arguments,
    begin_stored_results,
    order=BEGIN.order,
    touches=BEGIN.touches,
    months=BEGIN.months,
)


def is_usual(caller: Caller, body: CreatePayment) -> bool:
    """Whether BEGIN_STORED may begin a payment: nothing but the method itself is to be checked."""
    method = body.payment_method
    return (
        isinstance(method, StoredPaymentMethod)
        and method.stored.cvc is None
        and caller.login is not None
        and caller.duplicates == "off"
        and not caller.restored
    )


_NO_IDS: Final = MethodIds("", "")


def not_read_yet(method_id: UUID, login_id: UUID, processor: str) -> PayableMethod:
    """Return a method of which only the id is known, for the intent that the statement fills."""
    return PayableMethod(
        method_id=method_id,
        customer_id=method_id,
        login_id=login_id,
        processor=processor,
        ids=_NO_IDS,
        type="card",
        brand=None,
        last4=None,
        exp_month=None,
        exp_year=None,
        card_fingerprint=None,
        network_transaction_id=None,
        stored_at_ms=0,
    )


def found_in(row: asyncpg.Record, unread: PayableMethod) -> PayableMethod:
    """Return the method that `unread` named, as BEGIN_STORED has found it."""
    (_, customer_id, brand, last4, exp_month, exp_year, fingerprint, *told) = row
    customer_profile_id, payment_profile_id, network_transaction_id, stored_at_ms = told
    return replace(
        unread,
        customer_id=customer_id,
        ids=MethodIds(customer_profile_id, payment_profile_id),
        brand=brand,
        last4=last4,
        exp_month=exp_month,
        exp_year=exp_year,
        card_fingerprint=fingerprint,
        network_transaction_id=network_transaction_id,
        stored_at_ms=stored_at_ms,
    )


def filled(new: NewPayment, method: PayableMethod) -> NewPayment:
    """Return an intent as BEGIN_STORED has written it."""
    payment = replace(
        new.payment,
        card_brand=method.brand,
        card_last4=method.last4,
        card_exp_month=method.exp_month,
        card_exp_year=method.exp_year,
        customer_id=method.customer_id,
    )
    return replace(new, payment=payment, card_fingerprint=method.card_fingerprint)
