"""Workers and gateways that are killed or stopped in the middle of a batch: each line is charged
once, and none is left out. The simulator's own records are the judge."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest

from batches.batch_shop import (
    as_jsonl,
    batch_of,
    batch_shop,
    becomes,
    payment_line,
    results,
    upload,
    uploaded,
)
from easypay import failpoints
from harness import QUICK, Shop, Stack, all_known, audit, own_stack, until
from harness.forked import ForkedWorker, ForkedWorkers, forked_workers

DEADLINE_S = 0.5
OF_WORKERS = QUICK | {"processor_deadline_s": str(DEADLINE_S)}
POINTS = [name for name in failpoints.BATCH_NAMES if name != "batch_staged"]
POINTS += sorted(failpoints.NAMES)

stack = own_stack(**OF_WORKERS)


@pytest.fixture
async def workers(stack: Stack) -> AsyncIterator[ForkedWorkers]:
    async with forked_workers(stack, **OF_WORKERS) as workers:
        yield workers
    await stack.simulator.clear_faults()


async def leases_end(stack: Stack) -> None:
    """Let every claim end now, as if its lease had passed."""
    await stack.fetch("UPDATE batch_groups SET due_at = db_now()")


async def time_passes(stack: Stack) -> None:
    """Let every claim and every call that has begun be over, as if ten minutes had passed. By then
    the wide sweep has come, too: on a slow machine a call may begin so long after its id was made
    that the narrow sweep has passed it."""
    await leases_end(stack)
    await stack.fetch(
        "UPDATE operations SET begun_at = begun_at - interval '2 minutes' WHERE state = 'in_flight'"
    )
    await stack.fetch("UPDATE sweeps SET swept_below = lowest_id_at(db_now() - interval '1 hour')")


async def keys_are_purged(stack: Stack) -> None:
    """Delete the keys that the purge would delete, as if a month had passed."""
    await stack.fetch(
        "DELETE FROM idempotency_keys k USING operations o"
        " WHERE o.merchant_id = k.merchant_id AND o.id = k.operation_id"
        "   AND o.state NOT IN ('queued', 'in_flight', 'unknown', 'not_sent', 'held')"
    )


async def charges(stack: Stack, shop: Shop) -> int:
    """Return how often the processor took money of the shop."""
    truth = await stack.simulator.truth(login=shop.login)
    return sum(row["type"] == "authCaptureTransaction" for row in truth)


@pytest.mark.parametrize(
    ("points", "purged"),
    [(POINTS, False), (("before_send", "after_reply", "batch_line_sent"), True)],
    ids=["", "purged"],
)
async def test_a_worker_killed_at_any_point_charges_a_line_at_most_once(
    stack: Stack, workers: ForkedWorkers, points: Sequence[str], purged: bool
) -> None:
    """A line that was begun and not sent fails, with the proof that nothing was charged. Every
    other line is charged, also if the keys of all that is known were purged meanwhile."""
    shops = [await batch_shop(stack) for _ in points]
    batches = []
    for point, shop in zip(points, shops, strict=True):
        batch = await uploaded(shop, [await payment_line(stack, shop)])
        batches.append(batch["id"])
        worker = await workers.start(failpoint=point)
        assert await worker.ends() == -signal.SIGKILL, worker.logs()

    await time_passes(stack)
    if purged:
        for shop in shops:
            await all_known(stack, shop)
        await keys_are_purged(stack)
    await workers.start()
    for point, shop, batch_id in zip(points, shops, batches, strict=True):
        await becomes(shop, batch_id, "done")
        (line,) = await results(shop, batch_id)
        done = await charges(stack, shop)
        assert done == (line["state"] == "done"), (point, line)
        if point in ("after_begin", "before_send"):
            assert done == 0, point
        elif point != "mid_send":  # the processor may have read it
            assert (done, line["outcome"]) == (1, "captured"), point
        payments = await shop.all("/payments")
        assert [each["id"] for each in payments] == [line["payment_id"]], point
        if not purged:
            assert await audit(stack, shop) == [], point


async def test_workers_killed_again_and_again_leave_out_no_line(
    stack: Stack, workers: ForkedWorkers
) -> None:
    shop = await batch_shop(stack)
    lines = [await payment_line(stack, shop, amount=100 + n) for n in range(40)]
    batch = await uploaded(shop, lines, at_once="12")
    await stack.simulator.slow(shop.login, ms=30)
    for so_many in (5, 20):
        worker = await workers.start()

        async def ended(so_many: int = so_many) -> bool:
            return await charges(stack, shop) >= so_many

        await until(ended, what=f"{so_many} lines were sent")
        worker.send(signal.SIGKILL)
        await worker.ends()
        await time_passes(stack)
    await workers.start()
    await workers.start()
    done = await becomes(shop, batch["id"], "done")
    found = await results(shop, batch["id"])
    assert [each["line"] for each in found] == list(range(1, 41))
    taken = [each for each in found if each["state"] == "done"]
    assert await charges(stack, shop) == len(taken) == done["done"]
    assert {each["outcome"] for each in taken} == {"captured"}
    assert len({each["payment_id"] for each in found}) == 40
    # A kill can only hit lines that were under way.
    assert done["failed"] <= 2 * 12
    assert await audit(stack, shop) == []


async def test_a_worker_stopped_for_longer_than_its_lease_sends_nothing_afterwards(
    stack: Stack, workers: ForkedWorkers
) -> None:
    """Stopped before it began anything, and stopped with a line begun: whoever comes next runs the
    first, and finds the second in flight."""
    stopped = []
    shops = []
    for point in ("batch_lines_begun", "before_send"):
        shop = await batch_shop(stack)
        batch = await uploaded(shop, [await payment_line(stack, shop)])
        shops.append((shop, batch["id"]))
        worker = await workers.start(failpoint=f"{point} stops")
        await until(worker.is_stopped, what="the worker is stopped")
        stopped.append(worker)
    await time_passes(stack)
    await workers.start()
    await becomes(*shops[0], "done")
    late = "SELECT begun_at < db_now() - $2 * interval '1 s' FROM operations WHERE merchant_id = $1"
    passed = partial(stack.value, late, shops[1][0].merchant_id, DEADLINE_S)
    await until(passed, what="the deadline of its call has passed")
    for worker in stopped:
        worker.send(signal.SIGCONT)
    await becomes(*shops[1], "done")
    for shop, batch_id in shops:
        (line,) = await results(shop, batch_id)
        assert await charges(stack, shop) == (line["state"] == "done")
        await all_known(stack, shop)
        assert await audit(stack, shop) == []
    assert await charges(stack, shops[0][0]) == 1
    for worker in stopped:
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0, worker.logs()


async def test_a_worker_that_is_asked_to_stop_gives_back_what_it_did_not_begin(
    stack: Stack, workers: ForkedWorkers
) -> None:
    shop = await batch_shop(stack)
    lines = [await payment_line(stack, shop) for _ in range(30)]
    batch = await uploaded(shop, lines, lines_per_second="20")
    worker = await workers.start()
    await stack.charges(shop, 3)
    worker.send(signal.SIGTERM)
    assert await worker.ends() == 0, worker.logs()
    sql = "SELECT count(*) FROM batch_lines WHERE merchant_id = $1 AND state = 'claimed'"
    assert await stack.value(sql, shop.merchant_id) == 0
    await workers.start()
    done = await becomes(shop, batch["id"], "done")
    assert (done["done"], await charges(stack, shop)) == (30, 30)


async def test_an_outcome_that_is_unknown_is_waited_for(
    stack: Stack, workers: ForkedWorkers
) -> None:
    shop = await batch_shop(stack)
    await stack.simulator.fault("drop_reply", shop.login, method="createTransactionRequest")
    batch = await uploaded(shop, [await payment_line(stack, shop)])
    await workers.start()
    done = await becomes(shop, batch["id"], "done")
    (line,) = await results(shop, batch["id"])
    assert (line["outcome"], done["done"], await charges(stack, shop)) == ("captured", 1, 1)


async def test_lines_wait_while_the_processor_cannot_be_reached(
    stack: Stack, workers: ForkedWorkers
) -> None:
    shop = await batch_shop(stack)
    lines = [await payment_line(stack, shop) for _ in range(3)]
    async with stack.refusing():
        batch = await uploaded(shop, lines, at_once="2", start="false")
        # Its lines have waited for others so often: that does not count as failures.
        await stack.fetch(
            "INSERT INTO batch_groups (merchant_id, batch_id, first_line, last_line, attempt)"
            " SELECT merchant_id, id, 1, 2, 100 FROM batches WHERE merchant_id = $1",
            shop.merchant_id,
        )
        await stack.fetch(
            "UPDATE batches SET next_line = 3 WHERE merchant_id = $1", shop.merchant_id
        )
        await shop.post(f"/batches/{batch['id']}/start")
        await workers.start(not_sent_ends_after_s="30")
        sql = "SELECT count(*) FROM operations WHERE merchant_id = $1 AND state = 'not_sent'"

        async def tried() -> bool:
            return await stack.value(sql, shop.merchant_id) == 2

        await until(tried, what="two lines were tried")

    async def is_done() -> bool:
        await leases_end(stack)
        await stack.fetch("UPDATE batches SET turn_at = db_now()")
        return (await batch_of(shop, batch["id"]))["state"] == "done"

    await until(is_done, what="the batch is done")
    assert (await batch_of(shop, batch["id"]))["done"] == await charges(stack, shop) == 3
    assert await audit(stack, shop) == []


IN_STATE = "SELECT count(*) FROM operations WHERE merchant_id = $1 AND state = '{}'"


async def in_state(stack: Stack, shop: Shop, state: str) -> int:
    found: int = await stack.value(IN_STATE.format(state), shop.merchant_id)
    return found


async def rests(shop: Shop, batch_id: str) -> bool:
    """Whether nothing of a batch is under way."""
    found = await batch_of(shop, batch_id)
    return found["under_way"] == found["unknown"] == 0


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
async def test_a_pause_loses_no_line_that_was_never_sent(
    stack: Stack, workers: ForkedWorkers, killed: bool
) -> None:
    """The batch is paused while the processor cannot be reached, for longer than an operation waits
    to be repeated. One of its lines captures a payment."""
    shop = await batch_shop(stack)
    held = await shop.paid(capture="manual")
    lines = [
        await payment_line(stack, shop),
        {"operation": "capture", "payment": held["id"]},
    ]
    batch = await uploaded(shop, lines, start="false")
    path = f"/batches/{batch['id']}"
    for move in ("start", "resume"):
        async with stack.refusing():
            await shop.post(f"{path}/{move}")
            worker = await workers.start()

            async def tried(worker: ForkedWorker = worker) -> bool:
                """Stop the worker between two tries: what is killed in one may have been sent."""
                worker.send(signal.SIGSTOP)
                if await in_state(stack, shop, "not_sent") == 2:
                    return True
                worker.send(signal.SIGCONT)
                return False

            await until(tried, what="the lines were tried")
            await shop.post(f"{path}/pause")
            worker.send(signal.SIGKILL if killed else signal.SIGCONT)
            if killed:
                await worker.ends()
                await leases_end(stack)
                await workers.start()

            async def ended() -> bool:
                return await in_state(stack, shop, "not_sent") == 0

            await until(ended, what="their operations have ended")
            await until(partial(rests, shop, batch["id"]), what="nothing is under way")
        assert (await batch_of(shop, batch["id"]))["waiting"] == 2
    await shop.post(f"{path}/resume")
    await until(partial(go_on, stack, shop, batch["id"]), what="the batch is done")
    found = await results(shop, batch["id"])
    assert [line["outcome"] for line in found] == ["captured", "captured"]
    truth = await stack.simulator.truth(login=shop.login)
    assert sorted(row["type"] for row in truth) == [
        *("authCaptureTransaction", "authOnlyTransaction", "priorAuthCaptureTransaction")
    ]
    # Each payment that was never sent has failed, and nothing of it is left.
    states = [each["status"] for each in await shop.all("/payments")]
    assert sorted(states) == ["captured", "captured", "failed", "failed"]
    assert await audit(stack, shop) == []


async def go_on(stack: Stack, shop: Shop, batch_id: str) -> bool:
    """Let no pause between attempts delay a batch. Return whether it is done."""
    await stack.fetch("UPDATE batches SET turn_at = least(turn_at, db_now())")
    return (await batch_of(shop, batch_id))["state"] == "done"


async def test_of_a_cancelled_batch_a_line_that_was_never_sent_fails(
    stack: Stack, workers: ForkedWorkers
) -> None:
    shop = await batch_shop(stack)
    lines = [await payment_line(stack, shop)]
    async with stack.refusing():
        batch = await uploaded(shop, lines)
        await workers.start()
        await until(partial(in_state, stack, shop, "not_sent"), what="the line was tried")
        await shop.post(f"/batches/{batch['id']}/cancel")
        await until(partial(in_state, stack, shop, "absent"), what="its operation has ended")

        async def has_failed() -> bool:
            return (await batch_of(shop, batch["id"]))["failed"] == 1

        await until(has_failed, what="the line has failed")
    (line,) = await results(shop, batch["id"])
    assert line["outcome"] == "not_executed"
    assert "send it again" in line["detail"]
    assert await charges(stack, shop) == 0


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
async def test_a_batch_may_be_paused_at_any_moment(
    stack: Stack, workers: ForkedWorkers, killed: bool
) -> None:
    """Each time it comes to rest, and at the end each line was charged once. With kills a line that
    was under way may have failed, with the proof that nothing was charged."""
    shop = await batch_shop(stack)
    lines = [await payment_line(stack, shop, amount=100 + n) for n in range(40)]
    await stack.simulator.slow(shop.login, ms=20)
    batch = await uploaded(shop, lines, at_once="10", start="false")
    path = f"/batches/{batch['id']}"
    worker = await workers.start()
    await shop.post(f"{path}/start")
    for so_many in (1, 12, 25, 33):

        async def sent(so_many: int = so_many) -> bool:
            return await charges(stack, shop) >= so_many

        await until(sent, what=f"{so_many} lines were sent")
        await shop.post(f"{path}/pause")
        if killed:
            worker.send(signal.SIGKILL)
            await worker.ends()
            await time_passes(stack)
            worker = await workers.start()
        await until(partial(rests, shop, batch["id"]), what="nothing is under way")
        paused = await batch_of(shop, batch["id"])
        assert paused["done"] + paused["failed"] + paused["waiting"] == 40
        assert paused["done"] == await charges(stack, shop)
        await shop.post(f"{path}/resume")
    done = await becomes(shop, batch["id"], "done")
    assert done["done"] == await charges(stack, shop)
    assert done["failed"] <= (4 * 10 if killed else 0)
    assert len({each["payment_id"] for each in await results(shop, batch["id"])}) == 40
    assert await audit(stack, shop) == []


async def test_the_tries_of_a_line_are_bounded(stack: Stack, workers: ForkedWorkers) -> None:
    """Its payment is busy, so it is tried again and again. What was begun is remembered."""
    shop = await batch_shop(stack)
    batch = await uploaded(shop, [await payment_line(stack, shop)], start="false")
    async with stack.refusing():
        await shop.post(f"/batches/{batch['id']}/start")
        worker = await workers.start(not_sent_ends_after_s="30")
        await until(partial(in_state, stack, shop, "not_sent"), what="the line was tried")
        worker.send(signal.SIGKILL)
        await worker.ends()
    (begun,) = await stack.value(TRIED, shop.merchant_id)
    await stack.fetch(
        "UPDATE batch_lines SET tried = tried || (SELECT array_agg(gen_random_uuid())"
        " FROM generate_series(1, 500)) WHERE merchant_id = $1",
        shop.merchant_id,
    )
    await leases_end(stack)
    await workers.start()
    await until(partial(go_on, stack, shop, batch["id"]), what="the batch is done")
    tried = await stack.value(TRIED, shop.merchant_id)
    assert tried[0] == begun
    assert len(tried) <= 20
    assert await charges(stack, shop) == 1


TRIED = "SELECT tried FROM batch_lines WHERE merchant_id = $1"


async def test_of_an_upload_whose_gateway_is_killed_nothing_stays(
    stack: Stack, workers: ForkedWorkers
) -> None:
    gateway = await stack.gateway(**OF_WORKERS)
    shop = (await batch_shop(stack)).at(gateway.url)
    line = as_jsonl([{"operation": "void", "payment": "pay_" + "0" * 32}])
    go_on = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield line * 20_000
        await go_on.wait()

    cut = asyncio.create_task(upload(shop, half()))
    lines = "SELECT count(*) FROM batch_lines WHERE merchant_id = $1"

    async def written() -> bool:
        return bool(await stack.value(lines, shop.merchant_id))

    await until(written, what="lines are written")
    gateway.kill()
    go_on.set()
    await asyncio.wait([cut])
    assert cut.exception() is not None
    await stack.fetch("UPDATE batches SET upload_until = db_now() - interval '1 s'")
    await workers.start()

    async def nothing() -> bool:
        left = await stack.value(lines, shop.merchant_id)
        batches = "SELECT count(*) FROM batches WHERE merchant_id = $1"
        return left == await stack.value(batches, shop.merchant_id) == 0

    await until(nothing, what="nothing is left")
