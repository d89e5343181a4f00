"""What to do if less was approved than was asked. Pure.

A prepaid card may be approved for its balance only. A payment is all or nothing, so that part is
voided, and the payment is declined only once the void is certain.
"""

from msgspec.structs import asdict

from easypay.money import Money
from easypay.processors.authorize_net import reason_meanings
from easypay.processors.base import Approved, Declined, Outcome, Unknown, answer_of


def falls_short(outcome: Outcome, amount_minor: int) -> bool:
    """Return whether an authorization or sale of `amount_minor` was approved for less. A reply
    that says "partially" without an amount counts."""
    if not isinstance(outcome, Approved):
        return False
    if outcome.amount_minor is None:
        return outcome.code == reason_meanings.PARTIAL
    return outcome.amount_minor < amount_minor


def after_void(approved: Approved, voided: Outcome, currency: str) -> Declined | Unknown:
    """Return the outcome of a partial approval, given the outcome of its void."""
    if not isinstance(voided, Approved):
        why = getattr(voided, "reason", None) or getattr(voided, "message", "")
        return Unknown(
            reason=f"approved in part as {approved.transaction_id}; its void: "
            f"{type(voided).__name__} {why}"[:255],
            code=approved.code,
        )
    return declined(approved, currency)


def declined(approved: Approved, currency: str) -> Declined:
    """Return the decline, once no money is held any more."""
    part = "a part of the amount"
    if approved.amount_minor is not None:
        part = f"only {Money(approved.amount_minor, currency).decimal_string()} {currency}"
    fields = asdict(answer_of(approved)) | {
        "auth_code": None,
        "decline_code": "insufficient_funds",
        "code": approved.code or reason_meanings.PARTIAL,
        "message": f"The card was approved for {part}, which was released.",
        "retry": reason_meanings.retry("insufficient_funds"),
    }
    return Declined(**fields)
