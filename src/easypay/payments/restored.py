"""Repeats of requests whose keys were lost with a restore (docs/decisions/0049).

`easypay db after-restore` brings back what the processor had done, and not the keys. So for 30 days
a payment that asks for the same is refused, before anything is sent, and names the payment that it
repeats. Only merchants who have such payments are checked: `Caller.restored`.

Alike are payments of one amount, currency and order reference, unless their last four digits
differ. A token shows no digits before it is sent: then order reference and amount decide. Without
an order reference (or with one that is too long for the processor to keep) the digits must be the
same, and only on the first day: later it is rather a second purchase.
"""

from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from easypay import ids
from easypay.errors import RepeatsRestoredPayment
from easypay.payments import store
from easypay.payments.begin import Ask
from easypay.payments.duplicates import ENDED_SQL
from easypay.payments.model import Payment

DAYS: Final = 30
"""As long as a key lives at least."""
_KEPT_WHOLE: Final = 25
"""An order reference of at most so many UTF-16 units is kept whole by every processor."""

_CHARGE: Final = f"""
    SELECT r.payment_id, r.transaction_id
      FROM restored_operations r
     WHERE r.merchant_id = $1 AND r.mode = $2 AND r.kind = 'charge'
       AND r.amount_minor = $3 AND r.currency = $4
       AND r.restored_at > db_now() - interval '{DAYS} days'
       AND CASE WHEN r.order_digest IS NOT NULL
                THEN r.order_digest = $5 AND coalesce(r.last4 = $6, true)
                ELSE $7 AND r.last4 = $6 AND r.restored_at > db_now() - interval '1 day' END
       AND NOT EXISTS (SELECT FROM payments p
                        WHERE p.merchant_id = r.merchant_id AND p.mode = r.mode
                          AND p.id = r.payment_id AND p.status IN ({ENDED_SQL}))
     ORDER BY r.operation_id LIMIT 1
"""
_REFUND: Final = f"""
    SELECT payment_id, transaction_id FROM restored_operations
     WHERE merchant_id = $1 AND mode = $2 AND kind = 'refund' AND amount_minor = $3
       AND payment_id = $4 AND restored_at > db_now() - interval '{DAYS} days'
     ORDER BY operation_id LIMIT 1
"""


def digest_of_order(order_reference: str | None) -> bytes | None:
    """Return what an order reference is compared by. None if there is none."""
    text = (order_reference or "").strip()
    return sha256(text.encode()).digest() if text else None


async def refuse_repeated_charge(pool: Any, ask: Ask, payment: Payment) -> None:
    """Raise RepeatsRestoredPayment if a payment asks for a charge that a restore had lost.

    Nothing is written. A key that was used since then leads to its own reply, not here.
    """
    if ask.allow_duplicate:
        return
    order = (payment.details.order_reference or "").strip()
    row = await pool.fetchrow(
        _CHARGE,
        *(payment.merchant_id, payment.mode, payment.amount_minor, payment.currency),
        *(digest_of_order(order), payment.card_last4),
        not order or len(order.encode("utf-16-le")) > 2 * _KEPT_WHOLE,
    )
    await _refuse(pool, ask, row, "charge")


async def refuse_repeated_refund(pool: Any, ask: Ask, payment_id: UUID, amount: int) -> None:
    """Raise RepeatsRestoredPayment if a refund of this amount came back for the payment."""
    if ask.allow_duplicate:
        return
    caller = ask.caller
    row = await pool.fetchrow(_REFUND, caller.merchant_id, caller.mode, amount, payment_id)
    await _refuse(pool, ask, row, "refund")


async def _refuse(pool: Any, ask: Ask, row: Any, what: str) -> None:
    if row is None:
        return
    caller = ask.caller
    if await store.find_key(pool, caller.merchant_id, caller.mode, ask.key) is not None:
        return
    raise repeats_restored(row["payment_id"], row["transaction_id"], what)


def repeats_restored(
    payment_id: UUID | None, transaction_id: str, what: str
) -> RepeatsRestoredPayment:
    """Return the refusal of a request that asks for what a restore had lost."""
    shown = None if payment_id is None else ids.typed(ids.PAYMENT, payment_id)
    which = f"of {shown} " if shown else ""
    return RepeatsRestoredPayment(
        f"The gateway's database was restored, and the keys of some requests are lost. This asks "
        f"for the same as the {what} {which}that the processor has done already, as "
        f"{transaction_id}. Nothing was sent, and the key is unused. If it is the same purchase, "
        f"use that payment. If you want this one besides, send the request again with "
        f"Allow-Duplicate: true.",
        payment_id=shown,
    )
