"""A worker of queued payments: how it stops, and whose payments it sends first."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from easypay import clock
from easypay.payments import statements, store
from easypay.payments.model import PaymentKey
from easypay.payments.outcome_changes import decide
from easypay.processors.base import Approved
from harness import (
    QUICK,
    Shop,
    Stack,
    all_known,
    audit,
    connected,
    held,
    own_stack,
    queued_payment,
    until,
    until_locked,
)
from harness.worker_inside import AT_ONCE, queue_worker_inside

SLOW_MS = 150

stack = own_stack(**QUICK)
NO_CLAIMS = "LOCK TABLE queued_operations IN EXCLUSIVE MODE"


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[Shop]:
    made = await stack.shop(stack.only_gateway)
    yield made
    await stack.simulator.clear_faults()
    await made.client.aclose()


async def queue(stack: Stack, shop: Shop, count: int) -> None:
    answers = await asyncio.gather(*(queued_payment(stack, shop) for _ in range(count)))
    assert {each.status_code for each in answers} == {202}


async def rows(stack: Stack, shop: Shop, condition: str = "true") -> int:
    sql = f"SELECT count(*) FROM queued_operations WHERE merchant_id = $1 AND {condition}"
    found: int = await stack.value(sql, shop.merchant_id)
    return found


async def sent(shop: Shop) -> int:
    return len(await shop.all("/payments", status="captured"))


async def judged(stack: Stack, *shops: Shop) -> None:
    """Wait until everything of the shops has ended, and judge it."""
    for shop in shops:

        async def empty(shop: Shop = shop) -> bool:
            return await rows(stack, shop) == 0

        await until(empty, what="the queue is empty")
        await all_known(stack, shop)
        assert await audit(stack, shop) == []


async def test_a_full_worker_that_stops_claims_nothing_more_and_ends_what_it_has(
    stack: Stack, shop: Shop
) -> None:
    await stack.simulator.slow(shop.login, ms=SLOW_MS)
    await queue(stack, shop, AT_ONCE + 4)

    async def full() -> bool:
        return await rows(stack, shop, "attempt = 1") == AT_ONCE

    async with queue_worker_inside(stack) as worker:
        await until(full, what="as many are claimed as may be")
        await worker.stop(5.0)
    assert await rows(stack, shop) == await rows(stack, shop, "attempt = 0") == 4
    assert len(await stack.simulator.truth(login=shop.login)) == AT_ONCE
    async with queue_worker_inside(stack):
        await judged(stack, shop)


@pytest.mark.parametrize("within_s", [5.0, 0.05])
async def test_what_is_being_claimed_when_a_worker_stops_is_done_or_given_back(
    stack: Stack, shop: Shop, within_s: float
) -> None:
    """The claim waits for a lock when the worker is told to stop."""
    await stack.simulator.slow(shop.login, ms=SLOW_MS)
    await queue(stack, shop, 3)
    async with queue_worker_inside(stack) as worker:
        async with held(stack.dsn, NO_CLAIMS):
            await until_locked(stack.dsn, "easypay work", what="a claim waits")
            stopping = asyncio.create_task(worker.stop(within_s))
            await asyncio.sleep(0)  # so that it has begun to stop
        await stopping
    if within_s > 1:
        assert await rows(stack, shop) == 0
        assert len(await stack.simulator.truth(login=shop.login)) == 3
    else:
        assert await rows(stack, shop) == await rows(stack, shop, "due_at <= db_now()") == 3
    async with queue_worker_inside(stack):
        await judged(stack, shop)


IN_FLIGHT = "SELECT (SELECT id FROM operations WHERE merchant_id = $1 AND state = 'in_flight')"


async def sending(stack: Stack, shop: Shop) -> UUID:
    """Queue a payment whose call takes a moment. Return its operation's id once it is sent."""
    await stack.simulator.slow(shop.login, ms=3 * SLOW_MS)
    await queue(stack, shop, 1)

    async def begun() -> UUID | None:
        found: UUID | None = await stack.value(IN_FLIGHT, shop.merchant_id)
        return found

    return await until(begun, what="the payment is begun")


async def test_a_payment_leaves_the_queue_in_the_commit_of_its_outcome(
    stack: Stack, shop: Shop
) -> None:
    """While its row cannot be deleted, nobody sees the outcome."""
    async with queue_worker_inside(stack):
        operation_id = await sending(stack, shop)
        row = f"SELECT FROM queued_operations WHERE operation_id = '{operation_id}' FOR UPDATE"
        async with held(stack.dsn, row):
            await until_locked(stack.dsn, "easypay record", what="the outcome waits")
            assert await sent(shop) == 0
        await judged(stack, shop)


async def test_a_payment_whose_outcome_another_process_recorded_leaves_the_queue(
    stack: Stack, shop: Shop
) -> None:
    async with queue_worker_inside(stack):
        operation_id = await sending(stack, shop)
        async with connected(stack.dsn) as connection:
            operation = await store.find_operation(connection, shop.merchant_id, operation_id)
            assert operation is not None
            key = PaymentKey(operation.merchant_id, operation.mode, operation.payment_id)
            payment = await store.find_payment(connection, key)
            assert payment is not None
            # The processor has taken it, and its answer is still to come.
            (taken,) = await until(lambda: stack.simulator.truth(login=shop.login), what="a call")
            approved = Approved(transaction_id=taken["trans_id"])
            change = decide(operation, payment, approved, at=clock.now(), first_inquiry_s=60)
            record = statements.in_months(statements.RECORD, "")
            assert await connection.fetch(record, *statements.record_arguments([change]))
        await judged(stack, shop)


async def test_a_merchants_only_payment_does_not_wait_for_anothers_backlog(
    stack: Stack, shop: Shop
) -> None:
    for_many = 10 * AT_ONCE
    other = await stack.shop(stack.only_gateway)
    await stack.simulator.slow(shop.login, ms=SLOW_MS)
    await queue(stack, shop, for_many)
    await queue(stack, other, 1)

    async def is_sent() -> bool:
        return await rows(stack, other) == 0

    async with queue_worker_inside(stack):
        await until(is_sent, what="the other merchant's payment is sent")
        assert await rows(stack, shop) > for_many // 2
        await judged(stack, shop, other)
    await other.client.aclose()


async def test_a_database_clock_that_was_set_back_holds_up_nothing(
    stack: Stack, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became due an hour ahead is due once the worker looks for such rows."""
    monkeypatch.setattr("easypay.worker.queued_payments._CLOCK_EVERY_S", 0.1)
    await stack.move_clock(3600)
    await queue(stack, shop, 1)
    await stack.move_clock(0)
    async with queue_worker_inside(stack):
        await judged(stack, shop)
