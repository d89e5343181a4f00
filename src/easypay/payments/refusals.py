"""Why a payment cannot be followed up as was asked, in words. Pure."""

from typing import Final

from easypay import ids
from easypay.errors import (
    AmountExceedsAuthorized,
    AmountExceedsCaptured,
    EasyPayError,
    InvalidState,
    PreconditionFailed,
    RequestInProgress,
)
from easypay.payments.model import Payment

_NEEDS: Final = {
    "capture": ("authorized", "an authorized payment can be captured"),
    "refund": ("captured", "a captured payment can be refunded"),
    "approve": ("in_review", "a payment in review can be approved"),
    "decline": ("in_review", "a payment in review can be declined"),
}
"""By kind: the status that a payment must have, and that in words."""


def why_not(payment: Payment, kind: str, amount: int | None, version: int | None) -> EasyPayError:
    """Which condition of BEGIN_FOLLOW_UPS the payment does not meet. `version` is If-Match's."""
    shown = ids.typed(ids.PAYMENT, payment.id)
    if payment.active_operation is not None:
        return RequestInProgress(
            f"Another operation on {shown} is in progress. Ask again when it is done.",
            retry_after_s=2,
        )
    if version is not None and payment.version != version:
        return PreconditionFailed(
            f"{shown} is at version {payment.version}, not {version}. Read it again."
        )
    if kind in _NEEDS and payment.status != _NEEDS[kind][0]:
        return InvalidState(f"{shown} is {payment.status}; only {_NEEDS[kind][1]}.")
    if kind == "capture":
        return AmountExceedsAuthorized(
            f"{amount} is more than the {payment.authorized_minor} authorized on {shown}."
        )
    if kind == "refund":
        return AmountExceedsCaptured(
            f"{shown} has {payment.refundable_minor} left to refund "
            f"({payment.captured_minor} captured, {payment.refunded_minor} refunded, "
            f"{payment.refund_reserved_minor} being refunded)."
        )
    if kind == "void" and payment.status not in ("authorized", "captured", "in_review"):
        return InvalidState(f"{shown} is {payment.status} and cannot be voided.")
    if kind == "void" and payment.refund_reserved_minor:
        return RequestInProgress(f"A refund of {shown} is in progress.", retry_after_s=2)
    if payment.settled_at is not None or payment.refunded_minor:
        return InvalidState(f"{shown} has settled or was refunded: refund it instead.")
    return RequestInProgress(f"{shown} changed just now. Try again.", retry_after_s=1)
