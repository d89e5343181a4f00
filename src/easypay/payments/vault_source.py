"""A payment whose card or bank account is to be stored: what the processor's vault needs of it."""

from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.errors import FieldError, ValidationFailed
from easypay.mode import Mode
from easypay.payments.model import Status

Runner = Any

POINTER: Final = "#/payment_method/payment"
_UNDECIDED: Final = (Status.PENDING, Status.PROCESSING)
_READ: Final = """
    SELECT login_id, processor, status, transaction_id, method_type, card_brand, card_last4,
           card_exp_month, card_exp_year, card_fingerprint, network_transaction_id
      FROM payments WHERE merchant_id = $1 AND mode = $2 AND id = $3
"""


class VaultSource(msgspec.Struct, frozen=True):
    """A payment that the processor has. `login_id` None: the merchant's current account took it."""

    login_id: UUID | None
    processor: str
    status: str
    transaction_id: str
    method_type: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    card_fingerprint: bytes | None
    network_transaction_id: str | None


async def vault_source(
    runner: Runner, merchant_id: UUID, mode: Mode, payment_id: UUID
) -> VaultSource:
    """Return what is known of a payment's card or bank account. Raises ValidationFailed if there is
    no such payment, or the processor cannot have it."""
    row = await runner.fetchrow(_READ, merchant_id, mode, payment_id)
    shown = ids.typed(ids.PAYMENT, payment_id)
    if row is None:
        raise _refused("not_found", f"there is no payment {shown}")
    if row["status"] in _UNDECIDED:
        raise _refused(
            "undecided", f"the outcome of {shown} is not known yet: ask again when it is"
        )
    if row["transaction_id"] is None:
        raise _refused(
            "not_at_processor",
            f"{shown} is {row['status']}, and the processor has no transaction of it, so it has no "
            "card to store. Ask the customer for the card again",
        )
    return VaultSource(*row)


def _refused(code: str, why: str) -> ValidationFailed:
    return ValidationFailed.of([FieldError(POINTER, code, f"payment_method.payment: {why}.")])
