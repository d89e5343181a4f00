"""Claims begin where earlier ones have found everything, and still miss nothing."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from test_work_list import LETTERS, TABLE

from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.claim_window import JUST_S, LATE_S, WHOLE, ClaimWindow, Span
from easypay.db.embedded import Cluster
from harness import new_database, until

FILL = """
    INSERT INTO letters (shop, nth, words, due_at)
    SELECT 'a', n, '', db_now() - make_interval(secs => $2 + n * 0.001)
      FROM generate_series(1, $1::int) AS n
"""


@pytest.fixture
async def connection(cluster: Cluster, template: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(await new_database(cluster.dsn, template))
    await opened.execute(TABLE)
    yield opened
    await opened.close()


async def next_of(connection: Any, window: ClaimWindow, most: int = 100) -> list[int]:
    """Claim, and return the numbers of the letters."""
    found = await work_list.claim_next(connection, LETTERS, window, most=most, lease_s=60)
    return sorted(work.key[1] for work in found)


def test_the_first_look_is_whole_and_the_next_begins_where_it_ended() -> None:
    window = ClaimWindow()
    assert window.spans() == [WHOLE]
    window.looked(WHOLE, monotonic(), 5, 5, overdue_s=600)
    (only,) = window.spans()
    assert 600 <= only.newer_s < 601 + LATE_S, "it begins at the last row that was found"
    window.looked(only, monotonic(), 4, 5, overdue_s=300)
    (only,) = window.spans()
    assert only.newer_s < 1 + LATE_S, "it has found everything"
    assert only.older_s == 0


def test_late_work_is_looked_for_less_often_if_that_takes_long() -> None:
    window = ClaimWindow()
    window.looked(WHOLE, monotonic() - 1, 0, 5)
    (only,) = window.spans()
    assert not only.late
    assert JUST_S < only.newer_s < LATE_S
    window.looked(only, monotonic(), 5, 5, overdue_s=0.1)
    assert not window.spans()[-1].late, "a look at what is new says nothing of what is late"


def test_a_claim_that_late_work_has_filled_is_repeated() -> None:
    window = ClaimWindow()
    window.looked(WHOLE, monotonic(), 0, 5)
    window.looked(Span(newer_s=LATE_S), monotonic(), 5, 5, overdue_s=7)
    (again,) = window.spans()
    assert again.late
    assert LATE_S <= again.newer_s < LATE_S + 1, "it has not gone back"


def test_after_old_work_was_found_more_is_looked_for_at_once() -> None:
    window = ClaimWindow()
    window.looked(WHOLE, monotonic(), 0, 5)
    window.looked(Span(older_s=LATE_S), monotonic(), 1, 5)
    old, new = window.spans()
    assert old.older_s == pytest.approx(new.newer_s, abs=LATE_S), "late work is between the two"
    window.looked(old, monotonic(), 0, 5)
    assert len(window.spans()) == 1


async def test_work_that_comes_late_or_waited_is_found_by_a_look_at_old_work(
    connection: Any,
) -> None:
    window = ClaimWindow()
    assert await next_of(connection, window) == []
    await connection.execute(FILL, 1, 0.0)
    await connection.execute(FILL.replace("'a'", "'b'"), 2, 600.0)
    assert await next_of(connection, window) == [1]
    assert await until(lambda: next_of(connection, window), what="old work") == [1, 2]


async def test_a_backlog_is_claimed_whole(connection: Any) -> None:
    await connection.execute(FILL, 25, 600.0)
    window = ClaimWindow()
    counts = [len(await next_of(connection, window, most=10)) for _ in range(4)]
    assert counts == [10, 10, 5, 0]


async def test_a_claim_beside_an_old_snapshot_reads_no_rows_that_are_gone(
    cluster: Cluster, template: str
) -> None:
    dsn = await new_database(cluster.dsn, template)
    connection, holder = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await connection.execute(TABLE)
    transaction = holder.transaction(isolation="repeatable_read")
    await transaction.start()
    await holder.fetchval("SELECT count(*) FROM letters")
    await connection.execute(FILL, 5_000, 60.0)
    await connection.execute("DELETE FROM letters")
    whole, recent = await pages(connection, WHOLE), await pages(connection, Span(newer_s=LATE_S))
    assert recent < 10 < 50 < whole, (recent, whole)
    await transaction.rollback()
    await holder.close()
    await connection.close()


async def pages(connection: Any, span: Span) -> int:
    """Return how many pages one claim reads. Nothing stays claimed."""
    transaction = connection.transaction()
    await transaction.start()
    for joins in ("seqscan", "hashjoin", "mergejoin"):  # as in a lane
        await connection.execute(f"SET LOCAL enable_{joins} = off")
    text = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {work_list.claim_sql(LETTERS)}",
        *(100, 60.0, span.newer_s, span.older_s),
    )
    await transaction.rollback()
    plan = msgspec.json.decode(text)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
