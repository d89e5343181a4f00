"""Expired keys are purged, and a cache without its lease asks the database."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from easypay.clock import monotonic
from easypay.db.pool import open_pool
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.payments import purge
from easypay.payments.purge import purge_keys
from easypay.processors.registry import installed
from harness import ENCRYPTION_KEY, Shop, Stack, held, payment_uuid, until
from harness.metrics import counted


@pytest.fixture(autouse=True)
async def purged(shop: Shop) -> None:
    """Wait until the gateway has purged, as it does once a day from its start on: while it does,
    nobody else can."""
    name, labels = "easypay_function_duration_seconds_count", {"function": "forgetting old keys"}

    async def has_purged() -> float:
        return await counted(shop.url, name, **labels)

    await until(has_purged, what="the gateway has purged")


async def test_keys_are_kept_thirty_days_and_their_payments_for_ever(
    shared_stack: Stack, shop: Shop
) -> None:
    old, young = str(uuid.uuid4()), str(uuid.uuid4())
    payments = [await shop.paid(key=key) for key in (old, young)]
    connection = await asyncpg.connect(shared_stack.dsn)
    for key, age in ((old, timedelta(days=31)), (young, timedelta(days=29))):
        await connection.execute(
            "UPDATE idempotency_keys SET created_at = now() - $2::interval WHERE key = $1", key, age
        )
    pool = await open_pool(shared_stack.dsn, size=2)
    assert await purge_keys(pool, days=30) == 1
    await connection.executemany(
        "INSERT INTO idempotency_keys"
        " VALUES ($1, 'test', $2, $3, $1, $1, now() - interval '40 days')",
        [(uuid.uuid4(), str(number), bytes(32)) for number in range(12_000)],
    )
    assert await purge_keys(pool, days=30) == 12_000, "in several batches"
    await pool.close()
    await connection.close()
    assert (await shop.client.get(f"/idempotency-keys/{old}")).status_code == 404
    assert (await shop.client.get(f"/idempotency-keys/{young}")).status_code == 200
    for payment in payments:
        assert (await shop.payment(payment["id"]))["status"] == "captured"


@pytest.mark.parametrize("age", [timedelta(hours=2), timedelta(days=1_000)])
async def test_a_key_whose_operation_is_open_or_watched_is_never_purged(
    shared_stack: Stack, shop: Shop, age: timedelta
) -> None:
    """If it were, a repeat under the same key would charge again. Operations whose ids are of
    another month than their keys are found, too."""
    states = ("in_flight", "unknown", "not_sent", "held", "approved")
    keys = {state: f"old {state} {uuid.uuid4()}" for state in (*states, "listed", "watched")}
    connection = await asyncpg.connect(shared_stack.dsn)
    for state, key in keys.items():
        payment = payment_uuid((await shop.paid(key=key))["id"])
        if state == "watched":  # called absent, but still watched
            await connection.execute(
                "INSERT INTO watched_operations (merchant_id, operation_id, payment_id, account,"
                "    purpose, since, until, next_look_at)"
                " SELECT merchant_id, id, payment_id, '', 'absent', now(), now() + interval '3 d',"
                "    now() + interval '1 day' FROM operations WHERE payment_id = $1",
                payment,
            )
        elif state == "listed":
            # Far in the future, so that the gateway's own resolver does not ask about it.
            await connection.execute(
                "INSERT INTO unresolved_operations"
                " (merchant_id, operation_id, payment_id, since, next_inquiry_at)"
                " SELECT merchant_id, id, payment_id, now(), now() + interval '1 day'"
                "   FROM operations WHERE payment_id = $1",
                payment,
            )
        else:
            await connection.execute(
                "UPDATE operations SET state = $2 WHERE payment_id = $1", payment, state
            )
    await connection.execute(
        "UPDATE idempotency_keys SET created_at = now() - $2::interval WHERE key = ANY ($1)",
        list(keys.values()),
        age,
    )
    pool = await open_pool(shared_stack.dsn, size=1)
    try:
        now = await connection.fetchval("SELECT now()")
        around = [now - age + timedelta(minutes=5), now - age - timedelta(minutes=5)]
        assert await purge._purge_between(pool, around) == 1
        left = await connection.fetch(
            "SELECT key FROM idempotency_keys WHERE key = ANY ($1)", list(keys.values())
        )
        assert {row["key"] for row in left} == set(keys.values()) - {keys["approved"]}
    finally:
        await connection.execute(
            "UPDATE operations SET state = 'approved' WHERE merchant_id = $1", shop.merchant_id
        )
        for table in ("unresolved_operations", "watched_operations"):
            await connection.execute(
                f"DELETE FROM {table} WHERE merchant_id = $1", shop.merchant_id
            )
        await pool.close()
        await connection.close()


async def test_only_one_process_purges_at_a_time(shared_stack: Stack, shop: Shop) -> None:
    key = str(uuid.uuid4())
    await shop.paid(key=key)
    await shared_stack.fetch(
        "UPDATE idempotency_keys SET created_at = now() - interval '31 days' WHERE key = $1", key
    )
    pool = await open_pool(shared_stack.dsn, size=1)
    async with held(shared_stack.dsn, "SELECT pg_advisory_xact_lock(hashtext('easypay purge'))"):
        async with asyncio.timeout(5):
            assert await purge_keys(pool, days=30) == 0
    assert await purge_keys(pool, days=30) >= 1
    await pool.close()


async def test_a_cache_whose_lease_has_expired_asks_the_database(
    shared_stack: Stack, shop: Shop
) -> None:
    pool = await asyncpg.create_pool(shared_stack.dsn, min_size=1, max_size=2)
    directory = Directory(pool, Vault(ENCRYPTION_KEY), installed({}), lease_s=0.3)
    watching = asyncio.create_task(directory.watch())

    async def cached() -> bool:
        before = directory.hits
        await directory.caller(shop.secret)
        return directory.hits > before

    await until(cached)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    stopped, misses = monotonic(), directory.misses

    async def asks() -> bool:
        await directory.caller(shop.secret)
        return directory.misses > misses

    await until(asks)
    assert monotonic() - stopped <= 0.3 + 0.2, "no entry outlives its lease"
    await pool.close()


async def test_those_who_need_an_account_at_the_same_time_share_one_query(
    shared_stack: Stack, shop: Shop
) -> None:
    """A worker begins with hundreds of operations, before it knows any account."""
    await shop.paid()
    ((login_id,),) = await shared_stack.fetch(
        "SELECT id FROM processor_logins WHERE merchant_id = $1", shop.merchant_id
    )
    queries: list[str] = []

    async def note(connection: Any) -> None:
        connection.add_query_logger(lambda record: queries.append(record.query))

    pool = await asyncpg.create_pool(shared_stack.dsn, min_size=1, max_size=2, init=note)
    directory = Directory(pool, Vault(ENCRYPTION_KEY), installed({}), lease_s=1)
    found = await asyncio.gather(*(directory.login(shop.merchant_id, login_id) for _ in range(50)))
    assert len(found) == 50
    assert {login is found[0] for login in found} == {True}
    assert len([each for each in queries if "processor_logins" in each]) == 1
    assert await directory.login(shop.merchant_id, login_id) is not found[0], "it has no lease"
    await pool.close()
