"""A batch is run by a worker: each line once, and in the order of its payment."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from batches.batch_shop import batch_of, batch_shop, becomes, payment_line, results, uploaded
from easypay import ids
from easypay.batches import claims, removal
from harness import QUICK, Shop, Stack, audit, own_stack, run_easypay, until
from harness.forked import ForkedWorkers, forked_workers
from harness.stored import stored_method

stack = own_stack(**QUICK)


@pytest.fixture(scope="module")
async def workers(stack: Stack) -> AsyncIterator[ForkedWorkers]:
    async with forked_workers(stack, **QUICK) as workers:
        yield workers


@pytest.fixture(scope="module")
async def worker(workers: ForkedWorkers) -> None:
    await workers.start()


@pytest.fixture
async def shop(stack: Stack) -> Shop:
    return await batch_shop(stack)


async def test_a_file_of_three_lines_is_run(stack: Stack, worker: None, shop: Shop) -> None:
    held = await shop.paid(capture="manual")
    lines = [
        await payment_line(stack, shop, 1500, line_reference="first", order_reference="o-1"),
        {"operation": "capture", "payment": held["id"], "amount": 2000},
        await payment_line(stack, shop, 700, capture="manual"),
        {"operation": "void", "payment": {"line": 3}},
    ]
    batch = await uploaded(shop, lines, name="three")
    assert (batch["lines"], batch["wrong_lines"], batch["name"]) == (4, 0, "three")
    done = await becomes(shop, batch["id"], "done")
    assert (done["done"], done["failed"], done["waiting"], done["under_way"]) == (4, 0, 0, 0)
    found = await results(shop, batch["id"])
    assert [(each["line"], each["operation"], each["outcome"]) for each in found] == [
        (1, "payment", "captured"),
        (2, "capture", "captured"),
        (3, "payment", "authorized"),
        (4, "void", "voided"),
    ]
    assert [each["amount"] for each in found] == [1500, 2000, 700, 700]
    assert found[0]["line_reference"] == "first"
    assert found[3]["payment_id"] == found[2]["payment_id"]
    paid = await shop.payment(found[0]["payment_id"])
    assert (paid["status"], paid["order_reference"]) == ("captured", "o-1")
    assert (await shop.payment(held["id"]))["captured_amount"] == 2000
    assert {(s["operation"], s["outcome"], s["amount"]) for s in done["sums"]} >= {
        ("payment", "captured", 1500),
        ("capture", "captured", 2000),
    }
    assert await audit(stack, shop) == []


async def test_lines_pay_with_stored_methods(stack: Stack, worker: None, shop: Shop) -> None:
    method = await stored_method(stack, shop)
    good = {"operation": "payment", "amount": 2500, "currency": "USD"}
    unknown = {"type": "stored", "stored": {"id": f"pm_{'0' * 32}"}}
    lines = [good | {"payment_method": each} for each in (method.pays(), unknown)]
    batch = await uploaded(shop, lines)
    await becomes(shop, batch["id"], "done")
    paid, refused = await results(shop, batch["id"])
    assert (paid["state"], paid["outcome"], refused["state"]) == ("done", "captured", "failed")
    assert (await shop.payment(paid["payment_id"]))["payment_method"]["id"] == method.id
    assert await audit(stack, shop) == []


async def test_lines_of_a_payment_go_one_after_another_across_groups(
    stack: Stack, worker: None, shop: Shop
) -> None:
    """Each line acts on what the line before it has left. A payment of a line that failed is
    nothing that can be acted on."""
    paid = await shop.paid(3000, capture="manual")
    await stack.simulator.slow(shop.login, ms=20)
    bad = {"data_descriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "data_value": "nobody made it"}
    refused = {"type": "accept_token", "accept_token": bad}
    lines: list[dict[str, object]] = [
        {"operation": "capture", "payment": paid["id"], "amount": 2000},
        await payment_line(stack, shop, 500, capture="manual"),
        {"operation": "capture", "payment": {"line": 2}, "amount": 400},
        {"operation": "void", "payment": paid["id"]},
        {"operation": "refund", "payment": {"line": 2}},
        {"operation": "void", "payment": paid["id"]},
        await payment_line(stack, shop, payment_method=refused),
        {"operation": "void", "payment": {"line": 7}},
    ]
    batch = await uploaded(shop, lines, at_once="2")
    done = await becomes(shop, batch["id"], "done")
    found = {each["line"]: each for each in await results(shop, batch["id"])}
    assert [found[n]["outcome"] for n in (1, 2, 3, 4, 5)] == [
        *("captured", "authorized", "captured", "voided", "succeeded")
    ]
    assert (found[6]["state"], found[7]["state"], found[8]["state"]) == ("failed",) * 3
    assert found[6]["outcome"] == "invalid_state"
    assert (done["done"], done["failed"]) == (5, 3)
    assert await audit(stack, shop) == []


async def test_a_line_whose_payment_is_busy_waits_alone(
    stack: Stack, worker: None, shop: Shop
) -> None:
    """Another request has begun to capture its payment, and the outcome is unknown for a while."""
    busy = await shop.paid(capture="manual")
    await next_outcome_is_unknown(stack, shop)
    assert (await shop.capture(busy["id"])).status_code == 202
    lines = [{"operation": "void", "payment": each} for each in (busy["id"], "pay_" + "0" * 32)]
    others = [await payment_line(stack, shop) for _ in range(3)]
    batch = await uploaded(shop, [*lines, *others], at_once="1")

    async def others_have_ended() -> bool:
        found = await batch_of(shop, batch["id"])
        return (found["done"], found["failed"], found["under_way"]) == (3, 1, 1)

    await until(others_have_ended, what="the other lines have ended")
    await stack.simulator.clear_faults()
    done = await becomes(shop, batch["id"], "done")
    assert (done["done"], done["failed"], done["reason"]) == (4, 1, None)
    assert (await shop.payment(busy["id"]))["status"] == "voided"
    assert await audit(stack, shop) == []


async def test_lines_that_wait_for_an_unknown_outcome_stop_no_others(
    stack: Stack, worker: None, shop: Shop
) -> None:
    await next_outcome_is_unknown(stack, shop)
    lines = [
        await payment_line(stack, shop, capture="manual"),
        {"operation": "void", "payment": {"line": 1}},
        *({"operation": "void", "payment": f"pay_{n:032x}"} for n in range(3)),
    ]
    batch = await uploaded(shop, lines, at_once="1")

    async def others_have_ended() -> bool:
        found = await batch_of(shop, batch["id"])
        return (found["failed"], found["unknown"], found["waiting"]) == (3, 1, 1)

    await until(others_have_ended, what="the other lines have ended")
    await stack.simulator.clear_faults()
    assert (await becomes(shop, batch["id"], "done"))["done"] == 2
    assert await audit(stack, shop) == []


async def next_outcome_is_unknown(stack: Stack, shop: Shop) -> None:
    """Let the processor answer neither the next request for money nor what is asked about it."""
    for method in ("getTransactionDetailsRequest", "getUnsettledTransactionListRequest"):
        await stack.simulator.fault("drop_reply", shop.login, method=method, count=1000)
    await stack.simulator.fault("drop_reply", shop.login, method="createTransactionRequest")


async def test_a_batch_is_paused_resumed_and_cancelled(
    stack: Stack, worker: None, shop: Shop
) -> None:
    lines = [await payment_line(stack, shop) for _ in range(40)]
    batch = await uploaded(shop, lines, start="false", lines_per_second="10")
    path = f"/batches/{batch['id']}"
    assert batch["state"] == "ready"
    assert (await shop.post(f"{path}/pause")).status_code == 409
    assert (await shop.post(f"{path}/start")).json()["state"] == "running"
    await stack.charges(shop, 3)
    assert (await shop.post(f"{path}/pause")).json()["state"] == "paused"

    async def rests() -> bool:
        return (await batch_of(shop, batch["id"]))["under_way"] == 0

    await until(rests, what="nothing is under way")
    paused = await batch_of(shop, batch["id"])
    assert 3 <= paused["done"] < 40
    assert paused["done"] + paused["waiting"] == 40
    assert len(await stack.simulator.truth(login=shop.login)) == paused["done"]
    for _ in range(2):  # repeating it changes nothing
        assert (await shop.post(f"{path}/resume")).json()["state"] == "running"
    await stack.charges(shop, paused["done"] + 3)
    assert (await shop.post(f"{path}/cancel")).json()["state"] == "cancelled"
    await until(rests, what="nothing is under way")
    ended = await batch_of(shop, batch["id"])
    assert ended["cancelled"] > 0
    assert ended["done"] + ended["cancelled"] == 40
    assert len(await stack.simulator.truth(login=shop.login)) == ended["done"]
    assert (await shop.post(f"{path}/resume")).status_code == 409
    states = [each["state"] for each in await results(shop, batch["id"])]
    assert states.count("cancelled") == ended["cancelled"]
    assert await audit(stack, shop) == []


async def test_commands_at_the_same_time_leave_one_state(
    stack: Stack, worker: None, shop: Shop
) -> None:
    lines = [await payment_line(stack, shop) for _ in range(12)]
    batch = await uploaded(shop, lines)
    path = f"/batches/{batch['id']}"
    moves = ["pause", "resume", "pause", "resume", "pause", "resume"] * 2
    answers = await asyncio.gather(*(shop.post(f"{path}/{move}") for move in moves))
    assert {each.status_code for each in answers} <= {200, 409}
    await shop.post(f"{path}/resume")
    done = await becomes(shop, batch["id"], "done")
    assert done["done"] == len(await stack.simulator.truth(login=shop.login)) == 12


async def test_two_batches_run_side_by_side_and_share_nothing(
    stack: Stack, worker: None, shop: Shop
) -> None:
    other = await batch_shop(stack)
    slow = await uploaded(
        shop, [await payment_line(stack, shop) for _ in range(30)], lines_per_second="10"
    )
    quick = await uploaded(other, [await payment_line(stack, other) for _ in range(5)])
    await becomes(other, quick["id"], "done")
    assert (await batch_of(shop, slow["id"]))["state"] == "running"
    await shop.post(f"/batches/{slow['id']}/cancel")


async def test_the_feed_and_endpoints_tell_of_what_happens_to_a_batch(
    stack: Stack, worker: None, shop: Shop
) -> None:
    wanted = {"url": "https://shop.example/gone", "types": ["batch.started", "batch.done"]}
    made = await shop.client.post("/webhook-endpoints", json=wanted)
    assert made.status_code == 201, made.text
    batch = await uploaded(shop, [await payment_line(stack, shop)])
    done = await becomes(shop, batch["id"], "done")
    types = "batch.created,batch.started,batch.done"
    events = await told(shop, types, 3)
    assert [event["type"] for event in events] == types.split(",")
    assert [event["data"]["state"] for event in events] == ["ready", "running", "done"]
    assert {event["data"]["id"] for event in events} == {batch["id"]}
    assert {event["payment_id"] for event in events} == {None}
    last = events[-1]["data"]
    assert (last["done"], last["sums"], last["ended_at"]) == (1, done["sums"], done["ended_at"])
    sql = "SELECT type FROM webhook_deliveries WHERE merchant_id = $1 ORDER BY seq"

    async def both() -> bool:
        found = [row["type"] for row in await stack.fetch(sql, shop.merchant_id)]
        return found == ["batch.started", "batch.done"]

    await until(both, what="the endpoint is to be told what it asked for")
    words = ("events", "tail", "--merchant", ids.typed(ids.MERCHANT, shop.merchant_id))
    tail = await asyncio.to_thread(run_easypay, *words, **stack.env)
    assert tail.out.splitlines()[-1].split()[2:4] == ["batch.done", batch["id"]], tail


async def test_a_batch_is_removed_so_many_days_after_its_end(
    stack: Stack, worker: None, workers: ForkedWorkers, shop: Shop
) -> None:
    """Only if nothing of it is under way, and from its first line on nobody sees it any more. Its
    events stay, without the batch."""
    line = {"operation": "void", "payment": f"pay_{0:032x}"}
    old, new, busy = [
        (await uploaded(shop, [line | {"line_reference": name}]))["id"] for name in "abc"
    ]
    for each in (old, new, busy):
        await becomes(shop, each, "done")
    await told(shop, "batch.done", 3)
    of = {each: ids.parse(ids.BATCH, each) for each in (old, new, busy)}
    sql = "UPDATE batches SET ended_at = db_now() - interval '91 days' WHERE id = ANY ($1)"
    await stack.fetch(sql, [of[old], of[busy]])
    await stack.fetch(
        "INSERT INTO batch_groups (merchant_id, batch_id, first_line, last_line, due_at)"
        " VALUES ($1, $2, 1, 1, db_now() + interval '5 minutes')",
        *(shop.merchant_id, of[busy]),
    )
    async with asyncpg.create_pool(stack.dsn, min_size=1) as pool:
        assert await removal.give_up_old(pool, keep_days=90) == 1
    assert (await shop.client.get(f"/batches/{old}")).status_code == 404
    assert (await shop.client.get(f"/batches/{old}/results")).status_code == 404
    await workers.start()
    tables = ("batches", "batch_lines", "batch_totals", "batch_events")

    async def only_two() -> bool:
        counts = "SELECT count(DISTINCT {}) FROM {} WHERE merchant_id = $1"
        names = ["id" if table == "batches" else "batch_id" for table in tables]
        found = [
            await stack.value(counts.format(*each), shop.merchant_id)
            for each in zip(names, tables, strict=True)
        ]
        return found == [2, 2, 2, 2]

    await until(only_two, what="nothing is left of the old batch")
    assert len(await results(shop, new)) == len(await results(shop, busy)) == 1
    data = [event["data"] for event in await told(shop, "batch.done", 3)]
    assert [each and each["id"] for each in data] == [None, new, busy]
    again = await uploaded(shop, [line | {"line_reference": "a"}], start="false")
    assert again["id"] != old


async def test_a_clock_that_was_set_back_stops_no_batch(
    stack: Stack, worker: None, shop: Shop
) -> None:
    """What was to go on at an hour before that goes on now; what only pauses does not."""
    line = {"operation": "void", "payment": f"pay_{0:032x}"}
    late, pausing = [
        (await uploaded(shop, [line | {"line_reference": name}], start="false"))["id"]
        for name in ("late", "pausing")
    ]
    set_turn = "UPDATE batches SET turn_at = db_now() + make_interval(secs => $2) WHERE id = $1"
    for batch, turn_s in ((late, 86_400.0), (pausing, 300.0)):
        await stack.fetch(set_turn, ids.parse(ids.BATCH, batch), turn_s)
        assert (await shop.post(f"/batches/{batch}/start")).status_code == 200
    async with asyncpg.create_pool(stack.dsn, min_size=1) as pool:
        await claims.mind_the_clock(pool, 600.0)
    await becomes(shop, late, "done")
    assert (await batch_of(shop, pausing))["waiting"] == 1
    await shop.post(f"/batches/{pausing}/cancel")


async def told(shop: Shop, types: str, count: int) -> list[dict[str, Any]]:
    """Wait until the feed has so many events of these types; return them."""
    found: list[dict[str, Any]] = []

    async def has_come() -> bool:
        answer = await shop.client.get("/events", params={"types": types})
        found[:] = answer.json()["data"]
        return len(found) >= count

    await until(has_come, what=f"{count} events of {types}")
    return found


async def test_the_progress_of_a_batch_is_told_in_tenths(
    stack: Stack, worker: None, shop: Shop
) -> None:
    """Not of every tenth: a quick batch passes over some."""
    lines = [{"operation": "void", "payment": f"pay_{n:032x}"} for n in range(300)]
    batch = await uploaded(shop, lines, lines_per_second="100")
    await becomes(shop, batch["id"], "done")
    events = await told(shop, "batch.progress", 2)
    ended = [event["data"]["failed"] for event in events]
    assert 2 <= len(ended) <= 9
    assert len({each * 10 // 300 for each in ended}) == len(ended)
    assert ended == sorted(ended)
    assert ended[-1] < 300


async def test_a_batch_rests_while_the_merchant_has_no_account(
    stack: Stack, worker: None, shop: Shop
) -> None:
    batch = await uploaded(shop, [await payment_line(stack, shop)], start="false")
    other = await uploaded(shop, [await payment_line(stack, shop)], start="false")
    await stack.fetch("DELETE FROM processor_accounts WHERE merchant_id = $1", shop.merchant_id)
    await shop.post(f"/batches/{other['id']}/start")
    await becomes(shop, other["id"], "paused")
    await shop.post(f"/batches/{other['id']}/cancel")
    groups = "SELECT count(*) FROM batch_groups WHERE merchant_id = $1"

    async def is_over() -> bool:
        return await stack.value(groups, shop.merchant_id) == 0

    await until(is_over, what="the cancelled batch is over")
    await shop.post(f"/batches/{batch['id']}/start")
    paused = await becomes(shop, batch["id"], "paused")
    assert "account cannot be used" in paused["reason"]
    await stack.set_account(shop)
    await shop.post(f"/batches/{batch['id']}/resume")
    assert (await becomes(shop, batch["id"], "done"))["done"] == 1
