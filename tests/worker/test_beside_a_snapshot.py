"""Beside a snapshot that is held, a job of a work list costs the same however many went before it:
nothing walks over rows that are gone.

Nothing here is late, so claims are told not to look for that: how much of the time such looks may
take is bounded by the time itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from easypay import clock, ids
from easypay.clock import monotonic
from easypay.db import claim_window, work_list
from easypay.db.claim_window import ClaimWindow
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.events import numbering
from easypay.events.numbering import Mark
from easypay.payments.queue_rows import QUEUED
from easypay.webhooks import queue, recent
from easypay.webhooks.fan_out import FanOut
from easypay.webhooks.queue import Told
from easypay.webhooks.recent import Recent
from harness import connected, new_database, until
from harness.page_counts import without_autovacuum

JOBS = 150
"""Of one round: events, with a delivery for each, and queued operations."""
ROUNDS = 4
STEPS = 4
PAUSE_S = claim_window.JUST_S + 0.05
"""Between two rounds, so that a claim walks over none of the round before."""

_ENDPOINT = """
    INSERT INTO webhook_endpoints (merchant_id, mode, id, url, secret, after_seq)
    VALUES ($1, 'test', $2, 'https://shop.example/', '', 0)
"""
_HAPPEN = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    SELECT $1, id, id, id, 'test', 'payment.captured', 'captured', 100, 'USD', now()
      FROM unnest($2::uuid[]) AS id
"""
_QUEUE = """
    INSERT INTO queued_operations (merchant_id, operation_id, payment_id, mode, kind, expires_at)
    SELECT $1, id, id, 'test', 'sale', now() + interval '1 hour' FROM unnest($2::uuid[]) AS id
"""
_PAGES = """
    SELECT relname,
           coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0) + coalesce(idx_blks_hit, 0)
               + coalesce(idx_blks_read, 0) AS pages,
           (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid) AS entries
      FROM pg_statio_user_tables t WHERE relname = ANY ($1)
"""
TABLES = ("queued_operations", "webhook_deliveries")


class Works:
    """A worker and a leader of the feed, step by step."""

    def __init__(self, dsn: str, merchant_id: UUID, mark: Mark) -> None:
        self.merchant_id = merchant_id
        self.mark = mark
        self.window, self.recent = ClaimWindow(), Recent()
        self.operations = work_list.work_lane(dsn, QUEUED)
        self.ends = work_list.work_lane(dsn, QUEUED)
        self.feed = Lane(dsn, "feed", numbering.in_month, lookups=True)
        self.fan_out = FanOut(dsn, limit_s=4.0)
        settings = queue.LANE_SETTINGS
        self.claims = Lane(dsn, "claims", queue.claim_statement, lookups=True, settings=settings)
        self.records = Lane(dsn, "records", lambda _: queue.RECORD, lookups=True)

    async def round(self, connection: Any) -> None:
        """Let everything happen and be done."""
        new = [ids.new_id() for _ in range(JOBS)]
        await connection.execute(_QUEUE, self.merchant_id, new)
        await connection.execute(_HAPPEN, self.merchant_id, new)
        done = await numbering.number(self.feed, self.mark, transactions=1 << 40, most=1 << 40)
        assert done.events == JOBS
        assert done.mark is not None
        self.mark = done.mark
        began = monotonic()
        made = await self.fan_out.step()
        assert made
        self.recent.note(made, began)
        while await self._deliver():
            pass
        sent = 0
        while sent < JOBS:
            sent += await until(self._send, what=f"all but {JOBS - sent} jobs")

    async def _deliver(self) -> int:
        only, began = self.recent.next(), monotonic()
        found = await queue.claim(self.claims, {}, of_each=16, most=1000, only=only)
        self.recent.claimed(only, began, found, {}, 16, cut_off=False)
        if found:
            told = [Told(each, ids.new_id(), clock.now(), 1, "delivered") for each in found]
            assert len((await queue.record(self.records, told)).ids) == len(found)
        for each in found:
            self.recent.over(each)
        return len(found)

    async def _send(self) -> int:
        found = await work_list.claim_next(
            self.operations, QUEUED, self.window, most=16, lease_s=60
        )
        done = [(work.key, work.attempt) for work in found]
        assert len(await work_list.finish(self.ends, QUEUED, done)) == len(found)
        return len(found)

    async def close(self) -> None:
        """Close the connections: their counters are shown from then on."""
        for lane in (self.operations, self.ends, self.feed, self.claims, self.records):
            await lane.close()
        await self.fan_out.close()


@asynccontextmanager
async def held_snapshot(dsn: str) -> AsyncIterator[None]:
    async with connected(dsn) as holder, holder.transaction(isolation="repeatable_read"):
        await holder.fetchval("SELECT count(*) FROM payments")
        yield


async def _marked(dsn: str) -> Mark:
    connection = await asyncpg.connect(dsn)
    marks = {mark.month: mark for mark in await numbering.marks(connection)}
    await connection.close()
    return marks[f"{clock.now():%Y_%m}"]


async def test_each_job_reads_as_much_as_the_jobs_before_it(
    cluster: Cluster, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (claim_window, recent):
        monkeypatch.setattr(module, "_REST", 1e9)
    monkeypatch.setattr(claim_window, "_OLD_EVERY_S", 1e9)
    dsn, merchant_id = await new_database(cluster.dsn, template), ids.new_id()
    works = Works(dsn, merchant_id, await _marked(dsn))
    costs: list[dict[str, tuple[int, int]]] = []
    async with connected(dsn) as connection:
        await without_autovacuum(connection)
        await connection.execute(_ENDPOINT, merchant_id, ids.new_id())
        await connection.execute("INSERT INTO feed_readers (name) VALUES ('webhooks')")
        async with held_snapshot(dsn):
            before = await _counted(connection)
            for step in range(STEPS):
                if step > 1:  # as PostgreSQL does on its own: it counts no row that is gone
                    await connection.execute(f"ANALYZE {', '.join(TABLES)}")
                for _ in range(ROUNDS):
                    await works.round(connection)
                    await asyncio.sleep(PAUSE_S)
                await works.close()
                now = await _counted(connection)
                costs.append(
                    {t: (now[t][0] - before[t][0], now[t][1] - before[t][1]) for t in TABLES}
                )
                before = now
    for table in TABLES:
        first, last = costs[1][table], costs[-1][table]
        assert last[0] <= 1.1 * first[0], (table, "pages", costs)
        assert last[1] <= 1.1 * first[1], (table, "index entries", costs)


async def _counted(connection: Any) -> dict[str, tuple[int, int]]:
    """Return for each table the pages and the index entries that were read so far."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    rows = await connection.fetch(_PAGES, list(TABLES))
    return {row[0]: (row[1], int(row[2])) for row in rows}
