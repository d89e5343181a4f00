"""The block range index of the newest events is summarised, so that a look reads only those."""

from typing import Any

import asyncpg

from easypay import clock
from easypay.db.embedded import Cluster
from easypay.events.summaries import RANGE_PAGES, Summaries
from harness import new_database

FILL = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    SELECT gen_random_uuid(), id, id, id, 'test', 'payment.captured', 'captured', 1, 'USD', now()
      FROM generate_series(1, 90000), (SELECT lowest_id_at(now()) AS id) AS present
"""
RANGES = "SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::int / $2"
SUMMARISE_REST = """
    SELECT brin_summarize_new_values(x.indexrelid)
      FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
     WHERE i.inhparent = 'events_written'::regclass AND x.indrelid = $1::text::regclass
"""


async def test_all_full_ranges_are_summarised_a_few_at_a_time(
    cluster: Cluster, template: str
) -> None:
    dsn, month = await new_database(cluster.dsn, template), f"{clock.now():%Y_%m}"
    pool: Any
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        await pool.execute(FILL)
        assert await pool.fetchval(RANGES, f"events_{month}", RANGE_PAGES) > 64
        summaries = Summaries(pool)
        assert await summaries.make(month)
        assert not await summaries.make(month)
        # Nothing but the newest range is left, which is not full yet.
        assert await pool.fetchval(SUMMARISE_REST, f"events_{month}") <= 1
