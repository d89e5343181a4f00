"""A batch and its lines as the API, events and the command line show them. Pure."""

from typing import Literal

import msgspec

from easypay import ids
from easypay.batches.model import Batch, LineRow, Progress, rate_of
from easypay.clock import rfc3339, rfc3339_or_none


class BatchSumView(msgspec.Struct, frozen=True):
    """Lines that ended in the same way. `amount` is in minor units of `currency`."""

    operation: str
    outcome: str
    currency: str | None
    lines: int
    amount: int


class BatchView(msgspec.Struct, frozen=True):
    """A batch and how far it has come."""

    id: str
    name: str
    state: Literal["invalid", "ready", "running", "paused", "done", "cancelled"]
    reason: str | None
    format: str
    on_error: str
    mode: str
    bytes: int
    lines: int
    wrong_lines: int
    waiting: int
    under_way: int
    unknown: int
    done: int
    failed: int
    cancelled: int
    sums: list[BatchSumView]
    rate: float
    seconds_left: int | None
    lines_per_second: float | None
    at_once: int
    created_at: str
    started_at: str | None
    ended_at: str | None


class BatchLineView(msgspec.Struct, frozen=True):
    """A line of a batch and what became of it."""

    line: int
    line_reference: str | None
    operation: str | None
    state: str
    outcome: str | None
    detail: str | None
    payment_id: str | None
    operation_id: str | None
    amount: int | None
    currency: str | None


class BatchErrorView(msgspec.Struct, frozen=True):
    """What is wrong with a line, and where: a JSON pointer, a code and a sentence."""

    line: int
    field: str
    code: str
    message: str


def batch_view(batch: Batch, progress: Progress) -> BatchView:
    """Return a batch as the API and the command line show it."""
    done, failed = progress.of("done"), progress.of("failed")
    left = batch.lines - done - failed
    unended = left - progress.claimed - progress.open
    rate = rate_of(batch, progress)
    cancelled = unended if batch.state == "cancelled" else 0
    runs = batch.state in ("running", "paused")
    return BatchView(
        id=ids.typed(ids.BATCH, batch.id),
        name=batch.name,
        state=batch.state,  # type: ignore[arg-type]  # the table allows no other
        reason=batch.reason,
        format=batch.format,
        on_error=batch.on_error,
        mode=batch.mode,
        bytes=batch.bytes,
        lines=batch.lines,
        wrong_lines=batch.wrong,
        waiting=unended - cancelled,
        under_way=progress.claimed,
        unknown=progress.open,
        done=done,
        failed=failed,
        cancelled=cancelled,
        sums=[
            BatchSumView(s.operation, s.outcome, s.currency or None, s.lines, s.amount_minor)
            for s in progress.sums
        ],
        rate=round(rate, 1),
        seconds_left=round(left / rate) if rate > 0 and runs else None,
        lines_per_second=batch.lines_per_second,
        at_once=batch.at_once,
        created_at=rfc3339(batch.created_at),
        started_at=rfc3339_or_none(batch.started_at),
        ended_at=rfc3339_or_none(batch.ended_at),
    )


def line_view(batch: Batch, row: LineRow) -> BatchLineView:
    """Return a line as the API shows it."""
    stopped = row.state == "waiting" and batch.state == "cancelled"
    return BatchLineView(
        line=row.line,
        line_reference=row.reference,
        operation=row.operation or None,
        state="cancelled" if stopped else row.state,
        outcome=row.outcome,
        detail=None if row.state == "skipped" else row.detail,
        payment_id=None if row.payment_id is None else ids.typed(ids.PAYMENT, row.payment_id),
        operation_id=(
            None if row.operation_id is None else ids.typed(ids.OPERATION, row.operation_id)
        ),
        amount=row.amount_minor,
        currency=row.currency,
    )
