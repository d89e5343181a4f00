"""What runs out slowly, as a worker shows it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from easypay.db.embedded import Cluster
from easypay.ids import new_id
from easypay.observability.metrics import Instruments
from easypay.worker import running_out
from harness import new_database


def _value(instruments: Instruments, name: str, *labels: str) -> float:
    return instruments.registry.cells.own()[(name, labels)][0]


_KEY = """
    INSERT INTO api_keys
           (merchant_id, id, mode, name, digest, last4, scopes, created_at, expires_at)
    SELECT $1, $2, 'test', 'k', sha256($3), '0000', '{payments:read}', now() - $4::interval,
           now() + $5::interval
"""


async def _key(pool: Any, merchant: UUID, ends: timedelta, made: timedelta) -> None:
    key = new_id()
    await pool.execute(_KEY, merchant, key, key.bytes, made, ends)


async def test_the_disks_and_the_first_key_that_ends_are_shown(
    cluster: Cluster, template: str
) -> None:
    instruments = Instruments()
    async with asyncpg.create_pool(await new_database(cluster.dsn, template), min_size=1) as pool:
        await running_out.look(pool, instruments)
        assert _value(instruments, "easypay_api_key_expiry_days") == running_out.FAR
        merchant = new_id()
        await pool.execute(
            "INSERT INTO merchants (merchant_id, name, currencies) VALUES ($1, 'shop', '{USD}')",
            merchant,
        )
        hour, day, year = timedelta(hours=1), timedelta(days=1), timedelta(days=365)
        await _key(pool, merchant, hour, made=hour)  # meant to end soon
        await _key(pool, merchant, -day, made=year)
        await _key(pool, merchant, 3 * day, made=year)
        await running_out.look(pool, instruments)
    assert _value(instruments, "easypay_api_key_expiry_days") == pytest.approx(3, abs=0.1)
    for of in ("host", "database"):  # the database server of the tests runs here
        assert 0 < _value(instruments, "easypay_disk_used_ratio", of) < 1
