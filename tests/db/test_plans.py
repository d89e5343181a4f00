"""What each regular statement costs on 30,000 payments over 120 months: which index, how many
pages, how many months, how many locks. `make plans` does the same on 200,000 payments.
"""

from collections.abc import AsyncIterator

import pytest

from easypay.db.embedded import Cluster
from easypay.db.indexes import INDEXES
from plans import database_page, usual_indexes
from plans.cases import CASES, FAST_LOCKS, HOT, Case
from plans.judge import what_is_wrong
from plans.world import World, look_at, seeded_world

NO_INDEX = {"archive_changes", "payments_to_search"}
"""A few rows while a month is being archived, read whole."""
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
async def world(cluster: Cluster, template: str) -> AsyncIterator[World]:
    dsn = await seeded_world(cluster.dsn, template, payments=30_000)
    looked_at = await look_at(dsn)
    yield looked_at
    await looked_at.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_statement_stays_within_its_bounds(world: World, case: Case) -> None:
    found = await case.measure(world, case)
    assert what_is_wrong(case, found) == []


async def test_hot_statements_take_only_locks_of_their_own_backend(world: World) -> None:
    for case in HOT:
        assert case.locks <= FAST_LOCKS
        assert (await case.measure(world, case)).slow_locks == 0


def test_every_index_serves_a_statement() -> None:
    """The other tests prove that the plans really use it."""
    serving = {index for case in CASES for index in case.uses}
    assert sorted(name for name, index in INDEXES.items() if not index.is_rule) == sorted(serving)


async def test_every_index_is_known_with_what_it_serves(world: World) -> None:
    rows = await world.connection.fetch(
        "SELECT c.relname, t.relname, i.indisunique FROM pg_index i"
        "  JOIN pg_class c ON c.oid = i.indexrelid"
        "  JOIN pg_class t ON t.oid = i.indrelid"
        " WHERE t.relnamespace = 'public'::regnamespace AND NOT t.relispartition"
    )
    assert {row[0]: row[1] for row in rows} == {n: index.table for n, index in INDEXES.items()}
    unique = {row[0] for row in rows if row[2]}
    assert {name for name, index in INDEXES.items() if index.is_rule} <= unique


async def test_the_usual_indexes_cost_more_and_end_heap_only_updates(world: World) -> None:
    without, costs = await usual_indexes.measure(world.connection)
    assert without.heap_only > 0.99
    assert costs.heap_only < 0.05
    assert costs.wal_bytes > 1.5 * without.wal_bytes
    assert {name for usual in usual_indexes.USUAL for name in usual.cases} <= {
        c.name for c in CASES
    }


def test_the_page_lists_every_table_index_and_statement() -> None:
    listed = database_page.named(database_page.PAGE.read_text("utf-8"))
    renew = "run `make plans`"
    assert listed["indexes"] == set(INDEXES), renew
    assert listed["tables"] == {index.table for index in INDEXES.values()} | NO_INDEX, renew
    assert listed["statements"] == {case.name for case in CASES}, renew
