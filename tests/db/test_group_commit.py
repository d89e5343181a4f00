"""Group commit on real PostgreSQL: no item may harm another of its group."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import row_builders
from cutting_proxy import CuttingProxy
from msgspec.structs import replace
from row_builders import approved, begun, committer, new_payment, refund_of

from easypay import ids
from easypay.clock import monotonic
from easypay.errors import DatabaseUnavailable, Overloaded
from easypay.payments import statements
from easypay.payments.begin import NewPayment
from easypay.payments.model import PaymentKey, State, Status
from harness import (
    QUICK,
    SHARED,
    Gateway,
    Shop,
    Stack,
    audit,
    held,
    payment_uuid,
    until,
    until_locked,
)


async def count(connection: Any, table: str) -> int:
    number: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return number


KEYS_LOCKED = "LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE"


async def captured(dsn: str, connection: Any, merchant_id: UUID, number: int) -> list[NewPayment]:
    """Return payments of 25.00 that were captured."""
    begin, record = committer(statements.BEGIN, dsn), committer(statements.RECORD_CHANGES, dsn)
    new = [new_payment(merchant_id) for _ in range(number)]
    assert all(await asyncio.gather(*map(begin.submit, new)))
    changes = [approved(*await begun(connection, each)) for each in new]
    assert all(await asyncio.gather(*map(record.submit, changes)))
    await begin.close()
    await record.close()
    return new


# Gathering ---------------------------------------------------------------------------------------


async def test_items_that_nobody_waits_for_gather_and_none_is_left(
    database: str, start: Any
) -> None:
    gather_s = 0.02
    begin = start(statements.BEGIN, database, gather_s=gather_s)
    assert await begin.submit(new_payment(ids.new_id()))
    assert begin.groups == 1
    began, submitted = monotonic(), []
    for _ in range(100):
        submitted.append(asyncio.create_task(begin.submit(new_payment(ids.new_id()))))
        await asyncio.sleep(0.001)
    took_s = monotonic() - began
    last = asyncio.create_task(begin.submit(new_payment(ids.new_id())))
    await asyncio.sleep(0)
    await begin.close()  # it waits for nothing more to come
    assert all(await asyncio.gather(*submitted, last))
    assert begin.groups <= took_s / gather_s + 5  # the first, the last, and those that were full


async def test_enough_for_a_group_waits_for_no_more(database: str, start: Any) -> None:
    begin = start(statements.BEGIN, database, gather_s=60.0, size=8)
    new = [new_payment(ids.new_id()) for _ in range(4)]
    async with asyncio.timeout(30):
        assert all(await asyncio.gather(*map(begin.submit, new)))


# One key twice -----------------------------------------------------------------------------------


async def test_one_key_twice_in_one_statement_makes_one_payment(
    database: str, connection: Any
) -> None:
    merchant = ids.new_id()
    same = [new_payment(merchant, key="order-1") for _ in range(5)]
    lane = row_builders.lane(statements.BEGIN, database)
    answer = await lane.fetch(statements.begin_payments_arguments(same))
    assert statements.begin_payments_results(same, answer) == [True, False, False, False, False]
    for table in ("idempotency_keys", "payments", "operations"):
        assert await count(connection, table) == 1
    await lane.close()


async def test_one_key_sent_many_times_to_two_committers_is_claimed_once(
    database: str, connection: Any, start: Any
) -> None:
    """Two processes, the same 40 keys in opposite order, each key three times in each."""
    merchant = ids.new_id()
    keys = [f"order-{n}" for n in range(40)]
    first = start(statements.BEGIN, database, size=16)
    second = start(statements.BEGIN, database, size=16)
    claims = await asyncio.gather(
        *(first.submit(new_payment(merchant, key)) for key in keys * 3),
        *(second.submit(new_payment(merchant, key)) for key in keys[::-1] * 3),
    )
    assert sum(claims) == 40
    for table in ("idempotency_keys", "payments", "operations"):
        assert await count(connection, table) == 40


async def test_one_key_for_follow_ups_in_two_committers_is_claimed_once(
    database: str, connection: Any, start: Any
) -> None:
    """On one payment and on two: the later one finds the key, and none fails."""
    merchant = ids.new_id()
    payments = await captured(database, connection, merchant, 12)
    first = start(statements.FOLLOW_UP, database)
    second = start(statements.FOLLOW_UP, database)
    for here, there in [(p, p) for p in payments[:6]] + [
        *zip(payments[6:9], payments[9:], strict=True)
    ]:
        key = here.key + " refund"
        taken = await asyncio.gather(
            first.submit(refund_of(here, 100, key)), second.submit(refund_of(there, 100, key))
        )
        assert [payment is not None for payment in taken].count(True) == 1
    assert await count(connection, "operations") == 12 + 9
    reserved = await connection.fetchval("SELECT sum(refund_reserved_minor) FROM payments")
    assert reserved == 900


async def test_of_two_refunds_in_one_statement_one_is_accepted(
    database: str, connection: Any
) -> None:
    """An UPDATE joined to two rows applies only one of them, which must be applied as a whole."""
    (payment,) = await captured(database, connection, ids.new_id(), 1)
    items = [refund_of(payment, 1000), refund_of(payment, 700)]
    lane = row_builders.lane(statements.FOLLOW_UP, database)
    answer = await lane.fetch(statements.begin_follow_ups_arguments(items))
    results = statements.begin_follow_ups_results(items, answer)
    (winner,) = [item for item, taken in zip(items, results, strict=True) if taken is not None]
    reserved = await connection.fetchval("SELECT refund_reserved_minor FROM payments")
    assert reserved == winner.asked_minor
    refunds = await connection.fetch(
        "SELECT id, amount_minor FROM operations WHERE kind = 'refund'"
    )
    assert [tuple(row) for row in refunds] == [(winner.operation_id, winner.asked_minor)]
    assert await count(connection, "idempotency_keys") == 2
    await lane.close()


async def test_refunds_of_one_payment_never_run_together(
    database: str, connection: Any, start: Any
) -> None:
    payments = await captured(database, connection, ids.new_id(), 3)
    running: list[UUID] = []
    together = 0
    largest = 0

    def watch(event: str, items: Sequence[Any]) -> None:
        nonlocal together, largest
        touched = [item.payment_id for item in items]
        if event == "begins":
            running.extend(touched)
            together += len(running) - len(set(running))
            largest = max(largest, len(items))
        else:
            for each in touched:
                running.remove(each)

    follow_up = start(statements.FOLLOW_UP, database, watch=watch)
    taken = await asyncio.gather(
        *(follow_up.submit(refund_of(payment, 100)) for payment in payments for _ in range(40))
    )
    assert together == 0
    assert largest > 1, "refunds of different payments share a group"
    assert len([payment for payment in taken if payment is not None]) == 3 * 25
    found = await connection.fetch("SELECT captured_minor, refund_reserved_minor FROM payments")
    assert [tuple(row) for row in found] == [(2500, 2500)] * 3
    assert await count(connection, "operations") == 3 * 26


# A bad row among good ones -----------------------------------------------------------------------


async def test_a_bad_row_fails_alone(database: str, connection: Any, start: Any) -> None:
    merchant = ids.new_id()
    good = [new_payment(merchant) for _ in range(7)]
    bad = new_payment(merchant, amount_minor=0)
    begin = start(statements.BEGIN, database)
    results = await asyncio.gather(
        *map(begin.submit, [*good[:3], bad, *good[3:]]), return_exceptions=True
    )
    (refused,) = [result for result in results if result is not True]
    assert isinstance(refused, asyncpg.CheckViolationError)
    assert refused.constraint_name == "amount_is_positive"
    assert begin.groups == 1 + 8, "the group, then each item alone"
    for table in ("idempotency_keys", "payments", "operations"):
        assert await count(connection, table) == 7


@pytest.mark.parametrize(
    "over",
    [{"metadata": "\ud800"}, {"amount_minor": 1 << 63}, {"currency": "\x00"}],
    ids=["half a character", "larger than bigint", "NUL"],
)
async def test_a_value_the_driver_refuses_fails_alone_and_at_once(
    database: str, connection: Any, over: dict[str, Any], start: Any
) -> None:
    """The driver refuses it before anything is sent. That is not a lost connection."""
    merchant = ids.new_id()
    begin = start(statements.BEGIN, database)
    bad = new_payment(merchant, **over)
    async with asyncio.timeout(30):
        good, refused, also_good = await asyncio.gather(
            begin.submit(new_payment(merchant)),
            begin.submit(bad),
            begin.submit(new_payment(merchant)),
            return_exceptions=True,
        )
    assert (good, also_good) == (True, True)
    assert isinstance(refused, Exception)
    assert not isinstance(refused, DatabaseUnavailable)
    assert await count(connection, "payments") == 2


async def test_a_change_that_the_status_table_forbids_fails_alone(
    database: str, connection: Any, start: Any
) -> None:
    merchant = ids.new_id()
    begin, record = (
        start(statements.BEGIN, database),
        start(statements.RECORD_CHANGES, database),
    )
    new = [new_payment(merchant) for _ in range(5)]
    await asyncio.gather(*map(begin.submit, new))
    changes = [approved(*await begun(connection, each)) for each in new]
    moved = replace(changes[2].payment, status_to=Status.EXPIRED, captured_minor=0)
    changes[2] = replace(changes[2], payment=moved)
    results = await asyncio.gather(*map(record.submit, changes), return_exceptions=True)
    assert [result for result in results if result is True] == [True] * 4
    assert isinstance(results[2], asyncpg.CheckViolationError)
    assert results[2].constraint_name == "payment_status_edge"
    found = await connection.fetch(
        "SELECT p.status, o.state FROM payments p JOIN operations o ON o.payment_id = p.id"
    )
    assert sorted(tuple(row) for row in found) == [
        *[("captured", "approved")] * 4,
        ("processing", "in_flight"),
    ]
    assert await count(connection, "events") == 4


# Locks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opposite", [False, True], ids=["sorted", "opposite orders"])
async def test_two_committers_on_the_same_rows_all_finish(
    database: str, connection: Any, opposite: bool, start: Any
) -> None:
    """Sorted groups never deadlock. Otherwise the server ends one, whose items then run singly."""
    merchant = ids.new_id()
    begin = start(statements.BEGIN, database)
    new = [new_payment(merchant) for _ in range(60)]
    await asyncio.gather(*map(begin.submit, new))
    changes = [approved(*await begun(connection, each)) for each in new]
    one_lane = {"size": 60, "lanes": 1}
    turn = -1 if opposite else 1
    records = [
        start(statements.RECORD_CHANGES, database, order=order, **one_lane)
        for order in (lambda c: c.operation.id.int, lambda c: c.operation.id.int * turn)
    ]
    for record in records:
        await record.submit(changes[0])  # opens its lane
    # One row in the middle is locked until both groups have locked the rows before it.
    middle = changes[30].operation.id
    async with held(database, "SELECT 1 FROM operations WHERE id = $1 FOR UPDATE", middle):
        tasks = [
            asyncio.create_task(record.submit(change)) for record in records for change in changes
        ]
        await until_locked(database, "easypay record", sessions=2)
    async with asyncio.timeout(45):
        results = await asyncio.gather(*tasks)
    assert sum(results) == 59, "one of the two recorded each, the warm-up the first"
    assert await count(connection, "events") == 60

    async def deadlocks() -> int:
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        number: int = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        return number

    if opposite:
        await until(deadlocks, what="the server reports the provoked deadlock")
    else:
        assert await deadlocks() == 0


# Callers that go away ----------------------------------------------------------------------------


async def test_a_cancelled_caller_cancels_no_work(
    database: str, connection: Any, start: Any
) -> None:
    merchant = ids.new_id()
    begin = start(statements.BEGIN, database, lanes=1, size=2)
    assert await begin.submit(new_payment(merchant))
    async with held(database, KEYS_LOCKED):
        tasks = [asyncio.create_task(begin.submit(new_payment(merchant))) for _ in range(4)]
        await until_locked(database, "easypay begin")
        assert begin.waiting == 2
        running, queued = tasks[0], tasks[3]
        running.cancel()
        queued.cancel()
        await asyncio.wait([running, queued])
        assert running.cancelled()
        assert queued.cancelled()
    assert await asyncio.gather(tasks[1], tasks[2]) == [True, True]

    async def all_written() -> bool:
        return await count(connection, "payments") == 5

    await until(all_written, what="the work of cancelled callers is done, too")
    assert await begin.submit(new_payment(merchant)), "the lane still works"


# Backpressure ------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_at_once_and_writes_nothing(
    database: str, connection: Any, start: Any
) -> None:
    merchant = ids.new_id()
    begin = start(statements.BEGIN, database, lanes=1, size=4, limit=8)
    assert await begin.submit(new_payment(merchant))
    async with held(database, KEYS_LOCKED):
        first = [asyncio.create_task(begin.submit(new_payment(merchant))) for _ in range(4)]
        await until_locked(database, "easypay begin")
        more = [new_payment(merchant) for _ in range(20)]
        tasks = [asyncio.create_task(begin.submit(each)) for each in more]
        await asyncio.wait(tasks, timeout=0.01)  # every task has its turn
        refused = [task for task in tasks if task.done()]
        assert len(refused) == 12
        for task in refused:
            error = task.exception()
            assert isinstance(error, Overloaded)
            assert (error.http_status, error.retry_after_s) == (503, 1)
        assert begin.waiting == 8
    accepted = [task for task in tasks if task not in refused]
    assert await asyncio.gather(*first, *accepted) == [True] * 12
    assert await count(connection, "idempotency_keys") == 13
    written = {row["key"] for row in await connection.fetch("SELECT key FROM idempotency_keys")}
    assert not written & {
        each.key for each, task in zip(more, tasks, strict=True) if task in refused
    }


# No timer, one round trip, no more groups than lanes ---------------------------------------------


async def test_a_single_item_starts_at_once(database: str, connection: Any, start: Any) -> None:
    begin = start(statements.BEGIN, database)
    await begin.submit(new_payment(ids.new_id()))
    async with held(database, KEYS_LOCKED):
        task = asyncio.create_task(begin.submit(new_payment(ids.new_id())))
        for _ in range(2):
            await asyncio.sleep(0)  # runs the task, then the lane: no timer has run
        assert (begin.waiting, begin.groups) == (0, 2)
    assert await task


async def test_a_group_is_one_round_trip_and_each_lane_runs_one_at_a_time(
    proxy: CuttingProxy, connection: Any, start: Any
) -> None:
    merchant = ids.new_id()
    sizes: list[int] = []
    begin = start(
        statements.BEGIN,
        proxy.dsn,
        size=64,
        watch=lambda event, items: sizes.append(len(items)) if event == "begins" else None,
    )
    await asyncio.gather(*(begin.submit(new_payment(merchant)) for _ in range(65)))
    assert set(proxy.answers) == {"easypay begin 1", "easypay begin 2"}
    trips, groups = proxy.answers.total(), begin.groups
    async with held(proxy.server_dsn, KEYS_LOCKED):
        tasks = [asyncio.create_task(begin.submit(new_payment(merchant))) for _ in range(500)]
        await until_locked(proxy.server_dsn, "easypay begin", sessions=2)
        assert begin.waiting == 500 - 2 * 64
        assert begin.groups - groups == 2, "two lanes, two groups"
    await asyncio.gather(*tasks)
    assert begin.groups - groups == 8, "500 in groups of 64"
    assert proxy.answers.total() - trips == begin.groups - groups
    assert len(proxy.answers) == 2
    assert max(sizes) == 64
    assert await count(connection, "payments") == 565


# A lost database ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["begin", "follow-up", "record", "read"])
async def test_work_whose_commit_was_not_acknowledged_is_done_once(
    proxy: CuttingProxy, connection: Any, name: str, start: Any
) -> None:
    """The commit is ambiguous, so the group runs again without a second effect."""
    merchant = ids.new_id()
    payments = await captured(proxy.dsn, connection, merchant, 4)
    new = [new_payment(merchant) for _ in range(4)]
    begin = start(statements.BEGIN, proxy.dsn)
    items: list[Any]
    if name == "begin":
        tested, items = begin, new
        await begin.submit(new_payment(merchant))
    elif name == "follow-up":
        tested = start(statements.FOLLOW_UP, proxy.dsn)
        items = [refund_of(p, 100) for p in payments]
        await tested.submit(refund_of(payments[0], 1))
    elif name == "record":
        await asyncio.gather(*map(begin.submit, new))
        items = [approved(*await begun(connection, each)) for each in new]
        tested = start(statements.RECORD_CHANGES, proxy.dsn)
        absent = replace(items[0].effect, from_states=(State.ABSENT,))
        assert not await tested.submit(replace(items[0], effect=absent))
    else:
        tested = start(statements.READ, proxy.dsn)
        items = [PaymentKey(merchant, "test", each.payment_id) for each in payments]
        await tested.submit(items[0])

    groups = tested.groups
    proxy.swallow_next(f"easypay {name} ")
    results = await asyncio.gather(*map(tested.submit, items))
    assert len(proxy.swallowed) == 1
    assert tested.groups - groups == 1

    keys = [item.key for item in items] if name in ("begin", "follow-up") else []
    written = await connection.fetchval(
        "SELECT count(*) FROM idempotency_keys k JOIN operations o ON o.id = k.operation_id"
        " WHERE k.key = ANY ($1)",
        keys,
    )
    assert written == len(keys)
    if name == "begin":
        assert results == [False] * 4, "the keys exist, for our own operations"
        operations = await connection.fetch(
            "SELECT operation_id FROM idempotency_keys WHERE key = ANY ($1)", keys
        )
        assert {row[0] for row in operations} == {item.operation_id for item in items}
    elif name == "follow-up":
        assert results == [None] * 4
        total = await connection.fetchval("SELECT sum(refund_reserved_minor) FROM payments")
        assert total == 401
    elif name == "record":
        assert results == [False] * 4
        found = await connection.fetch(
            "SELECT status, captured_minor, version FROM payments WHERE id = ANY ($1)",
            [each.payment_id for each in new],
        )
        assert [tuple(row) for row in found] == [("captured", 2500, 2)] * 4
        assert await count(connection, "events") == 4 + 4
    else:
        assert [payment.id for payment in results] == [item.payment_id for item in items]


async def test_a_connection_killed_before_its_commit_is_replaced(
    database: str, connection: Any, start: Any
) -> None:
    merchant = ids.new_id()
    begin = start(statements.BEGIN, database)
    assert await begin.submit(new_payment(merchant))
    async with held(database, KEYS_LOCKED):
        tasks = [asyncio.create_task(begin.submit(new_payment(merchant))) for _ in range(8)]
        await until_locked(database, "easypay begin")
        killed = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'easypay begin %'"
        )
        assert killed >= 1
    assert await asyncio.gather(*tasks) == [True] * 8
    assert await count(connection, "payments") == 9


async def test_a_caller_gets_an_error_if_the_database_stays_away(
    proxy: CuttingProxy, connection: Any, start: Any
) -> None:
    merchant = ids.new_id()
    begin = start(statements.BEGIN, proxy.dsn, patience_s=0.2)

    async def begins(new: NewPayment) -> bool:
        with suppress(DatabaseUnavailable):  # a busy machine needs longer to connect
            return bool(await begin.submit(new))
        return False

    await until(partial(begins, new_payment(merchant)), what="the database is there")
    await proxy.shut()
    started = monotonic()
    with pytest.raises(DatabaseUnavailable) as caught:
        await begin.submit(new_payment(merchant))
    assert 0.2 <= monotonic() - started < 2
    assert (caught.value.http_status, caught.value.retry_after_s) == (503, 2)
    await proxy.open()
    await until(partial(begins, new_payment(merchant)), what="the database is back")
    assert await count(connection, "payments") == 2


async def test_an_outcome_waits_for_the_database_without_limit(
    proxy: CuttingProxy, connection: Any, start: Any
) -> None:
    """The processor's outcome is never dropped because the database is away."""
    merchant = ids.new_id()
    begin, record = (
        start(statements.BEGIN, proxy.dsn),
        start(statements.RECORD_CHANGES, proxy.dsn, patience_s=1e9),
    )
    new = [new_payment(merchant) for _ in range(3)]
    await asyncio.gather(*map(begin.submit, new))
    changes = [approved(*await begun(connection, each)) for each in new]
    await proxy.shut()
    tasks = [asyncio.create_task(record.submit(change)) for change in changes]
    done, waiting = await asyncio.wait(tasks, timeout=0.3)
    assert not done
    await proxy.open()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await count(connection, "events") == 3


async def test_closing_waits_for_accepted_work(database: str, connection: Any) -> None:
    merchant = ids.new_id()
    begin = committer(statements.BEGIN, database, lanes=1, size=3)
    tasks = [asyncio.create_task(begin.submit(new_payment(merchant))) for _ in range(10)]
    await asyncio.sleep(0)
    await begin.close()
    assert await asyncio.gather(*tasks) == [True] * 10
    assert await count(connection, "payments") == 10


# Through a whole gateway -------------------------------------------------------------------------


async def test_a_gateway_with_a_full_queue_answers_503_at_once_and_writes_nothing(
    stack: Stack,
) -> None:
    # A slow machine may take long to connect to the processor; those that have a place are paid.
    patient = QUICK | {"processor_deadline_s": "20", "processor_connect_timeout_s": "10"}
    gateway = await stack.gateway(**patient, max_queued="4", group_size="2")
    shop = await stack.shop(gateway)
    await shop.paid()
    async with held(stack.dsn, KEYS_LOCKED):
        tasks = {f"order-{n}": asyncio.create_task(shop.pay(key=f"order-{n}")) for n in range(20)}

        async def refused() -> bool:
            return sum(task.done() for task in tasks.values()) >= 20 - 4 - 2

        await until(refused, what="requests that find no place are refused")
    busy = set()
    for key, task in tasks.items():
        answer = await task
        if answer.status_code == 503:
            assert answer.json()["code"] == "overloaded"
            assert int(answer.headers["retry-after"]) >= 1
            busy.add(key)
        else:
            assert answer.status_code == 201
    assert len(busy) in (14, 15), "the first group had one or two"
    found = await stack.fetch("SELECT key FROM idempotency_keys WHERE key = ANY ($1)", list(busy))
    assert found == []
    assert (await shop.pay(key=min(busy))).status_code == 201
    assert await audit(stack, shop) == []
    await shop.client.aclose()


@pytest.mark.parametrize("name", ["begin", "record", "follow-up"])
async def test_a_gateway_whose_commit_is_ambiguous_does_the_work_once(
    stack: Stack, stack_proxy: CuttingProxy, name: str
) -> None:
    """The client gets the usual response, and the processor has one transaction of each."""
    proxy = stack_proxy
    gateway = await stack.gateway(dsn=proxy.dsn, **QUICK)
    shop = await stack.shop(gateway)
    held_payment = await shop.paid(capture="manual")
    other = await shop.paid(capture="manual")
    await shop.void((await shop.paid())["id"])
    if name != "follow-up":
        proxy.swallow_next(f"easypay {name} ")
        answer = await shop.pay(key="ambiguous")
        assert (answer.status_code, answer.json()["status"]) == (201, "captured"), answer.text
    else:
        proxy.swallow_next("easypay follow-up ")
        answer = await shop.capture(held_payment["id"], 900, key="ambiguous")
        assert (answer.status_code, answer.json()["captured_amount"]) == (201, 900), answer.text
        proxy.swallow_next("easypay follow-up ")
        assert (await shop.void(other["id"])).json()["status"] == "voided"
        await stack.simulator.post("/settle")
        for _ in range(2):
            proxy.swallow_next("easypay follow-up ")
            refund = await shop.refund(held_payment["id"], 300)
            assert (refund.status_code, refund.json()["amount"]) == (201, 300), refund.text
    assert len(proxy.swallowed) == (4 if name == "follow-up" else 1)
    if name != "follow-up":
        again = await shop.pay(key="ambiguous")
        assert again.content == answer.content
        assert again.headers["idempotency-replayed"] == "true"
    assert await audit(stack, shop) == []
    await shop.client.aclose()


async def test_one_key_at_two_gateways_refunds_once(
    shared_stack: Stack, second_gateway: Gateway, shop: Shop
) -> None:
    """Each is in a group of its own, on one payment: the later one is refused, not an error 500."""
    second = shop.at(second_gateway.url)
    payments = [await shop.paid() for _ in range(6)]
    await shared_stack.simulator.post("/settle")
    for payment in payments:
        key = f"refund {payment['id']}"
        answers = await asyncio.gather(
            *(asker.refund(payment["id"], 700, key=key) for asker in (shop, second) * 3)
        )
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
        assert (await shop.payment(payment["id"]))["refunded_amount"] == 700
    assert await audit(shared_stack, shop) == []
    await second.client.aclose()


async def test_a_gateway_without_its_database_answers_503_and_recovers(
    stack: Stack, stack_proxy: CuttingProxy
) -> None:
    """Reads, lists and payments, with cached keys and without."""
    proxy = stack_proxy
    gateway = await stack.gateway(dsn=proxy.dsn, **QUICK)
    shop = await stack.shop(gateway)
    payment = await shop.paid()
    await proxy.shut()
    answers = await asyncio.gather(
        shop.client.get("/payments"),
        shop.client.get(f"/payments/{payment['id']}"),
        shop.pay(key="meanwhile"),
        shop.refund(payment["id"], 1),
    )
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    await proxy.open()

    async def back() -> bool:
        return (await shop.pay(key="meanwhile")).status_code == 201

    await until(back, what="the same key pays once the database is back")
    assert await audit(stack, shop) == []
    await shop.client.aclose()


async def test_another_session_s_lock_delays_only_its_own_payment(stack: Stack) -> None:
    """One payment's row is locked from a psql session; the others are recorded at once."""
    gateway = await stack.gateway(**QUICK | SHARED)
    shop = await stack.shop(gateway)
    stuck, free = await shop.paid(capture="manual"), await shop.paid(capture="manual")
    locks = "SELECT 1 FROM payments WHERE id = $1 FOR UPDATE"
    async with held(stack.dsn, locks, payment_uuid(stuck["id"])):
        blocked = asyncio.create_task(shop.capture(stuck["id"]))
        await until_locked(stack.dsn)
        assert (await shop.capture(free["id"])).status_code == 201
        assert not blocked.done()
    assert (await blocked).status_code in (201, 202)
