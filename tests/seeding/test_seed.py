"""`easypay db seed`: the rows are those that the gateway would have written, and nothing else is
touched. The judges are the gateway's own functions, its API, and the audit of the money rules."""

import asyncio
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from easypay import ids
from easypay.db import partitions
from easypay.db.embedded import Cluster
from easypay.db.table_sizes import payments_in, sizes
from easypay.merchants import admin
from easypay.payments.model import (
    OPERATION_COLUMNS,
    PAYMENT_COLUMNS,
    Operation,
    Payment,
    Status,
    operation_of,
    payment_of,
)
from easypay.payments.outcome_changes import decide, payment_after
from easypay.seeding import replies, run
from easypay.seeding.days import unix_us
from easypay.seeding.plan import CannotSeed, Plan
from easypay.seeding.shops import HIGHEST, LOWEST, shops
from easypay.seeding.stories import Teller, Told
from harness import Shop, Simulator, Stack, new_database, seeded_with, until
from harness.audit import check_rows

PLAN = Plan(4_000, 8, 40, seed=7, until=datetime.now(UTC) - timedelta(seconds=1))
SMALL = Plan(600, 5, 9, seed=3, until=PLAN.until)


@pytest.fixture(scope="module")
async def dsn(cluster: Cluster, template: str) -> str:
    """Return a database filled with PLAN."""
    made = await new_database(cluster.dsn, template)
    progress = await seeded_with(made, PLAN)
    assert (progress.written, progress.months_done) == (PLAN.payments, PLAN.months)
    return made


@pytest.fixture
async def connection(dsn: str) -> Any:
    opened = await asyncpg.connect(dsn)
    yield opened
    await opened.close()


def told(plan: Plan) -> list[Told]:
    """Return the stories of a plan."""
    teller = Teller(plan.seed, shops(plan.merchants, plan.seed), unix_us(plan.until), plan.payments)
    return [each for its in plan.days().values() for day in its for each in teller.day(day)]


def replayed(story: Told) -> tuple[Payment, list[Operation], list[tuple[str, str]]]:
    """Return what the gateway's functions make of a story: the payment, its operations and the
    types of its events with the status after each."""
    payment, operations, events = replies.payment_at_first(story), [], []
    for step in story.steps:
        if step.kind == "expiry":
            payment = msgspec.structs.replace(
                payment,
                status=Status.EXPIRED,
                version=payment.version + 1,
                updated_at=replies.at(step.ended_us),
            )
            events.append(("payment.expired", "expired"))
            continue
        operation, payment = replies.begun(payment, step)
        if step.outcome is None:
            operations.append((operation, None))
            continue
        learned = replies.learned_of(story, step, step.outcome)
        at = replies.at(step.ended_us)
        change = decide(operation, payment, learned, at=at, first_inquiry_s=5)
        payment = payment_after(payment, change.payment, change.answer, at)
        operations.append((operation, change))
        assert change.event_type is not None
        events.append((change.event_type, payment.status.value))
    return payment, operations, events


async def test_rows_are_what_the_gateways_functions_make_of_the_stories(connection: Any) -> None:
    stories = told(PLAN)
    assert len(stories) == PLAN.payments
    payments = {
        row["id"]: payment_of(row)
        for row in await connection.fetch(f"SELECT {PAYMENT_COLUMNS} FROM payments")
    }
    operations = {
        row["id"]: operation_of(row)
        for row in await connection.fetch(f"SELECT {OPERATION_COLUMNS} FROM operations")
    }
    events = defaultdict(list)
    for row in await connection.fetch("SELECT * FROM events ORDER BY id"):
        events[row["payment_id"]].append(row)
    keys = {r["operation_id"]: r for r in await connection.fetch("SELECT * FROM idempotency_keys")}
    assert len(payments) == len(stories)
    assert sum(len([s for s in story.steps if s.kind != "expiry"]) for story in stories) == len(
        operations
    )
    for story in stories:
        expected, steps, happened = replayed(story)
        found = payments[UUID(bytes=story.id)]
        assert differences(found, expected) == []
        assert [(e["type"], e["status"]) for e in events[found.id]] == happened
        answered = [reply for reply in replies.replies(story) if reply is not None]
        for (begun, change), reply in zip(steps, answered, strict=True):
            operation = operations[begun.id]
            assert operation.reference == ids.reference(begun.id) == begun.reference
            assert operation.begun_at == begun.begun_at
            assert operation.parent_transaction_id == begun.parent_transaction_id
            if change is not None:
                assert operation.state == change.effect.state
                assert operation.finished_at == change.effect.finished_at
                assert operation.voided == change.effect.voided
                kept = [getattr(operation.answer, f) for f in ANSWER]
                assert kept == [getattr(change.answer, f) for f in ANSWER]
            lives = operation.begun_at >= PLAN.until - timedelta(days=30)
            assert (operation.id in keys) == lives
            stored = (operation.reply_status, operation.reply_body)
            assert stored == (reply if lives else (None, None))


ANSWER = ("transaction_id", "auth_code", "decline_code", "code", "message", "retry")


def differences(stored: Payment, expected: Payment) -> list[tuple[str, Any, Any]]:
    """Return the fields that differ. jsonb has spaces, and a row has its card columns only once."""
    found = []
    for field in Payment.__struct_fields__:
        has, should = getattr(stored, field), getattr(expected, field)
        if field == "metadata":
            has = has and has.replace(" ", "")
        if field == "answer":
            should = msgspec.structs.replace(should, card_brand=None, card_last4=None)
        if has != should:
            found.append((field, has, should))
    return found


async def test_no_money_rule_is_broken_and_every_case_occurs(connection: Any) -> None:
    payments, operations, events = [
        await connection.fetch(f"SELECT * FROM {table}")
        for table in ("payments", "operations", "events")
    ]
    assert check_rows(payments, operations, events) == []
    counted = Counter(row["status"] for row in payments)
    assert set(counted) >= {
        *("processing", "authorized", "captured", "declined", "failed", "voided", "expired")
    }
    assert {row["currency"] for row in payments} >= {"USD", "EUR", "GBP", "CAD", "JPY"}
    assert {row["mode"] for row in payments} == {"test", "live"}
    by_merchant = Counter(row["merchant_id"] for row in payments)
    biggest = by_merchant.pop(LOWEST)
    assert 0.3 < biggest / PLAN.payments < 0.37
    assert max(by_merchant.values()) > 10 * min(by_merchant.values())
    assert all(LOWEST <= merchant <= HIGHEST for merchant in by_merchant)
    codes = Counter(row["decline_code"] for row in payments if row["status"] == "declined")
    assert codes.most_common(1)[0][0] == "generic_decline"
    assert len(codes) > 5
    assert {row["kind"] for row in operations} == {
        *("sale", "authorize", "capture", "void", "refund", "approve", "decline")
    }
    refunds = [row for row in payments if row["refunded_minor"]]
    assert any(row["refunded_minor"] < row["captured_minor"] for row in refunds)
    assert any(row["refunded_minor"] == row["captured_minor"] for row in refunds)
    open_ones = {row[0] for row in await connection.fetch(
        "SELECT operation_id FROM unresolved_operations")}  # fmt: skip
    assert open_ones == {
        row["id"]
        for row in operations
        if row["state"] == "unknown"
        or (
            row["state"] == "held"
            and any(p["id"] == row["payment_id"] and p["status"] == "in_review" for p in payments)
        )
    }
    assert all(row["created_at"] <= PLAN.until for row in events)


async def _all_visible(connection: Any, table: str) -> bool:
    """Whether every page of a table is visible to all. VACUUM cannot say so of the newest rows
    while autovacuum has a snapshot from before them, so it is asked again."""
    sql = "SELECT relallvisible = relpages FROM pg_class WHERE relname = $1"
    if await connection.fetchval(sql, table):
        return True
    await connection.execute(f"VACUUM {table}")
    return bool(await connection.fetchval(sql, table))


async def test_months_that_are_over_are_full_and_nothing_lies_outside(connection: Any) -> None:
    assert await partitions.strays(connection) == dict.fromkeys(partitions.PARTITIONED, 0)
    for table in partitions.PARTITIONED:
        moments = {row["id"]: None for row in await connection.fetch(f"SELECT id FROM {table}")}
        assert len(moments) == await connection.fetchval(f"SELECT count(*) FROM {table}")
    rows = await connection.fetch(
        "SELECT relname, relpages, relallvisible, reloptions, reltuples FROM pg_class"
        " WHERE relname ~ '^(payments|operations|events)_2' AND relkind = 'r'"
    )
    tables = {row["relname"]: row for row in rows}
    now = PLAN.until
    for back in range(1, PLAN.months):
        for name in partitions.tables_of(partitions.month_start(now, -back)).values():
            assert tables[name]["reloptions"] == ["fillfactor=100"], name
            await until(partial(_all_visible, connection, name), what=(name, "is all visible"))
    for table, name in partitions.tables_of(partitions.month_start(now)).items():
        assert tables[name]["reloptions"] == [f"fillfactor={partitions.FILLFACTOR[table]}"]
    # Each month has the indexes of its parent, valid and attached.
    unattached = await connection.fetchval(
        "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
        " WHERE c.relispartition AND (NOT i.indisvalid OR NOT EXISTS"
        " (SELECT FROM pg_inherits WHERE inhrelid = i.indexrelid))"
    )
    assert unattached == 0
    assert not await connection.fetchval(
        "SELECT count(*) FROM pg_constraint WHERE conname='in_month'"
    )
    row_bytes = {size.table: size for size in await sizes(connection)}
    assert payments_in(list(row_bytes.values())) == PLAN.payments
    assert sum(size.total for size in row_bytes.values()) == await connection.fetchval(
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    assert set(row_bytes["operations"].indexes) == {
        *("operations_pkey", "operations_of_payment", "operations_recent", "operations_refunds")
    }


async def test_a_gateway_serves_a_seed(
    dsn: str, connection: Any, simulator: Simulator, tmp_path: Path
) -> None:
    with Stack(dsn, simulator, tmp_path) as stack:
        gateway = await stack.gateway()
        _, secret = await admin.create_key(connection, LOWEST, mode="live")
        shop = Shop(LOWEST, secret, "", gateway.url)
        listed = await shop.all("/payments")
        rows = await connection.fetch(
            f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE merchant_id = $1 AND mode = 'live'"
            " ORDER BY id DESC", LOWEST)  # fmt: skip
        assert [each["id"] for each in listed] == [ids.typed("pay", row["id"]) for row in rows]
        by_status: dict[str, list[Any]] = defaultdict(list)
        for each in listed:
            by_status[each["status"]].append(each)
        for each in (
            some for alike in by_status.values() for some in alike[:: len(alike) // 4 + 1]
        ):
            assert await shop.payment(each["id"]) == each
            operations = await shop.all(f"/payments/{each['id']}/operations")
            events = await shop.all(f"/payments/{each['id']}/events")
            refunds = await shop.all(f"/payments/{each['id']}/refunds")
            assert operations[0]["kind"] in ("sale", "authorize")
            assert [r["id"][3:] for r in refunds] == [
                o["id"][3:] for o in operations if o["kind"] == "refund"
            ]
            given_back = [
                r for r in refunds if (r["status"], r["method"]) == ("succeeded", "refund")
            ]
            assert sum(r["amount"] for r in given_back) == each["refunded_amount"]
            assert each["version"] == 1 + len(events)
            if events:
                assert events[-1]["created_at"] == each["updated_at"]
        await shop.client.aclose()


async def test_a_seed_that_was_killed_goes_on_and_is_the_same(
    cluster: Cluster, template: str
) -> None:
    whole, broken = [await new_database(cluster.dsn, template) for _ in range(2)]
    await seeded_with(whole, SMALL, processes=1)
    first = await asyncpg.connect(broken)
    wrote = asyncio.Event()

    def show(progress: run.Progress) -> None:
        if progress.months_done == 2:
            wrote.set()

    plan, _ = await run.begin(first, SMALL)
    filling = asyncio.create_task(run.fill(broken, first, plan, run.Progress(show), processes=2))
    await wrote.wait()
    filling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await filling
    assert await first.fetchval("SELECT count(*) FROM payments") < SMALL.payments
    # Another seed does not go on with this one.
    with pytest.raises(CannotSeed, match="holds a seed of 600 payments over 5 months"):
        await run.begin(first, Plan(700, 5, 9, seed=3, until=SMALL.until))
    await first.close()
    later = Plan(600, 5, 9, seed=3, until=SMALL.until + timedelta(hours=1))
    await seeded_with(broken, later)
    assert await checksums(broken) == await checksums(whole)


async def checksums(dsn: str) -> list[Any]:
    """Return a number for all rows of each table, without what depends on the transaction."""
    tables = (*partitions.PARTITIONED, "idempotency_keys", "merchants", "unresolved_operations")
    sql = "SELECT sum(hashtextextended((to_jsonb(t) - 'written_by')::text, 0)) FROM {} t"
    connection = await asyncpg.connect(dsn)
    try:
        return [await connection.fetchval(sql.format(table)) for table in tables]
    finally:
        await connection.close()


async def test_other_payments_are_never_mixed_with_a_seed_and_clear_leaves_them(
    cluster: Cluster, template: str
) -> None:
    dsn = await new_database(cluster.dsn, template)
    connection = await asyncpg.connect(dsn)
    before = await checksums(dsn)
    had = await partitions.attached(connection)
    await seeded_with(dsn, SMALL)
    assert await checksums(dsn) != before
    # While a seed is there, a merchant of flesh and blood takes a payment.
    other = await admin.create_merchant(connection, name="Real", currencies=["USD"])
    payment = await connection.fetchval(
        "INSERT INTO payments (merchant_id, id, mode, status, amount_minor, currency, capture,"
        " method_type, processor, created_at, updated_at) VALUES ($1, $2, 'live', 'processing', 1,"
        " 'USD', 'automatic', 'card', 'authorize_net', now(), now()) RETURNING id",
        other.merchant_id,
        ids.new_id(),
    )
    with pytest.raises(CannotSeed, match="payments that no seed made"):
        await run.begin(connection, SMALL)
    assert await run.clear(connection, lambda step: None) == SMALL.merchants
    assert [row["id"] for row in await connection.fetch("SELECT id FROM payments")] == [payment]
    await connection.execute("DELETE FROM payments")
    await connection.execute("DELETE FROM merchants")
    # Without others the months go too, and the present month has its room for updates again.
    await seeded_with(dsn, SMALL)
    assert await run.clear(connection, lambda step: None) == SMALL.merchants
    assert await checksums(dsn) == before
    assert await partitions.attached(connection) == had
    for table in partitions.PARTITIONED:
        options = await connection.fetch(
            "SELECT DISTINCT reloptions FROM pg_class WHERE relname ~ $1 AND relkind = 'r'",
            f"^{table}_2",
        )
        assert [row[0] for row in options] == [[f"fillfactor={partitions.FILLFACTOR[table]}"]]
    assert await connection.fetchval("SELECT count(*) FROM payments") == 0
    await connection.close()
