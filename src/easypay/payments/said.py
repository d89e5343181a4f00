"""What the processor said of an operation, and the rows with those words in them. Pure."""

from datetime import datetime

import msgspec

from easypay.payments.model import Operation, Payment
from easypay.payments.status import Status
from easypay.processors.base import Absent, Approved, Declined, HeldForReview, Rejected


class Said(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the processor said of one operation, its words verbatim; None where it was silent."""

    transaction_id: str | None = None
    auth_code: str | None = None
    decline_code: str | None = None
    code: str | None = None
    message: str | None = None
    avs_result: str | None = None
    avs: str | None = None
    cvv_result: str | None = None
    cvv: str | None = None
    retry: str | None = None
    network_transaction_id: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None


def said_of(learned: Approved | Declined | Rejected | HeldForReview | Absent) -> Said:
    match learned:
        case Approved() | HeldForReview():
            return Said(
                transaction_id=learned.transaction_id,
                auth_code=learned.auth_code,
                code=learned.code,
                message=learned.message,
                avs_result=learned.avs_result,
                avs=learned.avs,
                cvv_result=learned.cvv_result,
                cvv=learned.cvv,
                network_transaction_id=learned.network_transaction_id,
                card_brand=learned.card_brand,
                card_last4=learned.card_last4,
            )
        case Declined():
            declined = learned.undecided is None
            return Said(
                transaction_id=learned.transaction_id,
                decline_code=learned.decline_code if declined else None,
                code=learned.code,
                message=learned.message,
                avs_result=learned.avs_result,
                avs=learned.avs,
                cvv_result=learned.cvv_result,
                cvv=learned.cvv,
                retry=learned.retry if declined else None,
                network_transaction_id=learned.network_transaction_id,
                card_brand=learned.card_brand,
                card_last4=learned.card_last4,
            )
        case Rejected():
            return Said(
                decline_code=learned.decline_code,
                code=learned.code,
                message=learned.message,
                retry=learned.retry,
            )
        case Absent():
            return Said(message="No charge was found at the processor.")


def also_said_before(said: Said, payment: Payment) -> Said:
    """What was said when the payment was held stays, where the end of its review adds nothing."""
    return msgspec.structs.replace(
        said,
        transaction_id=said.transaction_id or payment.transaction_id,
        auth_code=said.auth_code or payment.auth_code,
        avs_result=said.avs_result or payment.avs_result,
        avs=said.avs if said.avs_result else payment.avs_word,
        cvv_result=said.cvv_result or payment.cvv_result,
        cvv=said.cvv if said.cvv_result else payment.cvv_word,
        network_transaction_id=said.network_transaction_id or payment.network_transaction_id,
    )


def operation_after(
    operation: Operation, state: str, said: Said, at: datetime, *, voided: bool
) -> Operation:
    return msgspec.structs.replace(
        operation,
        state=state,
        transaction_id=said.transaction_id,
        auth_code=said.auth_code,
        decline_code=said.decline_code,
        processor_code=said.code,
        processor_message=said.message,
        finished_at=at,
        voided=voided,
        retry=said.retry,
    )


def payment_after(
    payment: Payment,
    status: Status,
    authorized: int,
    captured: int,
    said: Said | None,
    at: datetime,
) -> Payment:
    """The payment as RECORD leaves it. `said` is None where it does not describe the payment."""
    after = msgspec.structs.replace(
        payment,
        status=status,
        authorized_minor=authorized,
        captured_minor=captured,
        version=payment.version + 1,
        active_operation=None,
        updated_at=at,
    )
    if said is None:
        return after
    return msgspec.structs.replace(
        after,
        decline_code=said.decline_code,
        transaction_id=said.transaction_id,
        network_transaction_id=said.network_transaction_id,
        auth_code=said.auth_code,
        avs_result=said.avs_result,
        avs_word=said.avs,
        cvv_result=said.cvv_result,
        cvv_word=said.cvv,
        retry=said.retry,
        processor_code=said.code,
        processor_message=said.message,
        card_brand=payment.card_brand or said.card_brand,
        card_last4=payment.card_last4 or said.card_last4,
    )
