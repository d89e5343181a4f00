"""What a used idempotency key leads to: a stored reply, or an operation to resume.

A key is claimed by the statements that begin an operation (`statements.py`), read from its header
by `api/idempotency.py`, and purged by `purge.py`. `flows` calls this if a claim did not succeed.
"""

from typing import Any
from uuid import UUID

import msgspec

from easypay import ids
from easypay.errors import IdempotencyKeyReused, RequestInProgress
from easypay.payments import store
from easypay.payments.begin import Ask
from easypay.payments.model import Operation, Spent, State


class Reply(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The reply to the merchant. `spent` is None for a replay, which does nothing."""

    status: int
    body: bytes
    payment_id: UUID
    operation_id: UUID
    replayed: bool = False
    spent: Spent | None = None


async def use_of(pool: Any, ask: Ask) -> store.KeyUse | None:
    """Return what the request's key was used for, or None."""
    return await store.find_key(pool, ask.caller.merchant_id, ask.caller.mode, ask.key)


async def first_reply(pool: Any, ask: Ask) -> Reply | None:
    """Return the reply to the first request with this key, if this one would be refused today.

    None if the refusal stands: the key is unused, or belongs to another request, or its operation
    was never sent and would be sent now. Raises RequestInProgress.
    """
    use = await use_of(pool, ask)
    if use is None or use.fingerprint != ask.fingerprint:
        return None
    if use.operation.reply_status is None and use.operation.state is State.NOT_SENT:
        return None
    reply = await reply_or_operation(pool, ask, ids.new_id(), use)
    assert isinstance(reply, Reply), "an operation that was not sent is excluded above"
    return reply


async def reply_or_operation(
    pool: Any, ask: Ask, operation_id: UUID, use: store.KeyUse | None
) -> Reply | Operation:
    """Return the stored reply of a used key, or the operation to resume.

    The operation is our own (`operation_id`) if its begin committed but the answer was lost, or one
    that was proven never sent and is restarted.

    Raises IdempotencyKeyReused if the key belongs to another request, and RequestInProgress while
    the first request is running.
    """
    if use is None:
        raise RequestInProgress("The key was released just now. Try again.", retry_after_s=1)
    operation = use.operation
    if use.fingerprint != ask.fingerprint:
        raise IdempotencyKeyReused(
            "This key belongs to another request, with another body or path. "
            "Use a new key for a new request."
        )
    if operation.id == operation_id:
        return operation
    if operation.reply_status is not None and operation.reply_body is not None:
        return Reply(
            status=operation.reply_status,
            body=operation.reply_body,
            payment_id=operation.payment_id,
            operation_id=operation.id,
            replayed=True,
        )
    if operation.state is State.NOT_SENT:
        login = ask.caller.login
        reopened = await store.reopen(pool, operation, None if login is None else login.id)
        if reopened is not None:
            return reopened
    raise RequestInProgress("The first request with this key is still running.", retry_after_s=1)
