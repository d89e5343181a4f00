"""How a line ends, from the reply, the refusal or the operation that it led to. Pure.

`done`: the processor answered, be it with a decline. `failed`: nothing was done, and nothing will
be. `None` means that the end is not known yet.
"""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.batches.claims import LineEnd
from easypay.batches.model import Batch
from easypay.errors import EasyPayError
from easypay.payments.model import CREATES, Kind, Operation, State
from easypay.problem_table import PROBLEMS
from easypay.processors.base import ProcessorAnswer

_PASSING: Final = frozenset({"request_in_progress", "internal"})
"""Refusals that a later attempt can clear up, beside those that may be repeated with their key."""

NOT_EXECUTED: Final = "not_executed"
_NO_MONEY_MOVED: Final = (
    "The processor has not executed it, so no money moved. If it is still wanted, send it again in "
    "another file."
)


class _Shown(msgspec.Struct):
    """What is needed of the answer to a request: a payment, a refund or a problem."""

    id: str | None = None
    status: str | int | None = None
    amount: int | None = None
    captured_amount: int | None = None
    currency: str | None = None
    decline_code: str | None = None
    code: str | None = None
    detail: str | None = None
    payment_id: str | None = None


_decoder: Final = msgspec.json.Decoder(_Shown)


def end_of_reply(
    batch: Batch, line: int, kind: str, status: int, body: bytes, operation_id: UUID
) -> LineEnd | None:
    """Return how a line ends whose request was answered with this status and body."""
    if status == 202:
        return None
    shown = _decoder.decode(body)
    if status >= 400:
        return LineEnd(
            batch.merchant_id,
            batch.id,
            line,
            "failed",
            None if shown.payment_id is None else ids.parse(ids.PAYMENT, shown.payment_id),
            operation_id,
            shown.code or "failed",
            shown.detail,
            None,
            None,
        )
    refund = kind == "refund"
    named = shown.payment_id if refund else shown.id
    amount = shown.captured_amount if kind == "capture" else shown.amount
    failed = shown.status == "failed"
    return LineEnd(
        batch.merchant_id,
        batch.id,
        line,
        "failed" if failed else "done",
        ids.parse(ids.PAYMENT, named or ""),
        operation_id,
        NOT_EXECUTED if failed else str(shown.status),
        _NO_MONEY_MOVED if failed else shown.decline_code,
        amount,
        shown.currency,
    )


def end_of_operation(batch: Batch, line: int, kind: str, operation: Operation) -> LineEnd | None:
    """Return how a line ended by the operation that was begun for it; None if it is open.

    The reply of an operation that was unknown at first stays that: then its state counts.
    """
    status, body = operation.reply_status, operation.reply_body
    if status is not None and status != 202 and body is not None:
        return end_of_reply(batch, line, kind, status, body, operation.id)
    state = _STATE.get(operation.state)
    if state is None:
        return None
    if operation.state is State.DECLINED and operation.kind not in CREATES:
        state = "failed"  # the payment stays as it was
    outcome = _OUTCOME.get(operation.state) or _APPROVED[operation.kind]
    answer = operation.answer
    return LineEnd(
        merchant_id=batch.merchant_id,
        batch_id=batch.id,
        line=line,
        state=state,
        payment_id=operation.payment_id,
        operation_id=operation.id,
        outcome=outcome,
        detail=(
            _NO_MONEY_MOVED
            if outcome == NOT_EXECUTED
            else None
            if state == "done" and outcome != "declined"
            else _why(answer)
        ),
        amount_minor=None if state == "failed" else operation.amount_minor,
        currency=operation.currency,
    )


_STATE: Final[Mapping[State, str]] = {
    State.APPROVED: "done",
    State.DECLINED: "done",
    State.HELD: "done",
    State.REJECTED: "failed",
    State.ABSENT: "failed",
    State.CANCELLED: "failed",
}
"""How lines end by the state of their operations. Those of the others are open."""
_OUTCOME: Final[Mapping[State, str]] = {
    State.DECLINED: "declined",
    State.HELD: "in_review",
    State.REJECTED: "processor_rejected",
    State.ABSENT: NOT_EXECUTED,
    State.CANCELLED: NOT_EXECUTED,
}
_APPROVED: Final[Mapping[Kind, str]] = {
    Kind.SALE: "captured",
    Kind.AUTHORIZE: "authorized",
    Kind.CAPTURE: "captured",
    Kind.VOID: "voided",
    Kind.REFUND: "succeeded",
}


def _why(answer: ProcessorAnswer) -> str | None:
    return answer.decline_code or answer.message


def end_of_refusal(batch: Batch, line: int, error: EasyPayError) -> LineEnd | None:
    """Return how a line ends that was refused; None if it may be tried again as it is."""
    if error.code in _PASSING or PROBLEMS[error.code].repeat == "same_key":
        return None
    return LineEnd(
        batch.merchant_id,
        batch.id,
        line,
        "failed",
        None,
        None,
        error.code,
        error.detail,
        None,
        None,
    )
