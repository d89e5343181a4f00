"""What each request costs the database, in counts that do not depend on the machine.

An extra statement, kilobyte of WAL or row read per request must be intended: then change the
numbers here and state the reason.
"""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from easypay import clock, ids
from easypay.db import partitions
from easypay.payments import lists, statements
from easypay.payments.model import PaymentKey
from easypay_bench import counters, scrape
from easypay_bench.http_calls import call
from easypay_bench.stack import Merchant, Stack, own, shop
from harness import card, http_client, until

TIMES = 20
WAL_BYTES_PER_PAYMENT = 5_500
"""For one sale alone, with its two commits. 4,700 were measured."""


class Asker:
    """A shop of this stack, whose requests must succeed."""

    def __init__(self, stack: Stack, merchant: Merchant) -> None:
        self.stack = stack
        self.merchant = merchant
        self.client = http_client(
            base_url=f"{stack.api_url}/api/v1",
            headers={"authorization": f"Bearer {merchant.api_key}"},
            timeout=30,
        )

    async def post(self, path: str, body: Any, *, key: str | None = None) -> dict[str, Any]:
        headers = {"idempotency-key": key or str(uuid.uuid4())}
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        reply: dict[str, Any] = answer.json()
        return reply

    async def pay(self, capture: str = "automatic", key: str | None = None) -> str:
        body = {"amount": 2500, "currency": "USD", "capture": capture, "payment_method": card()}
        return str((await self.post("/payments", body, key=key))["id"])

    async def get(self, path: str) -> None:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def counting_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose PostgreSQL counts statements."""

    def enter() -> tuple[ExitStack, Stack]:
        leaving = ExitStack()
        # Its background jobs would be counted, too.
        seldom = {"resolver_poll_s": "3600"}
        return leaving, leaving.enter_context(own(tmp_path_factory.mktemp("own"), settings=seldom))

    # It starts event loops, and this thread may already run one.
    with ThreadPoolExecutor(1) as elsewhere:
        leaving, stack = elsewhere.submit(enter).result()
        yield stack
        elsewhere.submit(leaving.close).result()


@pytest.fixture(scope="module")
async def asker(counting_stack: Stack) -> AsyncIterator[Asker]:
    with shop(counting_stack) as merchant:
        made = Asker(counting_stack, merchant)

        async def key_is_cached() -> bool:
            before = scrape.read(counting_stack.api_url, counting_stack.admin_key)
            await made.get("/payments?limit=1")
            counted = scrape.between(
                before, scrape.read(counting_stack.api_url, counting_stack.admin_key)
            )
            return scrape.total(counted, "easypay_cache_requests_total", result="hit") > 0

        await until(key_is_cached)
        yield made
        await made.client.aclose()


Prepared = Callable[[Asker], Awaitable[Callable[[], Awaitable[object]]]]
"""Prepares for TIMES requests of one kind, and returns a function that sends the next one."""


async def _taking(asker: Asker) -> Callable[[], Awaitable[object]]:
    return asker.pay


async def _following(asker: Asker, capture: str, path: str, body: Any) -> Any:
    payments = [await asker.pay(capture) for _ in range(TIMES)]
    if path == "refunds":
        call("POST", f"{asker.stack.simulator_url}/simulator/settle", {})
    return lambda: asker.post(f"/payments/{payments.pop()}/{path}", body)


async def _replaying(asker: Asker) -> Callable[[], Awaitable[object]]:
    key = str(uuid.uuid4())
    await asker.pay(key=key)
    return lambda: asker.pay(key=key)


async def _reading(asker: Asker) -> Callable[[], Awaitable[object]]:
    payment = await asker.pay()
    return lambda: asker.get(f"/payments/{payment}")


async def _listing(asker: Asker, path: str) -> Callable[[], Awaitable[object]]:
    for _ in range(25):
        await asker.pay()
    return lambda: asker.get(path)


@pytest.mark.parametrize(
    ("prepare", "statements_each"),
    [
        pytest.param(_taking, 2, id="take a payment: begin, record"),
        pytest.param(
            lambda a: _following(a, "manual", "capture", {}), 2, id="capture: begin, record"
        ),
        pytest.param(lambda a: _following(a, "manual", "void", {}), 2, id="void: begin, record"),
        pytest.param(
            lambda a: _following(a, "automatic", "refunds", {"amount": 100}),
            2,
            id="refund a part: begin, record",
        ),
        pytest.param(_replaying, 3, id="replay: a begin that claims nothing, the key, its reply"),
        pytest.param(_reading, 1, id="read one"),
        pytest.param(lambda a: _listing(a, "/payments?limit=20"), 1, id="the first page"),
        pytest.param(
            lambda a: _listing(a, "/payments?limit=20&expand=refunds,operations"),
            2,
            id="a page with children: the page, all children",
        ),
        pytest.param(
            lambda a: _listing(a, "/payments?page=2&size=5"),
            3,
            id="a numbered page: its place in the newest months and those before, its rows",
        ),
    ],
)
async def test_each_request_takes_its_number_of_statements(
    asker: Asker, prepare: Prepared, statements_each: int
) -> None:
    act = await prepare(asker)
    counted = await counters.count_statements(asker.stack.database_url, act, times=TIMES)
    assert sum(each.calls for each in counted) == statements_each, [
        (each.sql, each.calls) for each in counted
    ]


async def test_a_payment_writes_little_wal(asker: Asker) -> None:
    found = await counters.measure(asker.stack.database_url, asker.pay, payments=100)
    assert 1000 < found.wal_bytes <= WAL_BYTES_PER_PAYMENT
    assert found.statements_per_payment == 2
    assert found.hot_ratio >= 0.95


@pytest.fixture(scope="module")
async def crowded(asker: Asker) -> AsyncIterator[tuple[Any, PaymentKey]]:
    """A connection set up like the lanes', a merchant with 3,000 payments, and one of them."""
    connection = await asyncpg.connect(
        asker.stack.database_url,
        server_settings={
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
        },
    )
    for _ in range(3):
        await asker.pay()
    months = partitions.Months()
    await months.load(connection)
    month = months.of(ids.new_id())
    columns = ", ".join(
        row["column_name"]
        for row in await connection.fetch(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_name = 'payments' AND column_name <> 'id' AND is_generated = 'NEVER'"
            " ORDER BY ordinal_position"
        )
    )
    # Copies of a real payment with other ids of the same month.
    await connection.execute(
        f"INSERT INTO payments{month} (id, {columns})"
        " SELECT (left(p.id::text, 15) || right(gen_random_uuid()::text, 21))::uuid,"
        f" {columns} FROM (SELECT * FROM payments WHERE merchant_id = $1 LIMIT 1) p,"
        " generate_series(1, 3000)",
        asker.merchant.id,
    )
    await connection.execute(f"ANALYZE payments{month}")
    payment_id = await connection.fetchval(
        "SELECT id FROM payments WHERE merchant_id = $1 ORDER BY id DESC LIMIT 1",
        asker.merchant.id,
    )
    yield connection, PaymentKey(asker.merchant.id, "test", payment_id)
    await connection.close()


async def test_reading_a_payment_touches_one_row(crowded: tuple[Any, PaymentKey]) -> None:
    connection, key = crowded
    month = _month(await _months(connection), key)
    arguments = statements.read_payments_arguments([key])
    sql = statements.in_months(statements.READ_PAYMENTS, month)
    touched, blocks = await _touched(connection, sql, *arguments)
    assert touched == 1
    assert blocks <= 6, "three index levels and the row"


async def test_the_first_page_touches_only_its_rows(crowded: tuple[Any, PaymentKey]) -> None:
    connection, key = crowded
    now = clock.now()
    floor = ids.lowest_id_at(partitions.month_start(now, -1))
    below = ids.lowest_id_at(now + timedelta(days=1))
    months, _ = (await _months(connection)).first(floor, below, count=2, newest_first=True)
    sql = lists.page_sql(lists.PAYMENTS, months, newest_first=True)
    touched, blocks = await _touched(connection, sql, key.merchant_id, "test", floor, below, 21)
    assert touched == 21, "only the newest rows"
    assert blocks <= 40


async def _months(connection: Any) -> partitions.Months:
    months = partitions.Months()
    await months.load(connection)
    return months


def _month(months: partitions.Months, key: PaymentKey) -> str:
    return months.of(key.payment_id)


async def _touched(connection: Any, sql: str, *arguments: object) -> tuple[int, int]:
    """Return how many rows of payments and how many blocks a statement reads."""
    plan_json = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON, COSTS OFF, TIMING OFF) {sql}", *arguments
    )
    plan = json.loads(plan_json)[0]["Plan"]
    rows = 0
    waiting = [plan]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if node.get("Relation Name", "").startswith("payments"):
            read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            rows += round(read * node["Actual Loops"])
    return rows, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
