"""Refusals in words: our own, before the processor is asked, and the processor's. Pure."""

from collections.abc import Mapping
from typing import Final, NamedTuple, assert_never
from uuid import UUID

from easypay import ids
from easypay.clock import rfc3339
from easypay.errors import (
    AlreadySettled,
    AmountExceedsAuthorized,
    AmountExceedsCaptured,
    Archived,
    EasyPayError,
    InvalidState,
    NotExecuted,
    NotSettled,
    PreconditionFailed,
    ProcessorAccountRefused,
    ProcessorInvalidState,
    ProcessorNotReady,
    ProcessorNotSetUp,
    ProcessorRejected,
    ProcessorUnavailable,
    RequestInProgress,
)
from easypay.mode import Mode
from easypay.payments.model import CREATES, GONE_BACK, Kind, Operation, Payment, Status
from easypay.processors.base import Absent, Declined, HeldForReview, NotSent, Rejected

_NEEDS: Final = {
    Kind.CAPTURE: (Status.AUTHORIZED, "an authorized payment can be captured"),
    Kind.REFUND: (Status.CAPTURED, "a captured payment can be refunded"),
    Kind.APPROVE: (Status.IN_REVIEW, "a payment in review can be approved"),
    Kind.DECLINE: (Status.IN_REVIEW, "a payment in review can be declined"),
}
"""By kind: the status that a payment must have, and the rule in words."""
_VOIDABLE: Final = (Status.AUTHORIZED, Status.CAPTURED, Status.IN_REVIEW)


def archived(payment_id: UUID, month: str, archive: str) -> Archived:
    """Return the refusal for an id whose month (`2026_01`) was archived, as `archive`."""
    return Archived(
        f"{ids.typed(ids.PAYMENT, payment_id)} is of {month.replace('_', '-')}. The payments of "
        f"that month were archived ({archive}). Ask the operator for them.",
        archive=archive,
    )


def why_not(payment: Payment, kind: Kind, amount: int | None, version: int | None) -> EasyPayError:
    """Return which condition of BEGIN_FOLLOW_UPS is not met. `version` is If-Match's; `amount` is
    None for all that is left. If all are met by now, the payment changed since the begin was
    refused: then it is RequestInProgress, and the same may begin the next time."""
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
    match kind:
        case Kind.CAPTURE:
            if amount is not None and amount > payment.authorized_minor:
                return AmountExceedsAuthorized(
                    f"{amount} is more than the {payment.authorized_minor} authorized on {shown}."
                )
        case Kind.REFUND:
            if payment.settlement_state in GONE_BACK:
                return InvalidState(
                    f"The bank has taken the money of {shown} back: it is "
                    f"{payment.settlement_state}. A refund would give it back twice."
                )
            if payment.refundable_minor < (1 if amount is None else amount):
                return AmountExceedsCaptured(
                    f"{shown} has {payment.refundable_minor} left to refund "
                    f"({payment.captured_minor} captured, {payment.refunded_minor} refunded, "
                    f"{payment.refund_reserved_minor} being refunded)."
                )
        case Kind.VOID:
            if payment.status not in _VOIDABLE:
                return InvalidState(f"{shown} is {payment.status} and cannot be voided.")
            if payment.refund_reserved_minor:
                return RequestInProgress(f"A refund of {shown} is in progress.", retry_after_s=2)
            if payment.settled_at is not None:
                return AlreadySettled(
                    f"{shown} settled at {rfc3339(payment.settled_at)}: refund it instead."
                )
            if payment.refunded_minor:
                return AlreadySettled(
                    f"A part of {shown} was refunded, so it has settled: refund the rest instead."
                )
        case Kind.APPROVE | Kind.DECLINE:
            pass
        case Kind.AUTHORIZE | Kind.SALE:
            raise AssertionError(f"{kind} begins a payment and follows none")
        case _:
            assert_never(kind)
    return RequestInProgress(f"{shown} changed just now. Try again.", retry_after_s=1)


class Refusal(NamedTuple):
    """The problem for a refusal by the processor, and what the merchant should do first."""

    error: type[EasyPayError]
    do: str


_REJECTED, _STATE = ProcessorRejected, ProcessorInvalidState
_OTHER: Final = Refusal(_REJECTED, "Correct the cause.")
_SET_UP: Final = "The operator or the processor's support must set the account up."
REFUSALS: Final[Mapping[str, Refusal]] = {
    "generic_error": _OTHER,
    "generic_decline": Refusal(_REJECTED, "Another card or bank account may work."),
    "call_issuer": Refusal(_REJECTED, "The customer must call the card's issuer."),
    "pick_up_card": Refusal(_REJECTED, "Take another card."),
    "insufficient_funds": Refusal(_REJECTED, "Take less, or another card."),
    "invalid_card_number": Refusal(_REJECTED, "Correct the card number."),
    "invalid_expiry": Refusal(_REJECTED, "Correct the card's expiry."),
    "expired_card": Refusal(_REJECTED, "Take another card."),
    "invalid_cvc": Refusal(_REJECTED, "Correct the card code."),
    "cvc_mismatch": Refusal(_REJECTED, "Correct the card code."),
    "address_mismatch": Refusal(_REJECTED, "Correct the billing address."),
    "address_or_cvc_mismatch": Refusal(_REJECTED, "Correct the billing address and card code."),
    "fraud_suspected": Refusal(_REJECTED, "Do not try again: a fraud filter refused it."),
    "transaction_not_allowed": Refusal(_REJECTED, "Take another card or bank account."),
    "card_not_accepted": Refusal(_REJECTED, "Take a card of another brand."),
    "invalid_payment_token": Refusal(_REJECTED, "Ask the customer for the card again."),
    "stored_method_not_found": Refusal(_REJECTED, "Ask the customer for the card again."),
    "invalid_bank_account": Refusal(_REJECTED, "Correct the bank account."),
    "bank_account_not_accepted": Refusal(_REJECTED, "Take a card, or another bank account."),
    "invalid_amount": Refusal(_REJECTED, "Correct the amount."),
    "amount_exceeds_authorization": Refusal(_REJECTED, "Capture at most what was authorized."),
    "amount_exceeds_captured": Refusal(_REJECTED, "Refund at most what is left."),
    "currency_not_supported": Refusal(_REJECTED, "Use a currency of the merchant's account."),
    "transaction_not_found": Refusal(_STATE, "Read the payment before you decide."),
    "not_approved": Refusal(_STATE, "Take another payment."),
    "not_refundable": Refusal(_STATE, "Read the payment; it may be refundable once it settled."),
    "not_voidable": Refusal(_STATE, "Read the payment; refund it if it was captured."),
    "invalid_state": Refusal(_STATE, "Read the payment before you decide."),
    "duplicate": Refusal(_STATE, "Read the payment before you decide."),
    "processor_unavailable": Refusal(ProcessorNotReady, "Wait some minutes."),
    "account_not_set_up": Refusal(ProcessorNotSetUp, _SET_UP),
}
"""By our decline code. 422 if the request must change, 409 if the payment, the account or the
moment does not allow it. Never 5xx: a client would repeat a key that is used up."""

_CREATED: Final[Mapping[str, str]] = {Kind.SALE: "payment", Kind.AUTHORIZE: "authorization"}


def refused_by_processor(kind: Kind, no: Rejected | Declined) -> EasyPayError:
    """Return the problem for an operation of this kind that the processor refused."""
    error, do = REFUSALS.get(no.decline_code or "", _OTHER)
    why = f"{no.message.rstrip('.')} (code {no.code})" if no.message else f"code {no.code}"
    return error(
        f"The processor refused the {_CREATED.get(kind, kind)}: {why}. No money moved. {do} "
        "Another attempt is a new request with a new Idempotency-Key."
    )


_TOO_EARLY: Final = {
    False: "The payment has not settled yet, and until then only a full refund is possible. No "
    "money moved. Refund all of it now, or this part once it has settled; either is a new "
    "request with a new Idempotency-Key.",
    True: "The payment is being settled just now: too late to void it, too early to refund it. No "
    "money moved. Refund it when it has settled, with a new Idempotency-Key.",
}
"""By whether the refund is of the whole payment."""


def refusal_of(
    operation: Operation,
    payment: Payment,
    learned: Declined | Rejected | HeldForReview | Absent,
) -> EasyPayError | None:
    """Return the problem to answer with; None if the payment or refund shows the outcome."""
    follow_up = operation.kind not in CREATES and operation.kind is not Kind.REFUND
    if isinstance(learned, Rejected) and learned.not_settled:
        return NotSettled(_TOO_EARLY[operation.amount_minor == payment.voidable_minor])
    plain = operation.kind in (Kind.CAPTURE, Kind.VOID)  # they show no decline
    if isinstance(learned, Rejected) or (isinstance(learned, Declined) and plain):
        return refused_by_processor(operation.kind, learned)
    if isinstance(learned, Absent) and follow_up:
        return NotExecuted(
            f"The {operation.kind} was not carried out: the processor was asked until it was "
            "proven, and the operation is closed. No money moved. If it is still wanted, send a "
            "new request with a new Idempotency-Key."
        )
    return None


def not_sent(mode: Mode, outcome: NotSent) -> EasyPayError:
    """Return the problem for a request that was not sent: nothing is stored under the key."""
    if outcome.account_refusal is None:
        return ProcessorUnavailable(
            f"The request never left ({outcome.reason}): no money moved. Repeat it with "
            "the same Idempotency-Key."
        )
    return ProcessorAccountRefused(
        f"The processor refused the credentials of this merchant's {mode} account "
        f"(code {outcome.account_refusal.code}). No money moved. The operator must correct the "
        "account; then repeat the request with the same Idempotency-Key."
    )
