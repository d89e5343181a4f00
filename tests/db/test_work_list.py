"""Work lists: every row is claimed by one worker at a time, and a late worker writes nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from easypay.db import work_list
from easypay.db.embedded import Cluster
from easypay.db.pool import Pool, open_pool
from easypay.db.work_list import Depth, WorkList, backoff_s
from harness import connected, until, until_locked
from harness.pooler import PgBouncer

LETTERS = WorkList("letters", (("shop", "text"), ("nth", "integer")), ("words",))
IN_ORDER = WorkList(
    "letters",
    LETTERS.key,
    LETTERS.payload,
    ready="NOT EXISTS (SELECT FROM letters e WHERE e.shop = w.shop AND e.nth < w.nth"
    " AND e.parked_at IS NULL)",
)
TABLE = """
    CREATE TABLE letters (
        shop text, nth integer, words text NOT NULL,
        due_at timestamptz NOT NULL DEFAULT db_now(),
        attempt integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT db_now(),
        reason text, parked_at timestamptz,
        PRIMARY KEY (shop, nth));
    CREATE INDEX ON letters (due_at) WHERE parked_at IS NULL;
    CREATE TABLE sent (shop text, nth integer, worker text);
"""
WRITE = "INSERT INTO letters (shop, nth, words) VALUES ($1, $2, $3)"
WORKER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from easypay.db import work_list
from easypay.db.pool import open_pool
from test_work_list import LETTERS

async def main(dsn):
    pool = await open_pool(dsn, size=1)
    work, = await work_list.claim(pool, LETTERS, most=1, lease_s=0.3)
    print(work.attempt, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(work.still_held(), flush=True)
    ends = [
        await work_list.finish(pool, LETTERS, [(work.key, work.attempt)]),
        await work_list.postpone(pool, LETTERS, [(work.key, work.attempt, 9, "late")]),
        await work_list.park(pool, LETTERS, [(work.key, work.attempt, "late")]),
    ]
    print(ends, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database, size=8)
    await opened.execute(TABLE)
    yield opened
    await opened.close()


async def write(runner: Any, *letters: tuple[str, int]) -> None:
    for shop, nth in letters:
        await runner.execute(WRITE, shop, nth, f"{shop} {nth}")


async def claim(runner: Any, most: int = 100, lease_s: float = 60) -> list[work_list.Work]:
    return await work_list.claim(runner, LETTERS, most=most, lease_s=lease_s)


async def pass_time(runner: Any, seconds: float) -> None:
    """Let every row have become due so much earlier."""
    await runner.execute("UPDATE letters SET due_at = due_at - make_interval(secs => $1)", seconds)


async def test_a_claim_takes_the_oldest_that_are_due_and_nobody_else_gets_them(pool: Pool) -> None:
    await write(pool, ("a", 1), ("b", 1), ("c", 1))
    first = await claim(pool, most=2)
    assert [(work.key, work.payload, work.attempt) for work in first] == [
        (("a", 1), ("a 1",), 1),
        (("b", 1), ("b 1",), 1),
    ]
    assert all(work.still_held(50) and not work.still_held(61) for work in first)
    assert [work.key for work in await claim(pool)] == [("c", 1)]
    assert await claim(pool) == []
    await pass_time(pool, 61)
    assert {work.key: work.attempt for work in await claim(pool)} == {
        ("a", 1): 2,
        ("b", 1): 2,
        ("c", 1): 2,
    }, "their leases had ended"


async def test_a_row_that_changes_while_it_is_claimed_is_claimed_as_it_is_then(
    pool: Pool, database: str
) -> None:
    """The claim has its snapshot and has not locked the row yet, when another worker gives the row
    back. The row has another place then, which the snapshot does not see."""
    pause = "(SELECT pg_advisory_xact_lock_shared(7) IS NOT NULL)"
    await write(pool, ("a", 1))
    listed = msgspec.structs.replace(LETTERS, ready=pause)
    async with connected(database) as other:
        await other.execute("SELECT pg_advisory_lock(7)")
        claiming = asyncio.create_task(work_list.claim(pool, listed, most=9, lease_s=60))
        await until_locked(database, what="the claim has its snapshot")
        await other.execute("UPDATE letters SET attempt = 4, due_at = due_at - interval '1 s'")
        await other.execute("SELECT pg_advisory_unlock(7)")
        assert [(work.key, work.attempt) for work in await claiming] == [(("a", 1), 5)]


async def test_many_at_once_get_each_row_once_and_none_waits(pool: Pool) -> None:
    await write(pool, *(("a", n) for n in range(60)))
    async with pool.acquire() as held, held.transaction():
        await held.execute("SELECT FROM letters WHERE nth < 5 FOR UPDATE")
        groups = await asyncio.wait_for(
            asyncio.gather(*(claim(pool, most=10) for _ in range(7))), 5
        )
    keys = sorted(work.key[1] for group in groups for work in group)
    assert keys == list(range(5, 60))


async def test_what_is_finished_is_gone_and_a_wrong_attempt_changes_nothing(pool: Pool) -> None:
    await write(pool, ("a", 1), ("a", 2))
    one, two = await claim(pool)
    late = [(two.key, two.attempt - 1)]
    done = await work_list.finish(pool, LETTERS, [(one.key, one.attempt), *late])
    assert done == {("a", 1)}
    assert await work_list.postpone(pool, LETTERS, [(two.key, 0, 1.0, "late")]) == set()
    assert await work_list.park(pool, LETTERS, [(two.key, 7, "never claimed")]) == set()
    assert await work_list.depth(pool, LETTERS) == Depth(0, 1, 0, 0.0)
    assert await work_list.finish(pool, LETTERS, []) == set()


async def test_what_is_postponed_is_claimed_later_with_its_reason_kept(pool: Pool) -> None:
    await write(pool, ("a", 1), ("a", 2))
    one, two = await claim(pool)
    later = [(one.key, 1, 30.0, "no answer"), (two.key, 1, 0.0, None)]
    assert await work_list.postpone(pool, LETTERS, later) == {one.key, two.key}
    assert [work.key for work in await claim(pool)] == [two.key], "it was given back at once"
    await pass_time(pool, 31)
    (again,) = [work for work in await claim(pool) if work.key == one.key]
    assert again.attempt == 2
    reason = await pool.fetchval("SELECT reason FROM letters WHERE nth = 1")
    assert reason == "no answer"


async def test_what_is_parked_waits_for_a_person(pool: Pool) -> None:
    await write(pool, ("a", 1), ("a", 2), ("a", 3))
    claimed = await claim(pool, most=2)
    given_up = [(work.key, 1, f"status 50{work.key[1]}" + "x" * 999) for work in claimed]
    assert await work_list.park(pool, LETTERS, given_up) == {("a", 1), ("a", 2)}
    await pass_time(pool, 99)
    assert [work.key for work in await claim(pool)] == [("a", 3)]
    parked = await work_list.parked(pool, LETTERS, most=10)
    assert [(each.key, each.payload, each.attempt) for each in parked] == [
        (("a", 1), ("a 1",), 1),
        (("a", 2), ("a 2",), 1),
    ]
    assert parked[0].reason is not None
    assert len(parked[0].reason) == work_list.LONGEST_REASON
    assert await work_list.finish(pool, LETTERS, [(("a", 1), 1)]) == set(), "a person has it now"
    assert await work_list.retry(pool, LETTERS, [("a", 1), ("a", 3)]) == {("a", 1)}
    assert await work_list.drop(pool, LETTERS, [("a", 2), ("a", 3)]) == {("a", 2)}
    (again,) = await claim(pool)
    assert (again.key, again.attempt) == (("a", 1), 2), "no attempt comes twice"


async def test_a_row_is_ready_only_when_the_earlier_ones_of_its_shop_are_done_or_parked(
    pool: Pool,
) -> None:
    await write(pool, ("a", 1), ("a", 2), ("a", 3), ("b", 1))
    claimed = await work_list.claim(pool, IN_ORDER, most=9, lease_s=60)
    assert [work.key for work in claimed] == [("a", 1), ("b", 1)]
    assert await work_list.claim(pool, IN_ORDER, most=9, lease_s=60) == []
    await work_list.finish(pool, IN_ORDER, [(("a", 1), 1)])
    (two,) = await work_list.claim(pool, IN_ORDER, most=9, lease_s=60)
    assert two.key == ("a", 2)
    await work_list.park(pool, IN_ORDER, [(two.key, two.attempt, "gone")])
    depth = await work_list.depth(pool, IN_ORDER)
    assert (depth.ready, depth.waiting, depth.parked) == (1, 1, 1)
    (three,) = await work_list.claim(pool, IN_ORDER, most=9, lease_s=60)
    assert three.key == ("a", 3)


async def test_depth_and_age_are_told(pool: Pool) -> None:
    assert await work_list.depth(pool, LETTERS) == Depth(0, 0, 0, 0.0)
    await write(pool, *(("a", n) for n in range(4)))
    first, second, *_ = await claim(pool, most=2)
    await work_list.park(pool, LETTERS, [(first.key, 1, "gone")])
    await pool.execute("UPDATE letters SET due_at = db_now() - interval '90 s' WHERE nth = 3")
    depth = await work_list.depth(pool, LETTERS)
    assert (depth.ready, depth.waiting, depth.parked) == (2, 1, 1)
    assert 90 <= depth.oldest_s < 120
    assert second.attempt == 1


async def test_two_workers_that_end_the_same_rows_in_opposite_orders_do_not_deadlock(
    pool: Pool,
) -> None:
    await write(pool, *(("a", n) for n in range(50)))
    ends = [(work.key, work.attempt, 0.0, "again") for work in await claim(pool)]
    for _ in range(20):
        both = await asyncio.gather(
            work_list.postpone(pool, LETTERS, ends),
            work_list.postpone(pool, LETTERS, ends[::-1]),
        )
        assert both[0] == both[1] == {key for key, *_ in ends}


async def test_a_worker_that_was_stopped_beyond_its_lease_and_goes_on_writes_nothing(
    pool: Pool, database: str
) -> None:
    await write(pool, ("a", 1))
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WORKER,
        database,
        os.path.dirname(__file__),
        stdin=-1,
        stdout=-1,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert worker.stdout is not None
    assert worker.stdin is not None
    assert await worker.stdout.readline() == b"1\n"
    worker.send_signal(signal.SIGSTOP)

    async def taken() -> list[work_list.Work]:
        return await claim(pool)

    (mine,) = await until(taken)
    worker.send_signal(signal.SIGCONT)
    worker.stdin.write(b"go on\n")
    assert await worker.stdout.readline() == b"False\n", "it sees that it may not send any more"
    assert await worker.stdout.readline() == b"[set(), set(), set()]\n"
    assert await worker.wait() == 0
    assert mine.attempt == 2
    assert await work_list.finish(pool, LETTERS, [(mine.key, mine.attempt)]) == {mine.key}


@pytest.mark.parametrize("pooled", [False, True], ids=["directly", "behind PgBouncer"])
async def test_a_lane_does_the_same(
    cluster: Cluster, pool: Pool, tcp_database: str, pooled: bool
) -> None:
    bouncer = PgBouncer(cluster, pool_size=2) if pooled else None
    dsn = (await bouncer.start()).dsn(tcp_database) if bouncer else tcp_database
    lane = work_list.work_lane(dsn, LETTERS)
    try:
        await write(pool, *(("a", n) for n in range(5)))
        works = await claim(lane, most=4)
        keys = [work.key for work in works]
        assert await work_list.finish(lane, LETTERS, [(keys[0], 1)]) == {keys[0]}
        assert await work_list.postpone(lane, LETTERS, [(keys[1], 1, 9.0, "x")]) == {keys[1]}
        given_up = [(key, 1, "gone") for key in keys[2:]]
        assert await work_list.park(lane, LETTERS, given_up) == set(keys[2:])
        assert [each.key for each in await work_list.parked(lane, LETTERS, most=9)] == keys[2:]
        assert await work_list.retry(lane, LETTERS, keys[2:3]) == {keys[2]}
        assert await work_list.drop(lane, LETTERS, keys[3:]) == {keys[3]}
        depth = await work_list.depth(lane, LETTERS)
        assert (depth.ready, depth.waiting, depth.parked) == (2, 1, 0)
    finally:
        await lane.close()
        if bouncer:
            bouncer.kill()


def test_the_pause_grows_up_to_a_limit_and_is_spread() -> None:
    for attempt, whole in ((1, 5), (2, 10), (3, 20), (9, 60), (10_000, 60)):
        pauses = [backoff_s(attempt, first=5, factor=2, most=60) for _ in range(50)]
        assert all(whole / 2 <= pause <= whole for pause in pauses)
        assert len(set(pauses)) > 1
