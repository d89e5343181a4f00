"""A merchant is told once, a week before the processor lets an authorization go."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from row_builders import id_at

from easypay import clock, ids
from easypay.db.embedded import Cluster
from easypay.db.pool import open_pool
from easypay.events.pages import FeedEvent
from easypay.payments.authorization_expiry import EXPIRING, Reminders
from easypay.payments.event_objects import objects_of
from harness import new_database

_PAYMENT = """
    INSERT INTO payments (merchant_id, id, mode, status, amount_minor, authorized_minor,
        captured_minor, currency, capture, method_type, processor, created_at, updated_at)
    VALUES ($1, $2, 'test', $3, 2500, 2500, CASE $3 WHEN 'captured' THEN 2500 ELSE 0 END, 'USD',
        'manual', 'card', 'authorize_net', now(), now())
"""
_OPERATION = """
    INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor, currency,
        reference, begun_at)
    VALUES ($1, $2, $3, 'test', 'authorize', $4, 2500, 'USD', $5, now())
"""


@pytest.fixture
async def pool(cluster: Cluster, template: str) -> Any:
    opened = await open_pool(await new_database(cluster.dsn, template), size=4)
    yield opened
    await opened.close()


async def authorized(
    pool: Any, *, days: float, status: str = "authorized", state: str = "approved"
) -> UUID:
    """Write a payment that was authorized so many days ago. Return its id."""
    at = clock.now() - timedelta(days=days)
    merchant_id, payment_id, operation_id = ids.new_id(), id_at(at), id_at(at)
    await pool.execute(_PAYMENT, merchant_id, payment_id, status)
    await pool.execute(
        _OPERATION, merchant_id, operation_id, payment_id, state, ids.reference(operation_id)
    )
    return payment_id


async def told(pool: Any) -> list[UUID]:
    rows = await pool.fetch("SELECT payment_id FROM events WHERE type = $1 ORDER BY 1", EXPIRING)
    return [row[0] for row in rows]


async def all_steps(pool: Any) -> None:
    reminders = Reminders(pool)
    for _ in range(200):  # on a busy machine the slices are short
        await reminders.step()


async def test_each_is_told_once_whoever_looks(pool: Any) -> None:
    """Not those that were captured, that are gone already, or that have time left."""
    expected = sorted(
        [
            await authorized(pool, days=29),
            await authorized(pool, days=26),
            await authorized(pool, days=23.1, state="held"),  # a reviewer approved it
        ]
    )
    for days, status in ((22.9, "authorized"), (31, "authorized"), (25, "captured")):
        await authorized(pool, days=days, status=status)
    await asyncio.gather(*(all_steps(pool) for _ in range(3)))
    assert await told(pool) == expected
    await all_steps(pool)
    assert await told(pool) == expected

    rows = await pool.fetch(
        "SELECT 0, merchant_id, mode, id, payment_id, operation_id, type, status, amount_minor,"
        " currency, created_at FROM events"
    )
    for each in await objects_of(pool, [FeedEvent(*row) for row in rows]):
        assert (each.type, each.status, each.amount) == (EXPIRING, "authorized", 2500)
        assert (each.data.status, each.data.version) == ("authorized", 1)
