"""The resolver's chores are independent: one that fails, waits or is slow stops no other."""

import asyncio
import uuid
from itertools import pairwise
from typing import Any, cast

from easypay import ids
from easypay.db.embedded import Cluster
from easypay.db.pool import open_pool
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.payments import account_lease, resolver_rows
from easypay.payments.resolver import Resolver
from easypay.payments.statements import Recorder
from harness import (
    ENCRYPTION_KEY,
    QUICK,
    Shop,
    Stack,
    audit,
    held,
    new_database,
    own_stack,
    payment_uuid,
    until,
)

# One gateway for the tests that do not disturb it.
quick = own_stack(**QUICK)
SLOW_MS = 8_000
"""What each list of a slow account takes, longer than all else on a busy machine."""


async def lost(stack: Stack, shop: Shop, fault: str = "drop_reply", count: int = 1) -> list[str]:
    """Make this many payments whose replies are lost; return their ids."""
    payments = "createTransactionRequest"
    await stack.simulator.fault(fault, shop.login, count=count, method=payments)
    answers = await asyncio.gather(*(shop.pay(2500) for _ in range(count)))
    assert {answer.status_code for answer in answers} == {202}
    return [answer.json()["id"] for answer in answers]


async def test_locks_on_the_resolvers_own_rows_stop_no_inquiry(quick: Stack) -> None:
    shop = await quick.shop(quick.only_gateway)
    sweep, expiry = (
        f"SELECT pg_advisory_xact_lock(hashtext('easypay {name}'))" for name in ("sweep", "expiry")
    )
    async with held(quick.dsn, f"SELECT * FROM sweeps FOR UPDATE; {sweep}; {expiry}"):
        (payment_id,) = await lost(quick, shop)
        await shop.becomes(payment_id, "captured")
    assert await audit(quick, shop) == []


async def test_a_lock_on_one_case_delays_no_other(quick: Stack) -> None:
    """Neither one of the same account nor one of another."""
    shop, other = await quick.shop(quick.only_gateway), await quick.shop(quick.only_gateway)
    stuck, free = await lost(quick, shop, count=2)
    (elsewhere,) = await lost(quick, other)
    async with held(
        quick.dsn, "SELECT FROM payments WHERE id = $1 FOR UPDATE", payment_uuid(stuck)
    ):
        await asyncio.gather(shop.becomes(free, "captured"), other.becomes(elsewhere, "captured"))
        assert (await shop.payment(stuck))["status"] == "processing"
    await shop.becomes(stuck, "captured")
    assert await audit(quick, shop) == []


async def lost_with_a_slow_account(stack: Stack, shop: Shop) -> str:
    """Return a payment whose reply was lost while its account's lists are read slowly."""
    lists = "getUnsettledTransactionListRequest"
    await stack.simulator.post(
        "/faults", kind="latency", ms=SLOW_MS, login=shop.login, method=lists
    )
    (payment_id,) = await lost(stack, shop)

    async def pass_runs() -> bool:
        return bool(await stack.fetch("SELECT FROM account_passes WHERE leased_until > db_now()"))

    await until(pass_runs, what="an account pass is running")
    return payment_id


async def test_a_slow_account_delays_no_other(quick: Stack) -> None:
    slow, prompt = await quick.shop(quick.only_gateway), await quick.shop(quick.only_gateway)
    slow_payment = await lost_with_a_slow_account(quick, slow)
    for _ in range(3):
        (payment_id,) = await lost(quick, prompt)
        await prompt.becomes(payment_id, "captured", within_s=0.9 * SLOW_MS / 1000)
    await quick.simulator.clear_faults()
    await slow.becomes(slow_payment, "captured", within_s=40)


async def test_a_killed_process_s_inquiries_are_soon_made_by_another(stack: Stack) -> None:
    """The killed process leased the account; the lease expires without any notice."""
    killed = await stack.gateway(**QUICK)
    shop = await stack.shop(killed)
    payment_id = await lost_with_a_slow_account(stack, shop)
    killed.kill()
    await stack.simulator.clear_faults()
    another = await stack.gateway(**QUICK)
    await stack.move_clock(18)
    await shop.at(another.url).becomes(payment_id, "captured", within_s=15)
    assert await audit(stack, shop) == []


async def test_a_database_clock_that_was_set_back_delays_no_inquiry(stack: Stack) -> None:
    """The inquiry is due in two hours, and the lease of a killed process ends then."""
    killed = await stack.gateway(**QUICK)
    shop = await stack.shop(killed)
    await stack.move_clock(7200)
    payment_id = await lost_with_a_slow_account(stack, shop)
    killed.kill()
    await stack.simulator.clear_faults()
    await stack.move_clock(0)
    another = await stack.gateway(**QUICK)
    await shop.at(another.url).becomes(payment_id, "captured")
    assert await audit(stack, shop) == []


async def test_a_first_inquiry_that_waits_long_is_not_taken_for_a_clock_set_back(
    cluster: Cluster, template: str
) -> None:
    hour_s, nobody = 3600.0, ids.new_id()
    pool = await open_pool(await new_database(cluster.dsn, template), size=2)
    await pool.execute(
        "INSERT INTO unresolved_operations"
        " (merchant_id, operation_id, payment_id, since, next_inquiry_at)"
        " VALUES ($1, $1, $1, db_now(), db_now() + make_interval(secs => $2))",
        nobody,
        hour_s,
    )
    resolver = Resolver(
        pool=pool,
        recorder=Recorder(cast(Any, None), pool, first_inquiry_s=hour_s),
        processors={},
        directory=Directory(pool, Vault(ENCRYPTION_KEY), {}, lease_s=1),
        deadline_s=1,
        first_inquiry_s=hour_s,
        interval_s=1,
        gap_s=1,
        absent_after_s=1,
        not_sent_s=1,
        review_interval_s=1,
        poll_s=1,
    )
    waits = "SELECT next_inquiry_at > db_now() + interval '50 min' FROM unresolved_operations"
    await resolver.mind_the_clock()
    assert await pool.fetchval(waits)
    await pool.execute("UPDATE unresolved_operations SET next_inquiry_at = db_now() + '3 hours'")
    await resolver.mind_the_clock()
    assert not await pool.fetchval(waits), "due now"
    await pool.close()


async def test_operations_never_sent_in_an_outage_do_not_delay_new_unknowns(quick: Stack) -> None:
    """Over a hundred unsent payments end by themselves, and a lost reply does not wait for them."""
    shop = await quick.shop(quick.only_gateway)
    async with quick.refusing():
        answers = await asyncio.gather(*(shop.pay(100) for _ in range(120)))
    assert {answer.status_code for answer in answers} == {503}
    (payment_id,) = await lost(quick, shop)
    await shop.becomes(payment_id, "captured", within_s=20)

    async def ended() -> bool:
        failed = "SELECT count(*) = 120 FROM payments WHERE merchant_id = $1 AND status = 'failed'"
        return bool(await quick.value(failed, shop.merchant_id))

    await until(ended, what="every unsent payment has failed")
    assert await audit(quick, shop) == []


async def test_an_operation_of_a_gateway_whose_clock_is_hours_off_is_found(stack: Stack) -> None:
    """Its id has another hour than the database's clock: the wide sweep covers both directions."""
    gateway = await stack.gateway(**QUICK)
    shop = await stack.shop(gateway)
    paid = await shop.paid(2500)
    (row,) = await stack.fetch(
        "SELECT o.* FROM operations o WHERE merchant_id = $1", shop.merchant_id
    )
    moved = {}
    for hours in (-5, 5):
        shifted = uuid.UUID(int=row["id"].int + (hours * 3_600_000 << 80))
        await stack.fetch(
            "INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,"
            " currency, reference, begun_at) SELECT merchant_id, $2, payment_id, mode, 'refund',"
            " 'in_flight', 1, currency, $3, now() - interval '1 minute' FROM operations"
            " WHERE merchant_id = $1 AND id = $4",
            shop.merchant_id,
            shifted,
            "0" * 18 + f"{hours + 20:02d}",
            row["id"],
        )
        moved[shifted] = hours
    restarted = await stack.gateway(**QUICK)  # each process starts with a wide sweep

    async def found() -> bool:
        rows = await stack.fetch(
            "SELECT operation_id FROM unresolved_operations WHERE merchant_id = $1",
            shop.merchant_id,
        )
        return {row[0] for row in rows} == set(moved)

    await until(found, what="both are listed")
    assert restarted.running
    assert paid["status"] == "captured"


async def test_operations_and_payments_are_found_by_their_whole_keys(stack: Stack) -> None:
    """Even on tables without statistics; otherwise 100,000 open operations would take for ever."""
    many = [[ids.new_id() for _ in range(5000)] for _ in range(3)]
    for sql, arguments in (
        (account_lease._FILL, many),
        (account_lease._WITHOUT_LOGIN, many),
        (resolver_rows._CASES_OPEN, many[:2]),
        (resolver_rows._CASES_WATCHED, many[:2]),
    ):
        joined = sql.format(joins=resolver_rows.joins(many[1], many[2]))
        plan = [row[0] for row in await stack.fetch(f"EXPLAIN {joined}", *arguments)]
        below = [after for line, after in pairwise(plan) if " on payments_" in line]
        assert below
        assert all("(id = " in condition for condition in below), "\n".join(plan)
