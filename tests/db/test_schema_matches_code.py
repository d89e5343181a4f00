"""The code and the schema agree."""

import asyncio
import re
from datetime import UTC, datetime

import asyncpg
import pytest

from easypay import ids
from easypay.batches.claims import LineEnd
from easypay.db import migrate, partitions
from easypay.db.embedded import Cluster
from easypay.payment_details import INTENT_TYPE
from easypay.payments import duplicates, queue_acceptance, statements
from easypay.payments.begin import FollowUp
from easypay.payments.model import EDGES, Status
from harness import Shop, Stack, migrated, new_database, until


async def test_the_database_has_the_same_status_edges(shared_stack: Stack) -> None:
    rows = await shared_stack.fetch(
        "SELECT pg_get_triggerdef(oid) AS edges, length(tgqual::text) AS stored FROM pg_trigger"
        " WHERE tgname = 'payment_status_edge'"
    )
    assert len(rows) > 1  # of the table and of its months
    for row in rows:
        pairs = re.findall(r"(\w+)>(\w+)", row["edges"])
        assert {(Status(start), Status(end)) for start, end in pairs} == EDGES
        # PostgreSQL reads and plans the condition again for each statement that records outcomes.
        assert row["stored"] < 4000


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (INTENT_TYPE, statements.INTENT_FIELDS),
        ("follow_up_intent", FollowUp.__struct_fields__),
        ("recorded_change_3", statements.CHANGE_FIELDS),
        ("duplicate_check", duplicates.CHECK_FIELDS),
        ("queued_payment", queue_acceptance.QUEUED_FIELDS),
        ("ended_line", LineEnd.__struct_fields__),
    ],
)
async def test_types_and_structs_have_the_same_fields(
    shared_stack: Stack, name: str, fields: tuple[str, ...]
) -> None:
    rows = await shared_stack.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass ORDER BY attnum",
        name,
    )
    assert tuple(row["attname"] for row in rows) == fields


async def test_each_migration_is_applied_once_by_many_processes(cluster: Cluster) -> None:
    dsn = await new_database(cluster.dsn, None)
    applied = await asyncio.gather(*(migrate.migrate(dsn) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == [n for n, _ in migrate.files()]


async def test_months_are_made_ahead_once_by_many_processes(cluster: Cluster) -> None:
    dsn = await new_database(cluster.dsn, None)
    await migrated(dsn)
    connections = [await asyncpg.connect(dsn) for _ in range(3)]
    at = datetime(2029, 12, 31, 23, 59, 59, tzinfo=UTC)
    made = await asyncio.gather(
        *(partitions.ensure(each, at=at, months_ahead=1) for each in connections)
    )
    assert sorted(name for names in made for name in names) == sorted(
        f"{table}_{month}"
        for table in partitions.PARTITIONED
        for month in ("2029_11", "2029_12", "2030_01")
    )
    months = partitions.Months()
    await months.load(connections[0])
    assert months.of(ids.lowest_id_at(at)) == "_2029_12"
    assert months.of(ids.lowest_id_at(datetime(2030, 1, 1, tzinfo=UTC))) == "_2030_01"
    assert months.of(ids.lowest_id_at(datetime(2030, 2, 1, tzinfo=UTC))) == ""
    assert await partitions.strays(connections[0]) == dict.fromkeys(partitions.PARTITIONED, 0)
    for each in connections:
        await each.close()


async def test_recording_an_outcome_updates_no_index(stack: Stack) -> None:
    """Updates stay heap-only: pages have room for each row's second version."""
    gateway = await stack.gateway()
    shop: Shop = await stack.shop(gateway)
    for _ in range(5):
        await asyncio.gather(*(shop.paid() for _ in range(40)))
    assert await asyncio.to_thread(gateway.terminate) == 0  # its sessions count as they end

    async def counted() -> dict[str, tuple[int, int]] | None:
        rows = await stack.fetch(
            "SELECT relname, n_tup_upd AS all, n_tup_hot_upd AS hot FROM pg_stat_user_tables"
            " WHERE relname ~ '^(payments|operations)_2' AND n_tup_upd > 0"
        )
        counts = {row["relname"]: (row["all"], row["hot"]) for row in rows}
        return counts if sum(n for n, _ in counts.values()) >= 400 else None

    for table, (updates, hot) in (await until(counted)).items():
        assert hot / updates >= 0.95, (table, updates, hot)


async def test_frequent_statements_use_an_index_in_one_month(shared_stack: Stack) -> None:
    """With the lanes' settings and one month's tables, no plan has a sequential scan."""
    connection = await asyncpg.connect(
        shared_stack.dsn,
        server_settings={
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "plan_cache_mode": "force_generic_plan",
        },
    )
    months = partitions.Months()
    await months.load(connection)
    month = months.of(ids.new_id())
    assert month
    for sql, type_name, variant in (
        (statements.RECORD, "recorded_change_3", f"{month} {month}"),
        (statements.BEGIN_FOLLOW_UPS, "follow_up_intent", month),
    ):
        rows = await connection.fetch(
            "EXPLAIN (COSTS OFF) "
            + statements.in_months(sql, variant).replace("$1", f"'{{}}'::{type_name}[]")
        )
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan" not in plan, plan
        assert set(re.findall(r"Update on (?:payments|operations)(\w*)", plan)) == {month}
    await connection.close()
