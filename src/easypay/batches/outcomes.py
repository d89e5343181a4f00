"""How a line ends, from the reply, the refusal or the operation that it led to. Pure.

`done`: the processor answered, be it with a decline. `failed`: nothing was done, and nothing will
be. `None` means that the end is not known yet.
"""

from typing import Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.batches.claims import LineEnd
from easypay.batches.model import Batch
from easypay.errors import EasyPayError
from easypay.payments.model import Operation
from easypay.problem_table import PROBLEMS

_PASSING: Final = frozenset({"request_in_progress", "internal"})
"""Refusals that a later attempt can clear up, beside those that may be repeated with their key."""


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
_UNKNOWN: Final = frozenset({"processing", "pending"})


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
    return LineEnd(
        batch.merchant_id,
        batch.id,
        line,
        "failed" if shown.status == "failed" else "done",
        ids.parse(ids.PAYMENT, named or ""),
        operation_id,
        str(shown.status),
        shown.decline_code,
        amount,
        shown.currency,
    )


def end_of_operation(batch: Batch, line: int, kind: str, operation: Operation) -> LineEnd | None:
    """Return how a line ended by the operation that was begun for it."""
    if operation.reply_status is None or operation.reply_body is None:
        return None
    return end_of_reply(
        batch, line, kind, operation.reply_status, operation.reply_body, operation.id
    )


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
