"""Beside a snapshot that is held, a look of the feed's leader and a step of the fan-out read as
many pages as before, however many versions the marks and the counters have by then.
"""

from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

from easypay import clock, ids
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.events import numbering
from easypay.events.readers import UNKNOWN
from easypay.payments.feed_fold import PAYMENTS
from easypay.webhooks.fan_out import FanOut
from harness import connected, new_database
from harness.page_counts import without_autovacuum

LOOKS = 60
VERSIONS = 4_000
CHANGED = ("feed_months", "feed_head", "feed_readers", "payment_counts", "decline_counts")
PAGES = """
    SELECT relname, coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0)
           + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0)
      FROM pg_statio_user_tables
"""
HAPPEN = """
    WITH paid AS (
        INSERT INTO payments (merchant_id, id, mode, status, amount_minor, currency, capture,
            method_type, processor, decline_code, created_at, updated_at)
        VALUES ($1, $2, 'test', 'declined', 100, 'USD', 'automatic', 'card', 'authorize_net', '2',
            now(), now())
    )
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    VALUES ($1, $2, $2, $2, 'test', 'payment.declined', 'declined', 100, 'USD', now())
"""
# As many versions as thousands of looks leave behind. Nobody is told of the new places.
CHANGE = f"""
    DO $$ DECLARE months tid; head tid; payments tid; webhooks tid; counts tid; codes tid; BEGIN
        SELECT ctid INTO months FROM feed_months WHERE month = '{{month}}';
        SELECT ctid INTO head FROM feed_head;
        SELECT ctid INTO payments FROM feed_readers WHERE name = 'payments';
        SELECT ctid INTO webhooks FROM feed_readers WHERE name = 'webhooks';
        SELECT ctid INTO counts FROM payment_counts ORDER BY start DESC LIMIT 1;
        SELECT ctid INTO codes FROM decline_counts ORDER BY start DESC LIMIT 1;
        FOR i IN 1..{VERSIONS} LOOP
            UPDATE feed_months SET version = version + 1 WHERE ctid = months
                RETURNING ctid INTO months;
            UPDATE feed_head SET last_seq = last_seq WHERE ctid = head RETURNING ctid INTO head;
            UPDATE feed_readers SET version = version + 1 WHERE ctid = payments
                RETURNING ctid INTO payments;
            UPDATE feed_readers SET version = version + 1 WHERE ctid = webhooks
                RETURNING ctid INTO webhooks;
            UPDATE payment_counts SET declined = declined WHERE ctid = counts
                RETURNING ctid INTO counts;
            UPDATE decline_counts SET declines = declines WHERE ctid = codes
                RETURNING ctid INTO codes;
        END LOOP;
    END $$
"""


class Leader:
    """What the leader of the feed and the fan-out do, look by look."""

    def __init__(self, dsn: str, merchant_id: UUID, mark: numbering.Mark) -> None:
        self.dsn, self.merchant_id, self.mark = dsn, merchant_id, mark
        self.head: Any = None
        self.read_to, self.places = 0, UNKNOWN
        self.lane = Lane(
            dsn, "feed", lambda _: numbering.and_read(mark.month, PAYMENTS), lookups=True
        )
        self.fan_out = FanOut(dsn, limit_s=4.0)

    async def look(self, connection: Any) -> None:
        await connection.execute(HAPPEN, self.merchant_id, ids.new_id())
        done = await numbering.number(
            self.lane,
            self.mark,
            transactions=1 << 40,
            most=100,
            head=self.head,
            read_to=self.read_to,
            places=self.places,
        )
        assert done.mark is not None
        assert done.read is not None
        assert done.events == 1
        self.mark, self.head, self.places = done.mark, done.head, done.read
        self.read_to += 1
        assert await self.fan_out.step()

    async def again(self) -> None:
        """Read the mark anew, as the leader does after another process has moved it."""
        async with connected(self.dsn) as connection:
            self.mark = await mark_of(connection, self.mark.month)

    async def close(self) -> None:
        """Close the connections: their counters are shown from then on."""
        await self.lane.close()
        await self.fan_out.close()


async def mark_of(connection: Any, month: str) -> numbering.Mark:
    (found,) = [mark for mark in await numbering.marks(connection) if mark.month == month]
    return found


async def pages(connection: Any) -> dict[str, int]:
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return dict(map(tuple, await connection.fetch(PAGES)))


async def test_a_look_reads_as_much_however_many_versions_its_marks_have(
    cluster: Cluster, template: str
) -> None:
    dsn, merchant_id = await new_database(cluster.dsn, template), ids.new_id()
    month = f"{clock.now():%Y_%m}"
    costs: list[dict[str, int]] = []
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connected(dsn))
        await without_autovacuum(connection)
        await connection.execute(
            "INSERT INTO webhook_endpoints (merchant_id, mode, id, url, secret, after_seq)"
            " VALUES ($1, 'test', $2, 'https://shop.example/', '', 0)",
            merchant_id,
            ids.new_id(),
        )
        await connection.execute("INSERT INTO feed_readers (name) VALUES ('webhooks')")
        leader = Leader(dsn, merchant_id, await mark_of(connection, month))
        await leader.look(connection)
        holder = await stack.enter_async_context(connected(dsn))
        await stack.enter_async_context(holder.transaction(isolation="repeatable_read"))
        await holder.fetchval("SELECT count(*) FROM payments")
        for _ in range(2):
            await leader.look(connection)
            await leader.close()
            before = await pages(connection)
            for _ in range(LOOKS):
                await leader.look(connection)
            await leader.close()
            now = await pages(connection)
            costs.append({table: now[table] - before[table] for table in now})
            await connection.execute(CHANGE.format(month=month))
            await leader.again()
    assert sum(costs[1].values()) <= 1.1 * sum(costs[0].values()), costs
    for table in CHANGED:  # a search by key would read dozens of pages at each look
        assert costs[1][table] - costs[0][table] <= 3 * LOOKS, (table, costs)
