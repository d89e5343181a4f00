"""Keys past their time are forgotten, and a cache without its lease asks the database."""

import asyncio
import uuid
from datetime import timedelta

import asyncpg

from easypay.clock import monotonic
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.payments import store
from harness import ENCRYPTION_KEY, Shop, Stack, until


async def test_keys_are_kept_thirty_days_and_their_payments_for_ever(
    shared_stack: Stack, shop: Shop
) -> None:
    old, young = str(uuid.uuid4()), str(uuid.uuid4())
    first = await shop.paid(key=old)
    second = await shop.paid(key=young)
    connection = await asyncpg.connect(shared_stack.dsn)
    for key, age in ((old, timedelta(days=31)), (young, timedelta(days=29))):
        await connection.execute(
            "UPDATE idempotency_keys SET created_at = now() - $3::interval"
            " WHERE merchant_id = $1 AND key = $2",
            shop.merchant_id,
            key,
            age,
        )
    assert await store.purge_keys(connection, days=30) == 1
    await connection.executemany(
        "INSERT INTO idempotency_keys"
        " VALUES ($1, 'test', $2, $3, $1, $1, now() - interval '40 days')",
        [(uuid.uuid4(), str(number), bytes(32)) for number in range(12_000)],
    )
    assert await store.purge_keys(connection, days=30) == 12_000, "in several batches"
    await connection.close()
    assert (await shop.client.get(f"/idempotency-keys/{old}")).status_code == 404
    assert (await shop.client.get(f"/idempotency-keys/{young}")).status_code == 200
    assert (await shop.payment(first["id"]))["status"] == "captured"
    assert (await shop.payment(second["id"]))["status"] == "captured"


async def test_a_cache_whose_lease_ran_out_asks_the_database(
    shared_stack: Stack, shop: Shop
) -> None:
    pool = await asyncpg.create_pool(shared_stack.dsn, min_size=1, max_size=2)
    directory = Directory(pool, Vault(ENCRYPTION_KEY), {"test": "", "live": ""}, lease_s=0.3)
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

    await until(asks, within_s=2)
    assert monotonic() - stopped <= 0.3 + 0.2, "no entry outlives its lease"
    await pool.close()
