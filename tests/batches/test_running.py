"""A batch is run by a worker: each line once, and in the order of its payment."""

from collections.abc import AsyncIterator

import pytest
from faults.seeds.fork_server import ForkServer

from batches.batch_shop import batch_shop, becomes, payment_line, results, uploaded
from harness import QUICK, Shop, Stack, audit, own_stack
from harness.forked import ForkedWorkers, forked_workers

stack = own_stack(**QUICK)


@pytest.fixture(scope="module")
async def workers(fork_server: ForkServer, stack: Stack) -> AsyncIterator[ForkedWorkers]:
    async with forked_workers(fork_server, stack, **QUICK) as workers:
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
