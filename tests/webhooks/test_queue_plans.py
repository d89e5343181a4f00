"""A worker makes its plans once, often while the list is empty. They must look up each row by its
whole key all the same: rows that are gone stay for as long as an old snapshot may see them."""

import re
from itertools import pairwise

import asyncpg
import pytest

from easypay.db.embedded import Cluster
from easypay.webhooks import queue
from harness import new_database

LANE = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
FOUND_BY = re.compile(r"Index Cond: \((.*)\)$")


@pytest.mark.parametrize(
    ("sql", "given"),
    [(queue.CLAIM_RECENT, 8), (queue.CLAIM, 5), (queue.RECORD, 15)],
    ids=["claim recent", "claim", "record"],
)
async def test_a_plan_for_an_empty_list_looks_up_whole_keys(
    cluster: Cluster, template: str, sql: str, given: int
) -> None:
    connection = await asyncpg.connect(await new_database(cluster.dsn, template))
    await connection.execute(f"{LANE}; SET plan_cache_mode = force_generic_plan")
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
    assert len(keys) >= 2
    assert all("due_at" in cond or "endpoint_id > " in cond for cond in others), others
    await connection.close()
