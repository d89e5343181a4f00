"""What a payment needs of customers and their stored methods: look-ups by primary key.

Functions take an asyncpg connection or pool. They never call the processor.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final, Literal, cast
from uuid import UUID

import msgspec

from easypay import ids
from easypay.mode import Mode
from easypay.processors.customer_vault import MethodIds

Runner = Any


class NotPayable(Exception):
    """A stored payment method cannot be paid with. `detail` says why, for people."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class PaymentMethodNotFound(NotPayable):
    """The merchant has no such stored payment method in this mode."""


class PaymentMethodGone(NotPayable):
    """The stored payment method was deleted, was refused, or is not stored yet."""


class PayableMethod(msgspec.Struct, frozen=True, gc=False):
    """A stored method with all that a payment needs of it."""

    method_id: UUID
    customer_id: UUID
    login_id: UUID
    """The processor account that stored it, as payments keep it. No other account can charge it."""
    processor: str
    ids: MethodIds
    type: Literal["card", "bank_account"]
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    card_fingerprint: bytes | None
    """The keyed hash that duplicates are compared by; None if the number was never known here."""
    network_transaction_id: str | None
    stored_at_ms: int
    """When it was stored, in Unix milliseconds."""


class MethodOfPayment(msgspec.Struct, frozen=True, gc=False):
    """A stored method, also a deleted one, as lists of payments show it."""

    id: UUID
    customer_id: UUID
    state: str
    type: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None


class CustomerOfPayment(msgspec.Struct, frozen=True, gc=False):
    """A customer, also a deleted one, as lists of payments show it."""

    id: UUID
    reference: str | None
    email: str | None
    name: str | None
    description: str | None
    deleted: bool


STORED_AT_MS: Final = "coalesce(floor(extract(epoch FROM m.stored_at) * 1000), 0)::bigint"
PAYABLE_COLUMNS: Final = f"""\
m.state, m.id, m.customer_id, m.login_id, m.processor, m.customer_profile_id,
           m.payment_profile_id, m.type, m.brand, m.last4, m.exp_month, m.exp_year,
           m.card_fingerprint, m.network_transaction_id,
           {STORED_AT_MS}"""
"""Of a row `m`; `payable_of` reads them."""
METHODS_OF_I: Final = """\
CROSS JOIN LATERAL (
               SELECT * FROM payment_methods
                WHERE (merchant_id, mode, id) >= (i.merchant_id, i.mode, i.payment_method_id)
                ORDER BY merchant_id, mode, id LIMIT 1) AS m
         WHERE m.merchant_id = i.merchant_id AND m.mode = i.mode AND m.id = i.payment_method_id"""
"""The stored methods `m` of many rows `i`. Only the primary key has this order. By equality, a plan
that was made while there were few methods may read all of a merchant's, by any index."""
PAYABLE_METHOD: Final = f"""
    SELECT {PAYABLE_COLUMNS}
      FROM payment_methods m
     WHERE m.merchant_id = $1 AND m.mode = $2 AND m.id = $3
"""
_METHODS: Final = """
    SELECT m.id, m.customer_id, m.state, m.type, m.brand, m.last4, m.exp_month, m.exp_year
      FROM unnest($3::uuid[]) AS wanted(id)
     CROSS JOIN LATERAL (
           SELECT * FROM payment_methods
            WHERE merchant_id = $1 AND mode = $2 AND id = wanted.id LIMIT 1) AS m
"""
_CUSTOMERS: Final = """
    SELECT c.id, c.reference, c.email, c.name, c.description, c.deleted_at IS NOT NULL
      FROM unnest($3::uuid[]) AS wanted(id)
     CROSS JOIN LATERAL (
           SELECT * FROM customers
            WHERE merchant_id = $1 AND mode = $2 AND id = wanted.id LIMIT 1) AS c
"""
_WHY_NOT: Final = {
    "making": "is not stored yet: the processor has not answered. Ask for it in a minute",
    "failed": "was not stored. Store it again",
    "deleting": "was deleted",
    "deleted": "was deleted",
}
"""By state: why it cannot be paid with."""


async def payable_method(
    runner: Runner, merchant_id: UUID, mode: Mode, method_id: UUID
) -> PayableMethod:
    """Return a stored method that can be charged now, in one statement by primary key.

    Raises PaymentMethodNotFound, and PaymentMethodGone if it was deleted or never stored.
    """
    return payable_of(
        await runner.fetchrow(PAYABLE_METHOD, merchant_id, mode, method_id), method_id
    )


def payable_of(row: Sequence[Any] | None, method_id: UUID) -> PayableMethod:
    """Return the method in a row of PAYABLE_COLUMNS; None: there is no such row. Raises what
    `payable_method` raises."""
    if row is None:
        shown = ids.typed(ids.PAYMENT_METHOD, method_id)
        raise PaymentMethodNotFound(f"there is no payment method {shown}")
    state, found_id, customer_id, login_id, processor, profile, method, *others = row
    if state != "active":
        shown = ids.typed(ids.PAYMENT_METHOD, method_id)
        raise PaymentMethodGone(f"The payment method {shown} {_WHY_NOT[state]}.")
    return PayableMethod(
        found_id, customer_id, login_id, processor, MethodIds(profile, method), *others
    )


async def payment_methods_of(
    runner: Runner, merchant_id: UUID, mode: Mode, method_ids: Collection[UUID]
) -> dict[UUID, MethodOfPayment]:
    """Return stored methods by their ids, deleted ones too, in one statement for a whole page. Ids
    that the merchant does not have in this mode are missing."""
    rows = await _fetch(runner, _METHODS, merchant_id, mode, method_ids)
    return {row[0]: MethodOfPayment(*row) for row in rows}


async def customers_of(
    runner: Runner, merchant_id: UUID, mode: Mode, customer_ids: Collection[UUID]
) -> dict[UUID, CustomerOfPayment]:
    """Return customers by their ids, deleted ones too, in one statement for a whole page. Ids that
    the merchant does not have in this mode are missing."""
    rows = await _fetch(runner, _CUSTOMERS, merchant_id, mode, customer_ids)
    return {row[0]: CustomerOfPayment(*row) for row in rows}


async def _fetch(
    runner: Runner, sql: str, merchant_id: UUID, mode: Mode, wanted: Collection[UUID]
) -> list[Any]:
    if not wanted:
        return []
    rows = await runner.fetch(sql, merchant_id, mode, list(dict.fromkeys(wanted)))
    return cast("list[Any]", rows)
