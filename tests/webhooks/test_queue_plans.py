"""A worker makes its plans once, often while the list is empty. They must look up each row by its
whole key all the same: rows that are gone stay for as long as an old snapshot may see them."""

import re
from itertools import pairwise
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from easypay import ids
from easypay.db.embedded import Cluster
from easypay.webhooks import queue
from harness import new_database

LANE = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
FOUND_BY = re.compile(r"Index Cond: \((.*)\)$")


@pytest.mark.parametrize("known_as_empty", [False, True], ids=["never analyzed", "analyzed"])
@pytest.mark.parametrize(
    ("sql", "given"),
    [(queue.CLAIM_RECENT, 8), (queue.CLAIM, 5), (queue.RECORD, 15)],
    ids=["claim recent", "claim", "record"],
)
async def test_a_plan_for_an_empty_list_looks_up_whole_keys(
    cluster: Cluster,
    template: str,
    sql: str,
    given: int,
    known_as_empty: bool,
) -> None:
    connection = await asyncpg.connect(await new_database(cluster.dsn, template))
    await connection.execute(f"{LANE}; SET plan_cache_mode = force_generic_plan")
    if known_as_empty:
        await connection.execute("ANALYZE webhook_deliveries")
    await connection.execute(f"PREPARE it AS {sql}")
    nothing = ", ".join(["NULL"] * given)
    lines = [row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE it({nothing})")]
    looked_up = [
        found[1]
        for line, after in pairwise(lines)
        if "on webhook_deliveries" in line and (found := FOUND_BY.search(after))
    ]
    keys = [cond for cond in looked_up if "event_id" in cond or "payment_id" in cond]
    others = [cond for cond in looked_up if cond not in keys]
    by_place = [line for line in lines if "TID Cond" in line]
    assert len(keys) + len(by_place) >= 2
    assert all("due_at" in cond or "endpoint_id > " in cond for cond in others), others
    await connection.close()


async def test_recording_reads_few_pages_however_many_deliveries_wait(
    cluster: Cluster, template: str
) -> None:
    """The plan is that of an empty list, and then that of a list which was analyzed."""
    connection = await asyncpg.connect(await new_database(cluster.dsn, template))
    await connection.execute(f"{LANE}; SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE record AS {queue.RECORD}")
    await recording(connection, [])
    merchant, endpoint = ids.new_id(), ids.new_id()
    await connection.execute(
        "INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq,"
        " type, attempt, due_at) SELECT $1, $2, gen_random_uuid(), 'test',"
        " ('00000000-0000-7000-8000-' || lpad((n / 3)::text, 12, '0'))::uuid, n,"
        " 'payment.captured', n % 3 % 2, now() FROM generate_series(1, 40000) AS n",
        *(merchant, endpoint),
    )
    for _ in range(2):
        claimed = await connection.fetch(
            "SELECT merchant_id, endpoint_id, event_id FROM webhook_deliveries WHERE attempt = 1"
            " ORDER BY seq DESC LIMIT 50"
        )
        pages = await recording(connection, [tuple(row) for row in claimed])
        assert pages < 50 * 60, pages
        await connection.execute("ANALYZE webhook_deliveries")
    await connection.close()


async def recording(connection: Any, keys: list[tuple[UUID, UUID, UUID]]) -> int:
    """Record failures of these deliveries. Return how many pages were looked at."""
    each: list[list[object]] = [list(column) for column in zip(*keys, strict=True)] or [[], [], []]
    same = [1, "failed", 5.0, "no answer"], ["2026-11-24T00:00:00Z", 10, 500, "", "", 0]
    columns = [
        *each,
        *([value] * len(keys) for value in same[0]),
        [ids.new_id() for _ in keys],
        *([value] * len(keys) for value in same[1]),
    ]
    arrays = ["'{" + ",".join(f'"{value}"' for value in column) + "}'" for column in columns]
    (plan,) = await connection.fetchrow(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE record({', '.join(arrays)}, 432000)"
    )
    (top,) = msgspec.json.decode(plan)
    pages: int = top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"]
    return pages
